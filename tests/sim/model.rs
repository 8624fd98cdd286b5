//! What must be true, as far as the clients can know it: which value stands at which offset, what was acknowledged and
//! when, which topics live. Every fact that comes in is checked against all before it.

use std::collections::{BTreeMap, BTreeSet};

use gannet::shard::Recovery;
use gannet::types::{Offset, PartitionId, Timestamp, TopicId};

use crate::groups::Groups;

/// Producer in the upper half, its running number in the lower: unique in a run.
pub type Value = u64;

pub struct Sent {
    pub topic: String,
    pub index: i32,
    pub timestamp: Timestamp,
    /// In compacted topics.
    pub key: Option<u8>,
    pub is_tombstone: bool,
    /// It is sent again without an identity that would keep it from being there twice.
    pub repeats: bool,
}

#[derive(Default)]
pub struct Model {
    pub topics: BTreeMap<TopicId, Topic>,
    pub sent: BTreeMap<Value, Sent>,
    /// When the name's deletion was last asked for, or its creation acknowledged.
    changed: BTreeMap<String, u64>,
    pub producer_ids: BTreeSet<i64>,
    pub acknowledged: u64,
    pub read: u64,
    /// What clients want to be known to have happened.
    pub counts: BTreeMap<&'static str, u64>,
    pub retention: Option<Retention>,
    /// A log directory is, or may be, offline: its partitions are not served.
    pub offline: bool,
    /// The name of the topic that is compacted.
    pub compacted: Option<&'static str>,
    pub groups: Groups,
    /// How often records were deleted from the beginning of a log.
    pub cuts: u64,
}

/// Of all topics.
#[derive(Clone, Copy)]
pub struct Retention {
    pub ms: i64,
    pub bytes: i64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fate {
    Lives,
    /// The answer has not come: it may live or not.
    DeleteAsked,
    Deleted,
}

pub struct Topic {
    pub name: String,
    /// Acknowledged from memory (`flush.messages`): a crash may take the end of it.
    pub relaxed: bool,
    pub fate: Fate,
    pub created_at: u64,
    pub deleted_at: Option<u64>,
    pub partitions: Vec<Partition>,
}

#[derive(Default)]
pub struct Partition {
    pub values: BTreeMap<Offset, Value>,
    offsets: BTreeMap<Value, Offset>,
    /// No high watermark told from now on is lower.
    pub floor: Offset,
    /// Since when everything below an offset could be read; both rise.
    visible: Vec<(Offset, u64)>,
    /// Offsets whose bytes on disk were damaged.
    pub rotten: Vec<(Offset, Offset)>,
    /// The log starts here or later: somebody was told.
    pub start: Offset,
    /// Somebody asked for the records before this one to be deleted.
    pub cut_to: Offset,
    /// Offsets that a reader did not find between others.
    pub missing: BTreeSet<Offset>,
    /// What the last reader read.
    pub survivors: BTreeSet<Offset>,
}

impl Partition {
    /// When something at or above `offset` could first be read.
    pub fn visible_since(&self, offset: Offset) -> Option<u64> {
        let index = self.visible.partition_point(|&(end, _)| end <= offset);
        self.visible.get(index).map(|&(_, since)| since)
    }

    fn see(&mut self, end: Offset, now: u64) {
        self.floor = self.floor.max(end);
        if self.visible.last().is_none_or(|&(seen, _)| seen < end) {
            self.visible.push((end, now));
        }
    }

    pub fn known_end(&self) -> Offset {
        self.values.last_key_value().map_or(0, |(offset, _)| offset + 1)
    }
}

impl Model {
    pub fn on_topic(&mut self, id: TopicId, name: &str, partitions: i32, relaxed: bool, now: u64) {
        let topic = self.topics.entry(id).or_insert_with(|| Topic {
            name: name.to_owned(),
            relaxed,
            fate: Fate::Lives,
            created_at: now,
            deleted_at: None,
            partitions: Vec::new(),
        });
        let count = topic.partitions.len().max(partitions as usize);
        topic.partitions.resize_with(count, Partition::default);
        self.changed.insert(name.to_owned(), now);
    }

    pub fn on_delete_asked(&mut self, id: TopicId, now: u64) {
        let topic = self.topics.get_mut(&id).expect("only known topics are deleted");
        topic.fate = Fate::DeleteAsked;
        self.groups.on_topic_deleted();
        self.changed.insert(topic.name.clone(), now);
    }

    pub fn on_deleted(&mut self, id: TopicId, now: u64) {
        let topic = self.topics.get_mut(&id).expect("only known topics are deleted");
        topic.fate = Fate::Deleted;
        topic.deleted_at = Some(now);
        self.changed.insert(topic.name.clone(), now);
    }

    /// Whether this name has meant this topic, and nothing else, all the time since.
    pub fn is_stable(&self, id: TopicId, since: u64) -> bool {
        self.topics.get(&id).is_some_and(|topic| {
            topic.fate == Fate::Lives
                && topic.created_at <= since
                && self.changed.get(&topic.name).is_none_or(|&changed| changed <= since)
        })
    }

    pub fn lives(&self, id: TopicId) -> bool {
        self.topics.get(&id).is_some_and(|topic| topic.fate == Fate::Lives)
    }

    pub fn partition(&mut self, id: PartitionId) -> Option<&mut Partition> {
        self.topics.get_mut(&id.topic)?.partitions.get_mut(id.index as usize)
    }

    pub fn floor(&self, id: PartitionId) -> Offset {
        let topic = self.topics.get(&id.topic);
        topic.and_then(|topic| topic.partitions.get(id.index as usize)).map_or(0, |partition| partition.floor)
    }

    /// This value is at this offset, for ever.
    pub fn place(&mut self, id: PartitionId, offset: Offset, value: Value) {
        let Some(topic) = self.topics.get_mut(&id.topic) else { return };
        let sent = self.sent.get(&value).unwrap_or_else(|| panic!("{id:?} {offset}: {value:x} was never sent"));
        assert!(
            (&sent.topic, sent.index) == (&topic.name, id.index),
            "{id:?} {offset}: {value:x} was sent to {}-{}",
            sent.topic,
            sent.index
        );
        let Some(partition) = topic.partitions.get_mut(id.index as usize) else { return };
        if let Some(before) = partition.values.insert(offset, value) {
            assert!(before == value, "{id:?} {offset} was {before:x} and is {value:x}");
        }
        if let Some(before) = partition.offsets.insert(value, offset) {
            assert!(before == offset || sent.repeats, "{id:?}: {value:x} stands at {before} and again at {offset}");
        }
    }

    pub fn on_acknowledged(&mut self, id: PartitionId, base: Offset, values: &[Value], now: u64) {
        for (value, offset) in values.iter().zip(base..) {
            self.place(id, offset, *value);
        }
        self.acknowledged += values.len() as u64;
        if let Some(partition) = self.partition(id) {
            partition.see(base + values.len() as Offset, now);
        }
    }

    /// A reader was told this high watermark.
    pub fn on_high_watermark(&mut self, id: PartitionId, high_watermark: Offset, floor: Offset, now: u64) {
        assert!(high_watermark >= floor, "{id:?}: the high watermark went back from {floor} to {high_watermark}");
        if let Some(partition) = self.partition(id) {
            partition.see(high_watermark, now);
        }
    }

    /// A log starts here: never before where it started, and nothing has gone before its time.
    pub fn on_log_start(&mut self, id: PartitionId, start: Offset, floor: Offset, wall_ms: Timestamp) {
        assert!(start >= floor, "{id:?}: its start went back from {floor} to {start}");
        let retention = self.retention;
        let sent = &self.sent;
        let Some(topic) = self.topics.get_mut(&id.topic) else { return };
        let Some(partition) = topic.partitions.get_mut(id.index as usize) else { return };
        if start <= partition.start {
            return;
        }
        let kept_from = partition.start.max(partition.cut_to);
        if start > kept_from {
            let retention = retention.unwrap_or_else(|| panic!("{id:?} starts at {start}, but nothing is ever to go"));
            let bounded = if retention.bytes < 0 { kept_from..start } else { 0..0 };
            for (offset, value) in partition.values.range(bounded) {
                let age_ms = wall_ms - sent[value].timestamp;
                assert!(age_ms > retention.ms, "{id:?} {offset} is gone after {age_ms} ms");
            }
        }
        partition.start = start;
    }

    /// A reader did not find these between others.
    pub fn miss(&mut self, id: PartitionId, offsets: std::ops::Range<Offset>) {
        if let Some(partition) = self.partition(id) {
            partition.missing.extend(offsets);
        }
    }

    /// Records at the beginning may be gone.
    pub fn loses_records(&self, id: PartitionId) -> bool {
        let partition = self.topics.get(&id.topic).and_then(|topic| topic.partitions.get(id.index as usize));
        self.retention.is_some() || partition.is_some_and(|partition| partition.cut_to > 0)
    }

    pub fn count(&mut self, what: &'static str, times: usize) {
        *self.counts.entry(what).or_default() += times as u64;
    }

    pub fn is_compacted(&self, name: &str) -> bool {
        self.compacted == Some(name)
    }

    /// After everything was read from the beginning of compacted logs: the last record of each key is there, and nothing is
    /// missing that no later record of its key replaces. A tombstone may be gone.
    pub fn check_compaction(&self) -> u64 {
        let compacted = |topic: &&Topic| self.is_compacted(&topic.name) && topic.fate == Fate::Lives;
        let mut missing = 0;
        for topic in self.topics.values().filter(compacted) {
            for (index, partition) in topic.partitions.iter().enumerate() {
                let key_of = |value| self.sent[value].key.expect("all have keys");
                let mut last: BTreeMap<u8, Offset> = BTreeMap::new();
                last.extend(partition.values.iter().map(|(offset, value)| (key_of(value), *offset)));
                // A tombstone that nobody was told of may have come, done its work and gone.
                let unseen: BTreeSet<u8> = self
                    .sent
                    .iter()
                    .filter(|(value, sent)| {
                        let is_here = sent.is_tombstone && sent.topic == topic.name && sent.index == index as i32;
                        is_here && !partition.offsets.contains_key(value)
                    })
                    .filter_map(|(_, sent)| sent.key)
                    .collect();
                for (offset, value) in partition.values.range(partition.start..) {
                    let is_there = partition.survivors.contains(offset);
                    missing += u64::from(!is_there);
                    let may_go = self.sent[value].is_tombstone
                        || last[&key_of(value)] > *offset
                        || unseen.contains(&key_of(value));
                    let was_missed = partition.missing.contains(offset);
                    assert!(may_go || is_there && !was_missed, "{}-{index} {offset} is gone", topic.name);
                }
            }
        }
        missing
    }

    pub fn start(&self, id: PartitionId) -> Offset {
        let topic = self.topics.get(&id.topic);
        topic.and_then(|topic| topic.partitions.get(id.index as usize)).map_or(0, |partition| partition.start)
    }

    /// Recovery has decided what the node is: nothing that anybody was told may be missing.
    pub fn on_recovered(&mut self, recovery: &Recovery) {
        assert!(self.offline || recovery.offline.is_empty(), "{:?} are offline", recovery.offline);
        for (id, topic) in &mut self.topics {
            let found = recovery.image.topic_by_id(*id);
            match (topic.fate, found) {
                (Fate::Lives, None) => panic!("topic {} {id} is gone", topic.name),
                (Fate::Deleted, Some(_)) => panic!("topic {} {id} was deleted and is back", topic.name),
                (Fate::Lives, Some(found)) => {
                    assert!(found.partitions.len() >= topic.partitions.len(), "{} lost partitions", topic.name);
                }
                _ => {}
            }
            if found.is_none() {
                continue;
            }
            for (index, partition) in topic.partitions.iter_mut().enumerate() {
                let id = PartitionId { topic: *id, index: index as i32 };
                let Some(recovered) = recovery.partitions.iter().find(|recovered| recovered.id == id) else {
                    let is_offline = recovery.offline.iter().any(|offline| offline.id == id);
                    assert!(is_offline || index >= found.map_or(0, |found| found.partitions.len()), "{id:?} is gone");
                    continue;
                };
                let end = recovered.log.state.log_end_offset;
                if topic.relaxed {
                    partition.truncate(end);
                }
                let known = partition.known_end().max(partition.floor);
                assert!(end >= known, "{id:?} ({}-{index}) ends at {end}; {known} was told", topic.name);
                let start = recovered.log.state.log_start_offset;
                assert!(start >= partition.start, "{id:?} starts at {start}, {} was told", partition.start);
            }
        }
    }

    /// After everything was read from the beginning: every value stands, and each producer's in the order it sent them,
    /// unless it gave that up.
    pub fn check_order(&self) {
        for (id, topic) in self.topics.iter().filter(|(_, topic)| topic.fate == Fate::Lives) {
            for (index, partition) in topic.partitions.iter().enumerate() {
                let mut last: BTreeMap<u64, u64> = BTreeMap::new();
                for (offset, value) in partition.values.iter().filter(|(_, value)| !self.sent[value].repeats) {
                    let (producer, number) = (value >> 32, value & 0xffff_ffff);
                    if let Some(before) = last.insert(producer, number) {
                        assert!(
                            before < number,
                            "{id}-{index} {offset}: {number:x} of producer {producer} stands behind {before:x}"
                        );
                    }
                }
            }
        }
    }
}

impl Partition {
    fn truncate(&mut self, end: Offset) {
        for (_, value) in self.values.split_off(&end) {
            self.offsets.remove(&value);
        }
        self.floor = self.floor.min(end);
        self.visible.retain(|&(seen, _)| seen <= end);
    }
}
