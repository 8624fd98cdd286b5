//! What `__consumer_offsets` holds, as owned values: one record is one fact about one group, a record without value takes
//! it back. The bytes are Kafka's (`protocol::group_record`).

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::consumer::ConsumerRecord;
use super::{CommittedOffset, GroupId, MemberId};
use crate::protocol::DecodeError;
use crate::protocol::group_record::*;
use crate::types::Timestamp;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupRecord {
    Offset {
        group: GroupId,
        topic: Arc<str>,
        partition: i32,
        value: Option<CommittedOffset>,
    },
    Classic {
        group: GroupId,
        value: Option<ClassicGroupRecord>,
    },
    /// Of the consumer protocol (KIP-848).
    Consumer(ConsumerRecord),
}

/// A group of the classic protocol as it was when its leader had assigned, or when its last member had left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicGroupRecord {
    pub protocol_type: Arc<str>,
    pub generation: i32,
    pub protocol: Option<Arc<str>>,
    pub leader: Option<MemberId>,
    /// When the group entered its state; -1 in records of old brokers.
    pub state_timestamp_ms: Timestamp,
    pub members: Vec<ClassicMemberRecord>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicMemberRecord {
    pub member: MemberId,
    pub instance: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// What the member said to the protocol that was chosen.
    pub subscription: Bytes,
    pub assignment: Bytes,
}

impl ClassicGroupRecord {
    /// About as many as it takes in the log.
    pub fn bytes(&self) -> usize {
        let member = |member: &ClassicMemberRecord| {
            let instance = member.instance.as_ref().map_or(0, |instance| instance.len());
            let texts = member.member.len() + instance + member.client_id.len() + member.client_host.len();
            texts + member.subscription.len() + member.assignment.len() + 32
        };
        self.members.iter().map(member).sum::<usize>() + self.protocol_type.len() + 256
    }
}

/// A record that cannot be read: the log is damaged, or of a broker that is newer than this one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordError(pub DecodeError);

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a record of __consumer_offsets does not read: {}", self.0)
    }
}

impl std::error::Error for RecordError {}

impl From<DecodeError> for RecordError {
    fn from(error: DecodeError) -> RecordError {
        RecordError(error)
    }
}

/// The versions of values that Kafka 4 writes.
const OFFSET_VERSION: i16 = 4;
/// The only one with a time of expiry.
const OFFSET_WITH_EXPIRY_VERSION: i16 = 1;
const GROUP_VERSION: i16 = 3;

impl GroupRecord {
    /// Key and value; no value is a tombstone.
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        match self {
            GroupRecord::Offset { group, topic, partition, value } => {
                let key = encode_key(&OffsetCommitKey { group, topic, partition: *partition });
                (key, value.as_ref().map(encode_offset))
            }
            GroupRecord::Classic { group, value } => {
                (encode_key(&GroupMetadataKey { group }), value.as_ref().map(encode_classic_group))
            }
            GroupRecord::Consumer(record) => record.encode(),
        }
    }

    /// `None` for a kind of record that this broker does not know: a newer one wrote it, and it means nothing here.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<GroupRecord>, RecordError> {
        let (kind, key) = decode_kind(key)?;
        let record = match kind {
            // Version 0 of the key, from before 0.8.2's end, has the same fields.
            0 | 1 => {
                let key: OffsetCommitKey = decode_key(key)?;
                let value = value.map(decode_offset).transpose()?;
                let (group, topic) = (key.group.into(), key.topic.into());
                GroupRecord::Offset { group, topic, partition: key.partition, value }
            }
            2 => {
                let key: GroupMetadataKey = decode_key(key)?;
                let value = value.map(decode_classic_group).transpose()?;
                GroupRecord::Classic { group: key.group.into(), value }
            }
            kind => return Ok(ConsumerRecord::decode(kind, key, value)?.map(GroupRecord::Consumer)),
        };
        Ok(Some(record))
    }
}

fn encode_offset(value: &CommittedOffset) -> Bytes {
    let version = if value.expire_timestamp_ms.is_some() { OFFSET_WITH_EXPIRY_VERSION } else { OFFSET_VERSION };
    let value = OffsetCommitValue {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: &value.metadata,
        commit_timestamp: value.commit_timestamp_ms,
        expire_timestamp: value.expire_timestamp_ms.unwrap_or(-1),
        topic_id: value.topic_id,
    };
    encode_value(&value, version)
}

fn decode_offset(value: &[u8]) -> Result<CommittedOffset, DecodeError> {
    let value: OffsetCommitValue = decode_value(value)?;
    Ok(CommittedOffset {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata.into(),
        commit_timestamp_ms: value.commit_timestamp,
        expire_timestamp_ms: Some(value.expire_timestamp).filter(|&time| time != -1),
        topic_id: value.topic_id,
    })
}

fn encode_classic_group(value: &ClassicGroupRecord) -> Bytes {
    let value = GroupMetadataValue {
        protocol_type: &value.protocol_type,
        generation: value.generation,
        protocol: value.protocol.as_deref(),
        leader: value.leader.as_deref(),
        current_state_timestamp: value.state_timestamp_ms,
        members: value.members.iter().map(member_on_the_wire).collect(),
    };
    encode_value(&value, GROUP_VERSION)
}

fn member_on_the_wire(member: &ClassicMemberRecord) -> GroupMetadataMember<'_> {
    GroupMetadataMember {
        member_id: &member.member,
        group_instance_id: member.instance.as_deref(),
        client_id: &member.client_id,
        client_host: &member.client_host,
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: &member.subscription,
        assignment: &member.assignment,
    }
}

fn decode_classic_group(value: &[u8]) -> Result<ClassicGroupRecord, DecodeError> {
    let value: GroupMetadataValue = decode_value(value)?;
    let member = |member: &GroupMetadataMember| ClassicMemberRecord {
        member: member.member_id.into(),
        instance: member.group_instance_id.map(Arc::from),
        client_id: member.client_id.into(),
        client_host: member.client_host.into(),
        // Version 0 did not have it apart.
        rebalance_timeout_ms: match member.rebalance_timeout {
            -1 => member.session_timeout,
            rebalance_timeout => rebalance_timeout,
        },
        session_timeout_ms: member.session_timeout,
        subscription: Bytes::copy_from_slice(member.subscription),
        assignment: Bytes::copy_from_slice(member.assignment),
    };
    Ok(ClassicGroupRecord {
        protocol_type: value.protocol_type.into(),
        generation: value.generation,
        protocol: value.protocol.map(Arc::from),
        leader: value.leader.map(Arc::from),
        state_timestamp_ms: value.current_state_timestamp,
        members: value.members.iter().map(member).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Uuid;

    fn assert_reads_back(record: &GroupRecord) {
        let (key, value) = record.encode();
        assert_eq!(GroupRecord::decode(&key, value.as_deref()), Ok(Some(record.clone())));
    }

    fn offset(expire_timestamp_ms: Option<Timestamp>, topic_id: Uuid) -> CommittedOffset {
        let (offset, leader_epoch, metadata) = (42, if expire_timestamp_ms.is_some() { -1 } else { 3 }, "m".into());
        CommittedOffset { offset, leader_epoch, metadata, commit_timestamp_ms: 9, expire_timestamp_ms, topic_id }
    }

    #[test]
    fn every_record_reads_back_from_its_bytes() {
        let of_group = |value| GroupRecord::Offset { group: "g".into(), topic: "t".into(), partition: 1, value };
        for value in [None, Some(offset(None, Uuid([7; 16]))), Some(offset(Some(10), Uuid::ZERO))] {
            assert_reads_back(&of_group(value));
        }
        let member = ClassicMemberRecord {
            member: "m-1".into(),
            instance: Some("i".into()),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: 5,
            session_timeout_ms: 6,
            subscription: Bytes::from_static(b"s"),
            assignment: Bytes::from_static(b"a"),
        };
        let group = ClassicGroupRecord {
            protocol_type: "consumer".into(),
            generation: 4,
            protocol: Some("range".into()),
            leader: Some("m-1".into()),
            state_timestamp_ms: 11,
            members: vec![member],
        };
        for value in [None, Some(group)] {
            assert_reads_back(&GroupRecord::Classic { group: "g".into(), value });
        }
    }

    #[test]
    fn a_record_of_an_unknown_kind_is_passed_over_and_a_damaged_one_is_an_error() {
        assert_eq!(GroupRecord::decode(&[0x7f, 0xff, 1, 2], Some(&[1])), Ok(None));
        assert!(GroupRecord::decode(&[0, 2, 0], None).is_err());
        assert!(GroupRecord::decode(&[], None).is_err());
        assert!(GroupRecord::decode(&[0, 2, 0, 1, b'g'], Some(&[0, 9])).is_err());
    }
}
