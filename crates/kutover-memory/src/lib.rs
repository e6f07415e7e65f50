//! A world in memory behind kutover's ports, enough to drive the machines without a network.
