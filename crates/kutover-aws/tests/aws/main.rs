//! kutover-aws against MiniStack: the ports' conformance suites, races, lost requests and replies. And what is shipped
//! beside the code.

mod answers;
mod cloudformation;
mod connect;
mod defences;
mod documents;
mod emulated;
mod fitted;
mod journal;
mod late;
#[allow(dead_code, reason = "tests of whole cutovers use the rest")]
mod proxy;
mod requests;
mod route53;
mod server;
mod targets;
mod world;
