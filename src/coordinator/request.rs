//! What the controller is asked and what it answers: plain, owned, the same for every version of the wire.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{AlterConfigsResult, AlterQuotasResult, ConfigChange, FeatureUpdate, QuotaChange};
use crate::error_code::ErrorCode;
use crate::metadata::Endpoint;
use crate::types::{BrokerId, ProducerId, TopicId, Uuid};

#[derive(Clone, PartialEq, Debug)]
pub enum ControllerRequest {
    CreateTopics { topics: Vec<NewTopic>, validate_only: bool },
    DeleteTopics { topics: Vec<TopicReference> },
    CreatePartitions { topics: Vec<NewPartitions>, validate_only: bool },
    AlterConfigs { changes: Vec<ConfigChange>, validate_only: bool },
    AlterQuotas { changes: Vec<QuotaChange>, validate_only: bool },
    UpdateFeatures { updates: Vec<FeatureUpdate>, validate_only: bool },
    AllocateProducerIds { broker: BrokerId },
    RegisterBroker(BrokerRegistration),
}

/// One row per topic that was named, in the order of the request; a name that came twice has one row.
#[derive(Clone, PartialEq, Debug)]
pub enum ControllerReply {
    CreateTopics(Vec<CreateTopicResult>),
    DeleteTopics(Vec<DeleteTopicResult>),
    CreatePartitions(Vec<CreatePartitionsResult>),
    /// One row per resource of the request.
    AlterConfigs(Vec<AlterConfigsResult>),
    /// One row per entity of the request.
    AlterQuotas(Vec<AlterQuotasResult>),
    UpdateFeatures(Result<(), Refusal>),
    AllocateProducerIds(Result<ProducerIdBlock, Refusal>),
    RegisterBroker {
        broker_epoch: i64,
    },
}

/// Why something was not done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub error_code: ErrorCode,
    /// For the person at the other end.
    pub message: String,
}

impl Refusal {
    pub fn new(error_code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { error_code, message: message.into() }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(error_code: ErrorCode) -> Refusal {
        Refusal::new(error_code, error_code.message())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error_code.name(), self.message)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTopic {
    pub name: String,
    /// -1 for `num.partitions`, and with `assignments`.
    pub partitions: i32,
    /// -1 for `default.replication.factor`, and with `assignments`.
    pub replication_factor: i16,
    /// Replicas by partition index, if the client chooses them itself.
    pub assignments: Vec<(i32, Vec<BrokerId>)>,
    pub configs: Vec<(String, Option<String>)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateTopicResult {
    pub name: String,
    pub outcome: Result<CreatedTopic, Refusal>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatedTopic {
    /// Zero if the request only asked whether it could be done.
    pub id: TopicId,
    pub partitions: i32,
    pub replication_factor: i16,
    /// The settings given, which differ from the broker's.
    pub configs: BTreeMap<String, String>,
}

/// Exactly one of the two says which topic is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicReference {
    pub name: Option<String>,
    pub id: TopicId,
}

impl TopicReference {
    pub fn by_name(name: impl Into<String>) -> TopicReference {
        TopicReference { name: Some(name.into()), id: Uuid::ZERO }
    }

    pub fn by_id(id: TopicId) -> TopicReference {
        TopicReference { name: None, id }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeleteTopicResult {
    /// As far as known: `None` for an id that does not exist.
    pub name: Option<Arc<str>>,
    /// As far as known: zero for a name that does not exist.
    pub id: TopicId,
    pub outcome: Result<(), Refusal>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPartitions {
    pub name: String,
    /// How many the topic has in the end.
    pub count: i32,
    /// Replicas of each added partition, if the client chooses them itself.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatePartitionsResult {
    pub name: String,
    pub outcome: Result<(), Refusal>,
}

/// Producer ids that one broker may give out, and nobody else will.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerIdBlock {
    pub first: ProducerId,
    pub count: i32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerRegistration {
    pub id: BrokerId,
    /// Drawn anew at each start of the broker's process.
    pub incarnation: Uuid,
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<Arc<str>>,
    /// The broker did not stop in order, so the unsynced ends of its logs may be gone. The partitions that it leads get a
    /// new leader epoch, by which readers find out (KIP-320).
    pub after_crash: bool,
}
