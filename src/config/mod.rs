//! Every limit and knob under Kafka's names.
