//! The program: `kutover up` runs the cutover that a file describes, `kutover demo` makes a world and runs one in it.
#![allow(dead_code, unused_imports)]

mod audit;
mod cli;
mod consumers;
mod report;
mod traffic;

fn main() {}
