//! BlueGreenProducer: an rdkafka producer that moves between the clusters of a blue/green deployment without losing a record.
