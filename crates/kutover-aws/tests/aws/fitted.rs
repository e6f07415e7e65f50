//! What Python programs make of the template.

use std::io::Write as _;
use std::process::{Command, Stdio};

use kutover_aws::template;

/// What a program writes to stdout that is given the template on stdin.
pub(crate) fn fitted(program: &mut Command) -> String {
    let piped = program.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.spawn().expect("python does not start");
    child.stdin.take().unwrap().write_all(template().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the template could not be made to fit");
    String::from_utf8(output.stdout).unwrap()
}
