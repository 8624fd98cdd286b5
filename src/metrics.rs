//! Counters and HDR histograms, one set per shard.
