//! Kafka's wire: frames, the bounded codec, one file per API family.
