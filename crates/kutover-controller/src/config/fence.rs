//! What makes a cluster refuse records, as it stands in the file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What makes a cluster refuse records. An embedded cluster has a hook of its own, and this is not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    tag = "kind",
    expecting = "a table: `{ kind = \"acl\" }`, `{ kind = \"size\" }` or `{ kind = \"exec\", command = [\"PROGRAM\"] }`"
)]
pub enum FenceConfig {
    /// Deny Write for everyone on each topic: needs an authorizer, and binds no super users.
    Acl {},
    /// `max.message.bytes=0` on each topic: binds everybody; refused where anybody uses transactions.
    Size {},
    /// A command: the program, then its arguments. It is told what to do on its standard input.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
    },
}

// Braces, since serde passes over unknown fields beside a variant without them.
impl Default for FenceConfig {
    fn default() -> Self {
        Self::Acl {}
    }
}

impl FenceConfig {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
