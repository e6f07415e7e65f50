//! The switch: one producer moving from one cluster to the other.
