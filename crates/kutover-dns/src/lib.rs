//! The resolver watch of kutover's producers, and a small authoritative server for one machine.
