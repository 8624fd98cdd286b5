//! The cluster's facts: image and records.
