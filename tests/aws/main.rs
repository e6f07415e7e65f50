//! The program with AWS in emulation, as a person runs it: a configuration, credentials in the environment, `kutover up`.
//!
//! What is emulated, and by what:
//!
//! - Route 53, CloudFormation, EC2's security groups, the load balancers' names and S3: MiniStack.
//! - Route 53's name servers: BIND, to which `bridge` copies the hosted zones' records. A change is in sync (`INSYNC`) once
//!   it is there, and not before.
//! - Instances, for which MiniStack has no type: `instances` runs a broker of real Apache Kafka for each stack, at the
//!   address that its parameters name, lets clients in there while its security groups do, and says for it that it serves.
//! - A load balancer is the forwarder on that address. librdkafka resolves names by the system's resolver, which knows
//!   neither BIND nor MiniStack's balancers: so the stack's `Bootstrap` names the address. Endpoints point at the name.
//!
//! What is not: the program, its configuration, every request that it makes, Kafka, and the producers, which
//! find their cluster through BIND.

mod account;
mod bridge;
mod cutover;
#[path = "../../crates/kutover-aws/tests/aws/emulated.rs"]
mod emulated;
#[path = "../../crates/kutover-aws/tests/aws/fitted.rs"]
mod fitted;
mod instances;
#[path = "../../crates/kutover-dns/tests/common/name_servers.rs"]
#[allow(dead_code, reason = "kutover-dns uses the rest")]
mod name_servers;
#[path = "../../crates/kutover-aws/tests/aws/proxy.rs"]
#[allow(dead_code, reason = "kutover-aws uses the rest")]
mod proxy;
mod records;
mod scene;
mod secrets;
#[path = "../../crates/kutover-aws/tests/aws/server.rs"]
mod server;
mod stacks;
mod world;
