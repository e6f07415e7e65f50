//! The promises that every state of a world is held against.

/// A promise (of `docs/`, by number).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Promise {
    /// No accepted record is silently lost.
    G1,
    /// Duplicates come only from records whose fate was unknown and that were sent again.
    G2,
    /// The order of first copies per key; a closed segment's end stands.
    G3,
    /// A cluster is removed only on fresh proof, after the mark, and the right one.
    G4,
    /// Until then every failure ends with a cluster serving.
    G5,
    /// Acts of an older term do not count; the generation only grows.
    G6,
    /// A machine's own invariants.
    Machine,
}

impl Promise {
    /// What it says.
    pub(crate) fn says(self) -> &'static str {
        match self {
            Promise::G1 => "G1: no accepted record is silently lost",
            Promise::G2 => "G2: a duplicate comes only from an unknown record that was sent again",
            Promise::G3 => "G3: first copies keep their order, and closed stays closed",
            Promise::G4 => "G4: removed is only what is proven, marked and meant",
            Promise::G5 => "G5: a cluster serves all the time",
            Promise::G6 => "G6: acts of an older term do not count, and the generation only grows",
            Promise::Machine => "a machine keeps its own invariants",
        }
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Broken {
    /// Which.
    pub(crate) promise: Promise,
    /// What was seen.
    pub(crate) seen: String,
}

impl Broken {
    /// A broken promise.
    pub(crate) fn new(promise: Promise, seen: impl Into<String>) -> Self {
        Self { promise, seen: seen.into() }
    }
}
