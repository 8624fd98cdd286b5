//! Every limit and knob, under Kafka's names. Tables of keys are data: parsing, errors, DescribeConfigs and the README come
//! from one row each. Values are typed here and asserted against each other here; no other room reads a text.

mod broker;
mod describe;
mod dynamic;
mod gannet;
mod group;
mod ignored;
mod key;
mod listeners;
mod properties;
mod resources;
mod settings;
mod topic;

pub use broker::{BrokerConfig, Warning};
pub use describe::{
    ConfigEntry, ConfigSource, ConfigSynonym, describe_broker, describe_client_metrics, describe_dynamic_defaults,
    describe_group, describe_topic, keys_as_markdown,
};
pub use dynamic::{dynamic_key, is_dynamic};
pub use gannet::{CommitMethod, Cores, GannetConfig};
pub use group::{GroupConfig, MigrationPolicy};
pub use key::{ConfigError, Importance, Key, Synonym, Valid, ValueType, nearest};
pub use listeners::{Listener, SecurityProtocol};
pub use properties::{Properties, PropertiesError, Property};
pub use resources::{ClientMetricsSettings, GroupSettings};
pub use settings::Setting;
pub use topic::{CleanupPolicy, CompressionType, MessageTimestampType, TopicConfig};
