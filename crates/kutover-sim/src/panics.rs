//! Panics of a world, whichever of its tasks they end.
//!
//! A task that panics ends quietly unless somebody joins it, and most tasks of a world nobody joins: readers, what befalls
//! clusters, everything that a client or a driver spawns. One world runs on one thread, so its panics are those of the thread.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::Once;

thread_local! {
    static SEEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// From here on this thread's panics are kept, besides whatever else happens to them. What an earlier world left is forgotten.
pub(crate) fn watch() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            SEEN.with_borrow_mut(|seen| seen.push(described(info)));
            earlier(info);
        }));
    });
    let _ = take();
}

/// The panics since [`watch`], in order.
pub(crate) fn take() -> Vec<String> {
    SEEN.take()
}

fn described(info: &PanicHookInfo<'_>) -> String {
    let place =
        info.location().map_or_else(String::new, |place| format!(" ({}:{})", place.file(), place.line()));
    let payload = info.payload();
    let said = payload.downcast_ref::<&str>().copied();
    let said = said.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("{}{place}", said.unwrap_or("a panic without words"))
}
