//! kutover's ports on AWS: [`Route53`] keeps the endpoints' records, [`S3Journal`] what the controller writes down,
//! [`CloudFormation`] makes and removes the clusters, and [`MskIamTokens`] lets clients into those of Amazon MSK.
//!
//! Nothing here retries behind the caller's back where a retry could hide what became of a change: a change whose reply
//! is lost is looked up, and told from another controller's by the owner record's nonce.

mod cloudformation;
mod connect;
mod failure;
mod journal;
mod msk;
mod pace;
mod route53;

pub use cloudformation::{
    CloudFormation, ClusterIds, STACK_POLICY, StackOptions, TemplateFault, template, template_faults,
};
pub use connect::{Aws, AwsOptions};
pub use journal::S3Journal;
pub use msk::MskIamTokens;
pub use route53::{Route53, Route53Options};
