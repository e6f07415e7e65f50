//! Clusters that already exist, behind kutover's ClusterProvisioner port.
