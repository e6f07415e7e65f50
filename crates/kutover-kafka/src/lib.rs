//! rdkafka behind kutover's data-path ports: producer clients, the members and control topics, the witness of a cluster's id.
