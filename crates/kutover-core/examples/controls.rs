//! Prints every control as a line of JSON: `cargo xtask controls` reads it, since xtask depends on no crate of the
//! workspace.

#![allow(clippy::print_stdout, reason = "it is a program, and this is its answer")]

use kutover_core::controls::Control;

fn main() {
    for control in Control::ALL {
        let line = serde_json::json!({
            "control": control.name(),
            "loss_mode": control.loss_mode(),
            "what": control.what(),
        });
        println!("{line}");
    }
}
