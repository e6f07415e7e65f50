//! What is said about AWS: where it is, and what is kept and made there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where AWS is. What is not said is found as every AWS tool finds it, credentials always: none stands in this file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AwsConfig {
    /// The region, as in `eu-west-1`. Default: the environment's or the profile's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The profile in the shared configuration files. Default: the environment's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

impl AwsConfig {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Records in Route 53.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route53Config {
    /// The hosted zones by their ids. Empty: the one of the name `dns.zone`.
    pub zone_ids: Vec<String>,
    /// The hosted zone of the load balancers: their names are stored as aliases.
    pub alias_zone_id: Option<String>,
}

/// A cluster as a CloudFormation stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackConfig {
    /// The stack's name; the colour's suffix is appended.
    pub stack: String,
    /// The template's parameters, but for those that kutover sets.
    pub parameters: BTreeMap<String, String>,
    /// The template's file. Default: kutover's own.
    pub template: Option<PathBuf>,
    /// The role with which CloudFormation makes what the template names. Default: the caller's own rights.
    pub role_arn: Option<String>,
}
