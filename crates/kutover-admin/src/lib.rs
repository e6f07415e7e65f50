//! krafka's admin client behind kutover's LagSource and ClusterAdmin ports.
