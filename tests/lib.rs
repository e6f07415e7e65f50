//! End-to-end tests of kutover.
