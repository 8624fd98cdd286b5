//! Kafka's error codes, the only error type towards clients.
