//! What gate and entrance are built on: atomics and a lock of the standard library, and the lock-free cell of arc-swap. In
//! the tests that go through every interleaving (feature `threads`, unit tests alone) these are loom's.

#[cfg(not(all(test, feature = "threads")))]
mod real {
    pub(crate) use std::sync::atomic::AtomicU64;
    pub(crate) use std::sync::{Mutex, MutexGuard};

    pub(crate) use arc_swap::ArcSwapOption;
}

#[cfg(not(all(test, feature = "threads")))]
pub(crate) use real::{ArcSwapOption, AtomicU64, Mutex, MutexGuard};

#[cfg(all(test, feature = "threads"))]
pub(crate) use modelled::{ArcSwapOption, AtomicU64, Mutex, MutexGuard};

#[cfg(all(test, feature = "threads"))]
mod modelled {
    use std::sync::Arc;

    pub(crate) use loom::sync::atomic::AtomicU64;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};

    /// As much of arc-swap as is used here, over one atomic word of loom's. What was ever stored is kept, which takes the
    /// place of arc-swap's counting of references; that is arc-swap's own to prove.
    pub(crate) struct ArcSwapOption<T> {
        word: AtomicUsize,
        stored: std::sync::Mutex<Vec<Option<Arc<T>>>>,
    }

    impl<T> ArcSwapOption<T> {
        pub(crate) fn empty() -> Self {
            Self { word: AtomicUsize::new(0), stored: std::sync::Mutex::new(vec![None]) }
        }

        pub(crate) fn load(&self) -> Option<Arc<T>> {
            let index = self.word.load(Ordering::Acquire);
            self.stored.lock().unwrap()[index].clone()
        }

        pub(crate) fn load_full(&self) -> Option<Arc<T>> {
            self.load()
        }

        pub(crate) fn store(&self, value: Option<Arc<T>>) {
            let index = {
                let mut stored = self.stored.lock().unwrap();
                stored.push(value);
                stored.len() - 1
            };
            self.word.store(index, Ordering::Release);
        }
    }
}
