//! The facts about groups of the consumer protocol that `__consumer_offsets` holds, as owned values: keys 3 to 8 and 16. The
//! bytes are Kafka's (`protocol::consumer_group_record`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::assignor::Assignment;
use super::member::{ClassicMember, CurrentAssignment, MemberMetadata, MemberState};
use crate::coordinator::group::{Client, GroupId, MemberId};
use crate::protocol::consumer_group_record::*;
use crate::protocol::group_record::{decode_key, decode_value, encode_key, encode_value};
use crate::protocol::{DecodeError, Reader};
use crate::types::{PartitionId, Timestamp, TopicId};

/// All values have one version so far.
const VERSION: i16 = 0;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerRecord {
    pub group: GroupId,
    pub fact: ConsumerFact,
}

/// `None` takes a fact back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConsumerFact {
    /// The last that is taken back of a group: then it is gone.
    Epoch(Option<GroupEpoch>),
    /// How Kafka before 4.1 kept what it knew of the topics; only taken back here. `true` while it is there.
    PartitionMetadata(bool),
    Member(MemberId, Option<MemberMetadata>),
    TargetEpoch(Option<TargetEpoch>),
    Target(MemberId, Option<Assignment>),
    Current(MemberId, Option<CurrentAssignment>),
    Regex(Arc<str>, Option<ResolvedRegex>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupEpoch {
    /// Counts what asked for another assignment.
    pub epoch: i32,
    /// Of the topics that the group is subscribed to: another one asks for another assignment (KIP-1101).
    pub metadata_hash: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TargetEpoch {
    /// The group epoch that the target is for.
    pub epoch: i32,
    /// When it was worked out; 0 where that must not delay the next one.
    pub timestamp_ms: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ResolvedRegex {
    pub topics: BTreeSet<Arc<str>>,
    /// Of the image whose topics it was matched with.
    pub version: i64,
    pub timestamp_ms: Timestamp,
}

impl ConsumerFact {
    pub fn takes_back(&self) -> bool {
        match self {
            ConsumerFact::Epoch(value) => value.is_none(),
            ConsumerFact::PartitionMetadata(present) => !present,
            ConsumerFact::Member(_, value) => value.is_none(),
            ConsumerFact::TargetEpoch(value) => value.is_none(),
            ConsumerFact::Target(_, value) => value.is_none(),
            ConsumerFact::Current(_, value) => value.is_none(),
            ConsumerFact::Regex(_, value) => value.is_none(),
        }
    }
}

impl ConsumerRecord {
    pub fn new(group: &GroupId, fact: ConsumerFact) -> ConsumerRecord {
        ConsumerRecord { group: group.clone(), fact }
    }

    /// Key and value; no value is a tombstone.
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        let group_id = &*self.group;
        match &self.fact {
            ConsumerFact::Epoch(value) => {
                let value = value.map(|value| {
                    let GroupEpoch { epoch, metadata_hash } = value;
                    encode_value(&ConsumerGroupMetadataValue { epoch, metadata_hash }, VERSION)
                });
                (encode_key(&ConsumerGroupMetadataKey { group_id }), value)
            }
            ConsumerFact::PartitionMetadata(present) => {
                assert!(!present, "it is read, and taken back, and never written");
                (encode_key(&ConsumerGroupPartitionMetadataKey { group_id }), None)
            }
            ConsumerFact::Member(member_id, value) => {
                let key = ConsumerGroupMemberMetadataKey { group_id, member_id };
                (encode_key(&key), value.as_ref().map(encode_member))
            }
            ConsumerFact::TargetEpoch(value) => {
                let value = value.map(|value| {
                    let (assignment_epoch, assignment_timestamp) = (value.epoch, value.timestamp_ms);
                    let value = ConsumerGroupTargetAssignmentMetadataValue { assignment_epoch, assignment_timestamp };
                    encode_value(&value, VERSION)
                });
                (encode_key(&ConsumerGroupTargetAssignmentMetadataKey { group_id }), value)
            }
            ConsumerFact::Target(member_id, value) => {
                let key = ConsumerGroupTargetAssignmentMemberKey { group_id, member_id };
                (encode_key(&key), value.as_ref().map(encode_target))
            }
            ConsumerFact::Current(member_id, value) => {
                let key = ConsumerGroupCurrentMemberAssignmentKey { group_id, member_id };
                (encode_key(&key), value.as_ref().map(encode_current))
            }
            ConsumerFact::Regex(regular_expression, value) => {
                let key = ConsumerGroupRegularExpressionKey { group_id, regular_expression };
                (encode_key(&key), value.as_ref().map(encode_regex))
            }
        }
    }

    /// `None` for a kind that is not known.
    pub fn decode(kind: i16, key: Reader<'_>, value: Option<&[u8]>) -> Result<Option<ConsumerRecord>, DecodeError> {
        let (group, fact) = match kind {
            3 => {
                let key: ConsumerGroupMetadataKey = decode_key(key)?;
                let value = value.map(decode_value::<ConsumerGroupMetadataValue>).transpose()?;
                let value = value.map(|value| GroupEpoch { epoch: value.epoch, metadata_hash: value.metadata_hash });
                (key.group_id, ConsumerFact::Epoch(value))
            }
            4 => {
                let key: ConsumerGroupPartitionMetadataKey = decode_key(key)?;
                (key.group_id, ConsumerFact::PartitionMetadata(value.is_some()))
            }
            5 => {
                let key: ConsumerGroupMemberMetadataKey = decode_key(key)?;
                let value = value.map(decode_member).transpose()?;
                (key.group_id, ConsumerFact::Member(key.member_id.into(), value))
            }
            6 => {
                let key: ConsumerGroupTargetAssignmentMetadataKey = decode_key(key)?;
                let value = value.map(decode_value::<ConsumerGroupTargetAssignmentMetadataValue>).transpose()?;
                let value = value.map(|value| TargetEpoch {
                    epoch: value.assignment_epoch,
                    timestamp_ms: value.assignment_timestamp,
                });
                (key.group_id, ConsumerFact::TargetEpoch(value))
            }
            7 => {
                let key: ConsumerGroupTargetAssignmentMemberKey = decode_key(key)?;
                let value = value.map(decode_target).transpose()?;
                (key.group_id, ConsumerFact::Target(key.member_id.into(), value))
            }
            8 => {
                let key: ConsumerGroupCurrentMemberAssignmentKey = decode_key(key)?;
                let value = value.map(decode_current).transpose()?;
                (key.group_id, ConsumerFact::Current(key.member_id.into(), value))
            }
            16 => {
                let key: ConsumerGroupRegularExpressionKey = decode_key(key)?;
                let value = value.map(decode_regex).transpose()?;
                (key.group_id, ConsumerFact::Regex(key.regular_expression.into(), value))
            }
            _ => return Ok(None),
        };
        Ok(Some(ConsumerRecord { group: group.into(), fact }))
    }
}

fn encode_member(member: &MemberMetadata) -> Bytes {
    let classic_member_metadata = member.classic.as_ref().map(|classic| {
        let protocols = classic.protocols.iter().map(|(name, metadata)| ClassicProtocol { name, metadata });
        ClassicMemberMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            supported_protocols: protocols.collect(),
        }
    });
    let value = ConsumerGroupMemberMetadataValue {
        instance_id: member.instance.as_deref(),
        rack_id: member.rack.as_deref(),
        client_id: &member.client.id,
        client_host: &member.client.host,
        subscribed_topic_names: member.subscribed_topics.iter().map(|topic| &**topic).collect(),
        // Kafka writes "" where there is none.
        subscribed_topic_regex: Some(member.subscribed_regex.as_deref().unwrap_or("")),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        server_assignor: member.server_assignor.as_deref(),
        classic_member_metadata,
    };
    encode_value(&value, VERSION)
}

fn decode_member(value: &[u8]) -> Result<MemberMetadata, DecodeError> {
    let value: ConsumerGroupMemberMetadataValue = decode_value(value)?;
    let classic = value.classic_member_metadata.map(|classic| {
        let protocols = classic.supported_protocols.into_iter();
        ClassicMember {
            session_timeout_ms: classic.session_timeout_ms,
            protocols: protocols.map(|p| (p.name.into(), Bytes::copy_from_slice(p.metadata))).collect(),
        }
    });
    Ok(MemberMetadata {
        instance: value.instance_id.map(Arc::from),
        rack: value.rack_id.map(Arc::from),
        client: Client { id: value.client_id.into(), host: value.client_host.into() },
        subscribed_topics: value.subscribed_topic_names.into_iter().map(Arc::from).collect(),
        subscribed_regex: value.subscribed_topic_regex.filter(|regex| !regex.is_empty()).map(Arc::from),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        server_assignor: value.server_assignor.map(Arc::from),
        classic,
    })
}

/// Partitions that belong together, topic by topic.
pub(super) fn by_topic(partitions: impl Iterator<Item = PartitionId>) -> Vec<(TopicId, Vec<i32>)> {
    let mut topics: Vec<(TopicId, Vec<i32>)> = Vec::new();
    for partition in partitions {
        match topics.last_mut() {
            Some((topic, indexes)) if *topic == partition.topic => indexes.push(partition.index),
            _ => topics.push((partition.topic, vec![partition.index])),
        }
    }
    topics
}

pub(super) fn of_topics<'a>(topics: impl Iterator<Item = (TopicId, &'a [i32])>) -> Assignment {
    let of_topic =
        |(topic, indexes): (TopicId, &'a [i32])| indexes.iter().map(move |index| PartitionId { topic, index: *index });
    topics.flat_map(of_topic).collect()
}

fn encode_target(partitions: &Assignment) -> Bytes {
    let topics = by_topic(partitions.iter().copied()).into_iter();
    let topic_partitions = topics.map(|(topic_id, partitions)| TargetPartitions { topic_id, partitions }).collect();
    encode_value(&ConsumerGroupTargetAssignmentMemberValue { topic_partitions }, VERSION)
}

fn decode_target(value: &[u8]) -> Result<Assignment, DecodeError> {
    let value: ConsumerGroupTargetAssignmentMemberValue = decode_value(value)?;
    Ok(of_topics(value.topic_partitions.iter().map(|topic| (topic.topic_id, &*topic.partitions))))
}

fn encode_current(current: &CurrentAssignment) -> Bytes {
    let value = ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: current.epoch,
        previous_member_epoch: current.previous_epoch,
        state: current.state as i8,
        assigned_partitions: with_epochs(&current.assigned),
        partitions_pending_revocation: with_epochs(&current.revoking),
    };
    encode_value(&value, VERSION)
}

fn with_epochs(partitions: &BTreeMap<PartitionId, i32>) -> Vec<CurrentPartitions> {
    let mut epochs = partitions.values();
    let topics = by_topic(partitions.keys().copied()).into_iter();
    let of_topic = |(topic_id, partitions): (TopicId, Vec<i32>)| {
        let assignment_epochs = Some(epochs.by_ref().take(partitions.len()).copied().collect());
        CurrentPartitions { topic_id, partitions, assignment_epochs }
    };
    topics.map(of_topic).collect()
}

fn decode_current(value: &[u8]) -> Result<CurrentAssignment, DecodeError> {
    let value: ConsumerGroupCurrentMemberAssignmentValue = decode_value(value)?;
    // Records of before KIP-1251 do not say since when, and a state of tomorrow asks for nothing that could be lost.
    let since = value.member_epoch.max(0);
    let state = match value.state {
        1 => MemberState::UnrevokedPartitions,
        2 => MemberState::UnreleasedPartitions,
        _ => MemberState::Stable,
    };
    Ok(CurrentAssignment {
        epoch: value.member_epoch,
        previous_epoch: value.previous_member_epoch,
        state,
        assigned: of_epochs(&value.assigned_partitions, since),
        revoking: of_epochs(&value.partitions_pending_revocation, since),
    })
}

fn of_epochs(topics: &[CurrentPartitions], since: i32) -> BTreeMap<PartitionId, i32> {
    let of_topic = |topic: &CurrentPartitions| {
        let epochs = topic.assignment_epochs.as_ref().filter(|epochs| epochs.len() == topic.partitions.len());
        let of_partition = |(place, index): (usize, &i32)| {
            let epoch = epochs.map_or(since, |epochs| epochs[place]);
            (PartitionId { topic: topic.topic_id, index: *index }, epoch)
        };
        topic.partitions.iter().enumerate().map(of_partition).collect::<Vec<_>>()
    };
    topics.iter().flat_map(of_topic).collect()
}

fn encode_regex(regex: &ResolvedRegex) -> Bytes {
    let value = ConsumerGroupRegularExpressionValue {
        topics: regex.topics.iter().map(|topic| &**topic).collect(),
        version: regex.version,
        timestamp: regex.timestamp_ms,
    };
    encode_value(&value, VERSION)
}

fn decode_regex(value: &[u8]) -> Result<ResolvedRegex, DecodeError> {
    let value: ConsumerGroupRegularExpressionValue = decode_value(value)?;
    let topics = value.topics.into_iter().map(Arc::from).collect();
    Ok(ResolvedRegex { topics, version: value.version, timestamp_ms: value.timestamp })
}

#[cfg(test)]
mod tests {
    use super::super::assignor::tests::partition;
    use super::*;
    use crate::protocol::group_record::decode_kind;
    use crate::types::Uuid;

    fn read_back(record: &ConsumerRecord) -> Option<ConsumerRecord> {
        let (key, value) = record.encode();
        let (kind, reader) = decode_kind(&key).expect("a kind");
        ConsumerRecord::decode(kind, reader, value.as_deref()).expect("reads")
    }

    fn member() -> MemberMetadata {
        MemberMetadata {
            instance: Some("i".into()),
            rack: Some("r".into()),
            client: Client { id: "c".into(), host: "/127.0.0.1".into() },
            subscribed_topics: ["a".into(), "b".into()].into(),
            subscribed_regex: Some("x.*".into()),
            rebalance_timeout_ms: 7,
            server_assignor: Some("range".into()),
            classic: Some(ClassicMember {
                session_timeout_ms: 9,
                protocols: vec![("range".into(), Bytes::from_static(b"s"))],
            }),
        }
    }

    fn current() -> CurrentAssignment {
        CurrentAssignment {
            epoch: 4,
            previous_epoch: 3,
            state: MemberState::UnrevokedPartitions,
            assigned: [(partition(0, 1), 2), (partition(0, 4), 3), (partition(1, 0), 4)].into(),
            revoking: [(partition(2, 2), 1)].into(),
        }
    }

    #[test]
    fn every_fact_reads_back_from_its_bytes() {
        let regex = ResolvedRegex { topics: ["t".into()].into(), version: 3, timestamp_ms: 5 };
        let target = [partition(0, 0), partition(0, 2), partition(1, 1)].into();
        for fact in [
            ConsumerFact::Epoch(Some(GroupEpoch { epoch: 5, metadata_hash: -7 })),
            ConsumerFact::Epoch(None),
            ConsumerFact::PartitionMetadata(false),
            ConsumerFact::Member("m".into(), Some(member())),
            ConsumerFact::Member("m".into(), Some(MemberMetadata::default())),
            ConsumerFact::Member("m".into(), None),
            ConsumerFact::TargetEpoch(Some(TargetEpoch { epoch: 5, timestamp_ms: 6 })),
            ConsumerFact::TargetEpoch(None),
            ConsumerFact::Target("m".into(), Some(target)),
            ConsumerFact::Target("m".into(), None),
            ConsumerFact::Current("m".into(), Some(current())),
            ConsumerFact::Current("m".into(), None),
            ConsumerFact::Regex("x.*".into(), Some(regex)),
            ConsumerFact::Regex("x.*".into(), None),
        ] {
            let record = ConsumerRecord::new(&"g".into(), fact);
            assert_eq!(read_back(&record), Some(record));
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn every_fact_has_the_bytes_that_kafka_writes() {
        let (five, six) = (Uuid([5; 16]), Uuid([6; 16]));
        let of = |topic, index| PartitionId { topic, index };
        let current = CurrentAssignment {
            epoch: 4,
            previous_epoch: 3,
            state: MemberState::UnrevokedPartitions,
            assigned: [(of(five, 1), 2), (of(five, 4), 3)].into(),
            revoking: [(of(six, 2), 1)].into(),
        };
        let regex = ResolvedRegex { topics: ["t".into()].into(), version: 3, timestamp_ms: 5 };
        let fives = "05".repeat(16);
        let sixes = "06".repeat(16);
        // As Kafka 4.3.1's own classes serialize the same values.
        for (fact, key, value) in [
            (
                ConsumerFact::Epoch(Some(GroupEpoch { epoch: 5, metadata_hash: -7 })),
                "0003000167",
                "000000000005010008fffffffffffffff9".to_owned(),
            ),
            (
                ConsumerFact::Member("m".into(), Some(member())),
                "000500016700016d",
                "00000269027202630b2f3132372e302e302e31030261026204782e2a000000070672616e6765\
                 0100100100000009020672616e676502730000"
                    .to_owned(),
            ),
            (
                ConsumerFact::TargetEpoch(Some(TargetEpoch { epoch: 5, timestamp_ms: 6 })),
                "0006000167",
                "0000000000050100080000000000000006".to_owned(),
            ),
            (
                ConsumerFact::Target("m".into(), Some([of(five, 0), of(five, 3)].into())),
                "000700016700016d",
                format!("000002{fives}0300000000000000030000"),
            ),
            (
                ConsumerFact::Current("m".into(), Some(current)),
                "000800016700016d",
                format!(
                    "0000000000040000000301\
                     02{fives}03000000010000000401000903000000020000000302\
                     {sixes}0200000002010005020000000100"
                ),
            ),
            (
                ConsumerFact::Regex("x.*".into(), Some(regex)),
                "00100001670003782e2a",
                "00000202740000000000000003000000000000000500".to_owned(),
            ),
        ] {
            let encoded = ConsumerRecord::new(&"g".into(), fact).encode();
            assert_eq!((&*hex(&encoded.0), hex(&encoded.1.expect("no tombstone"))), (key, value));
        }
        let taken_back = ConsumerRecord::new(&"g".into(), ConsumerFact::PartitionMetadata(false)).encode();
        assert_eq!((&*hex(&taken_back.0), taken_back.1), ("0004000167", None));
    }

    #[test]
    fn a_member_of_before_assignment_epochs_has_its_partitions_since_its_epoch() {
        let assigned_partitions = vec![CurrentPartitions {
            topic_id: partition(0, 0).topic,
            partitions: vec![0, 1],
            assignment_epochs: None,
        }];
        for (member_epoch, since) in [(4, 4), (-2, 0)] {
            let assigned_partitions = assigned_partitions.clone();
            let value = ConsumerGroupCurrentMemberAssignmentValue {
                member_epoch,
                assigned_partitions,
                ..ConsumerGroupCurrentMemberAssignmentValue::default()
            };
            let current = decode_current(&encode_value(&value, 0)).expect("reads");
            assert_eq!(current.assigned, [(partition(0, 0), since), (partition(0, 1), since)].into());
        }
    }

    #[test]
    fn a_fact_cut_short_is_refused() {
        let (key, value) = ConsumerRecord::new(&"g".into(), ConsumerFact::Member("m".into(), Some(member()))).encode();
        let value = value.expect("no tombstone");
        for length in 0..value.len() {
            let (kind, reader) = decode_kind(&key).expect("a kind");
            assert!(ConsumerRecord::decode(kind, reader, Some(&value[..length])).is_err(), "cut at {length}");
        }
    }
}
