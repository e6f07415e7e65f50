//! A whole world on one machine: embedded and real Apache Kafka clusters, ZooKeeper, and the forwarder that stands for a load balancer.
