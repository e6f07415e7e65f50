//! Mocks for kutover's ports and one conformance suite per port.
