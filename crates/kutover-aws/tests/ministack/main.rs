//! kutover-aws against MiniStack: the ports' conformance suites, races, and lost requests and replies.

mod cloudformation;
mod journal;
mod proxy;
mod route53;
mod server;
