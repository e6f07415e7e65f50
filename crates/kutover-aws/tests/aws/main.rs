//! kutover-aws against MiniStack: the ports' conformance suites, races, lost requests and replies. And what is shipped
//! beside the code.

mod cloudformation;
mod documents;
mod journal;
mod proxy;
mod route53;
mod server;
