//! The cutover machine.
