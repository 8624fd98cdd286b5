//! The target of `__consumer_offsets`: a record as a disk may hold it, its key's length first. What reads is written again
//! and replayed: no record may break the machine that lives by them.

use std::sync::Arc;

use bytes::Bytes;
use gannet::coordinator::group::{
    ClassicGroupRecord, ClassicMember, ClassicMemberRecord, Client, CommittedOffset, ConsumerFact, ConsumerRecord,
    CurrentAssignment, GroupEpoch, GroupRecord, Groups, MemberMetadata, MemberState, ResolvedRegex, TargetEpoch,
};
use gannet::types::{PartitionId, Uuid};

use crate::allocation::peak_bytes_of;
use crate::targets::Seed;

/// An empty name of one byte becomes a counted string in a set.
const PEAK_PER_INPUT_BYTE: usize = 128;
const PEAK_BYTES: usize = 4096;

pub fn group_record(data: &[u8]) -> bool {
    let Some((key_length, rest)) = data.split_first() else { return false };
    let Some((key, value)) = rest.split_at_checked(usize::from(*key_length)) else { return false };
    let value = Some(value).filter(|value| !value.is_empty());
    let (record, peak) = peak_bytes_of(|| GroupRecord::decode(key, value));
    let limit = PEAK_PER_INPUT_BYTE * data.len() + PEAK_BYTES;
    assert!(peak <= limit, "{peak} bytes held for a record of {}: {data:02x?}", data.len());
    let Ok(Some(record)) = record else { return false };
    let mut groups = Groups::new(Arc::default(), 1);
    groups.replay(&record);
    groups.replay(&record);
    if matches!(&record, GroupRecord::Consumer(record) if record.fact == ConsumerFact::PartitionMetadata(true)) {
        // Only Kafka before 4.1 wrote it.
        return true;
    }
    let (key, value) = record.encode();
    assert_eq!(GroupRecord::decode(&key, value.as_deref()), Ok(Some(record)));
    true
}

pub fn group_record_seeds() -> Vec<Seed> {
    let partition = |topic, index| PartitionId { topic: Uuid([topic; 16]), index };
    let classic = ClassicMember { session_timeout_ms: 9, protocols: vec![("range".into(), Bytes::from_static(b"s"))] };
    let member = MemberMetadata {
        instance: Some("i".into()),
        rack: Some("r".into()),
        client: Client { id: "c".into(), host: "/127.0.0.1".into() },
        subscribed_topics: ["a".into(), "b".into()].into(),
        subscribed_regex: Some("x.*".into()),
        rebalance_timeout_ms: 7,
        server_assignor: Some("range".into()),
        classic: Some(classic),
    };
    let current = CurrentAssignment {
        epoch: 4,
        previous_epoch: 3,
        state: MemberState::UnrevokedPartitions,
        assigned: [(partition(1, 0), 2), (partition(1, 4), 3)].into(),
        revoking: [(partition(2, 2), 1)].into(),
    };
    let regex = ResolvedRegex { topics: ["t".into()].into(), version: 3, timestamp_ms: 5 };
    let facts = [
        ("epoch", ConsumerFact::Epoch(Some(GroupEpoch { epoch: 5, metadata_hash: -7 }))),
        ("epoch_gone", ConsumerFact::Epoch(None)),
        ("partition_metadata_gone", ConsumerFact::PartitionMetadata(false)),
        ("member", ConsumerFact::Member("m".into(), Some(member))),
        ("target_epoch", ConsumerFact::TargetEpoch(Some(TargetEpoch { epoch: 5, timestamp_ms: 6 }))),
        ("target", ConsumerFact::Target("m".into(), Some([partition(1, 0), partition(1, 3)].into()))),
        ("current", ConsumerFact::Current("m".into(), Some(current))),
        ("regex", ConsumerFact::Regex("x.*".into(), Some(regex))),
    ];
    let facts = facts.map(|(name, fact)| (name, GroupRecord::Consumer(ConsumerRecord::new(&"g".into(), fact))));
    let offset = |expire_timestamp_ms| GroupRecord::Offset {
        group: "g".into(),
        topic: "t".into(),
        partition: 3,
        value: Some(CommittedOffset {
            offset: 42,
            leader_epoch: -1,
            metadata: "m".into(),
            commit_timestamp_ms: 9,
            expire_timestamp_ms,
            topic_id: Uuid::ZERO,
        }),
    };
    let row = ClassicMemberRecord {
        member: "m".into(),
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
        leader: Some("m".into()),
        state_timestamp_ms: 11,
        members: vec![row],
    };
    let others = [
        ("offset", offset(None)),
        ("offset_with_expiry", offset(Some(10))),
        ("classic", GroupRecord::Classic { group: "g".into(), value: Some(group) }),
        ("classic_gone", GroupRecord::Classic { group: "g".into(), value: None }),
    ];
    let seed = |(name, record): (&str, GroupRecord)| {
        let (key, value) = record.encode();
        let input = [&[key.len() as u8][..], &key, value.as_deref().unwrap_or_default()].concat();
        Seed { name: name.to_owned(), input }
    };
    facts.into_iter().chain(others).map(seed).collect()
}
