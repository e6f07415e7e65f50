//! Clusters that already exist, behind kutover's `ClusterProvisioner` port, and the fence that a command makes.

mod exec_fence;
mod existing;

pub use exec_fence::{ExecFence, FenceSubject, SCHEMA as FENCE_SCHEMA};
pub use existing::{ExistingCluster, StaticProvisioner};
