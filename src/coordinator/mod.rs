//! Machines of one shape: `handle` decides on a request and changes nothing; what it decided is appended to a log, and
//! replaying that log is what changes state. Replies are released when their records are committed. A machine lives on the
//! core that owns its log; it knows no partition, sends nothing and never waits.

mod configs;
mod controller;
mod features;
pub mod group;
mod quotas;
mod random;
mod request;
mod topic_name;
mod topics;

pub use configs::{AlterConfigsResult, ConfigChange, ConfigOperation};
pub use controller::Controller;
pub use features::{FEATURES, Feature, FeatureDirection, FeatureUpdate};
pub use quotas::{AlterQuotasResult, QuotaChange};
pub use request::{
    BrokerRegistration, ControllerReply, ControllerRequest, CreatePartitionsResult, CreateTopicResult, CreatedTopic,
    DeleteTopicResult, NewPartitions, NewTopic, ProducerIdBlock, Refusal, TopicReference,
};
pub use topic_name::check as check_topic_name;

/// What a machine answers to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision<Record, Reply> {
    /// To be appended together, all or none; empty if the request changes nothing.
    pub records: Vec<Record>,
    /// To be released when the records, and all that were decided before, are committed.
    pub reply: Reply,
}
