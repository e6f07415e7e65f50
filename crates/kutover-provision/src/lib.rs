//! Clusters that already exist, behind kutover's `ClusterProvisioner` port.

mod existing;

pub use existing::{ExistingCluster, StaticProvisioner};
