//! The names that the worlds use.

use kutover_core::owner::Target;
use kutover_core::words::{ClusterId, Colour, Generation};

/// A colour's place in an array.
pub(crate) fn index(colour: Colour) -> usize {
    match colour {
        Colour::Blue => 0,
        Colour::Green => 1,
    }
}

/// The id that a colour's cluster has.
pub(crate) fn cluster_id(colour: Colour) -> ClusterId {
    colour.as_str().into()
}

/// A target.
pub(crate) fn target(generation: u64, colour: Colour) -> Target {
    Target {
        generation: Generation(generation),
        colour,
        cluster_id: cluster_id(colour),
        bootstrap: vec![colour.as_str().into()],
    }
}
