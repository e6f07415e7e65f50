//! Clusters that already exist, and clusters that a command makes, behind kutover's `ClusterProvisioner` port; and the
//! fence that a command makes.

mod command;
mod exec;
mod exec_fence;
mod existing;

pub use exec::{ExecProvisioner, ExecSubject, SCHEMA as PROVISIONER_SCHEMA};
pub use exec_fence::{ExecFence, FenceSubject, SCHEMA as FENCE_SCHEMA};
pub use existing::{ExistingCluster, StaticProvisioner};
