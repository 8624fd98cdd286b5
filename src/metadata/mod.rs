//! The cluster's facts: records, as the metadata log holds them, and the image that replaying them gives. Every core
//! reads the same immutable image; only the owner of the metadata log makes the next one. Decides nothing.

mod codec;
mod image;
mod nodes;
mod record;

pub use codec::RecordError;
pub use image::{Broker, ImageError, MetadataImage, Partition, Topic};
pub use nodes::{Node, Nodes};
pub use record::{
    BrokerRecord, ConfigRecord, ConfigResource, Endpoint, FeatureRecord, MetadataRecord, PartitionRecord, QuotaEntity,
    QuotaName, QuotaRecord, TopicRecord,
};
