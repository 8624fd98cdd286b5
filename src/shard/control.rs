//! The metadata log and the image. On shard 0 the controller decides, its records go into the metadata log like any
//! batch, and when they are committed the new image goes to all cores; whoever asked is answered once every core has it.
//! On every core a new image opens and closes partitions.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;

use super::{Effect, FileChange, Message, OFFSETS_TOPIC, Shard, ShardStart, Ticket};
use crate::config::TopicConfig;
use crate::coordinator::{BrokerRegistration, Controller, ControllerReply, ControllerRequest, Decision};
use crate::error_code::ErrorCode;
use crate::log::{Log, RecoveredLog};
use crate::metadata::{MetadataImage, MetadataRecord};
use crate::partition::Partition;
use crate::record::{BatchBuilder, ProduceRules, ProducedBatch};
use crate::types::{LeaderEpoch, Offset, PartitionId, ShardId, Time, TopicId};

/// But for the deletions, only shard 0's is ever used.
pub(super) struct Control {
    controller: Controller,
    /// The image with everything decided, committed or not.
    decided: Arc<MetadataImage>,
    /// Decided, not yet committed; oldest first.
    committing: VecDeque<Decided>,
    /// Committed, not yet in use on every core; oldest first.
    publishing: VecDeque<Publishing>,
    registration: Option<Ticket>,
    /// Directories that go away on this core, and the version of the image without them.
    deleting: Vec<(Arc<str>, u64)>,
    /// Versions in use here that are said to be applied once their directories are gone.
    held: Vec<u64>,
}

struct Decided {
    /// Log end offset of the metadata log with these records; what it was before if there are none.
    end: Offset,
    image: Arc<MetadataImage>,
    changed: Vec<TopicId>,
    /// Topics go away.
    deletes: bool,
    reply: Reply,
}

struct Publishing {
    version: u64,
    deletes: bool,
    waiting: u16,
    reply: Reply,
}

struct Reply {
    to: ShardId,
    ticket: Ticket,
    reply: ControllerReply,
}

/// Records of one decision share a batch, so that they are recovered together or not at all.
const METADATA_BATCH_BYTES_MAX: usize = 60 << 20;

impl Control {
    pub fn new(start: &ShardStart) -> Control {
        Control {
            controller: Controller::new(start.config.clone(), start.seed),
            decided: start.image.clone(),
            committing: VecDeque::new(),
            publishing: VecDeque::new(),
            registration: None,
            deleting: Vec::new(),
            held: Vec::new(),
        }
    }
}

impl Shard {
    /// Shard 0 registers the broker: from then on the image says where it is reached.
    pub(super) fn register(&mut self, now: Time, registration: BrokerRegistration, effects: &mut Vec<Effect>) {
        let ticket = self.token();
        self.control.registration = Some(ticket);
        self.on_control(now, self.id, ticket, ControllerRequest::RegisterBroker(registration), effects);
    }

    /// A request for the controller. What it decides sees everything decided before.
    pub(super) fn on_control(
        &mut self,
        now: Time,
        from: ShardId,
        ticket: Ticket,
        request: ControllerRequest,
        effects: &mut Vec<Effect>,
    ) {
        assert!(self.id == ShardId(0));
        let decided = self.control.decided.clone();
        let Decision { records, reply } = self.control.controller.handle(&decided, now, request);
        let mut image = decided;
        let mut changed = Vec::new();
        for record in &records {
            let topic = Arc::make_mut(&mut image).apply(record).expect("the controller decides what fits the image");
            changed.extend(topic.filter(|topic| changed.last() != Some(topic)));
        }
        let deletes = records.iter().any(|record| matches!(record, MetadataRecord::RemoveTopic(_)));
        let end = self.append_metadata(now, &records);
        self.control.decided = image.clone();
        let reply = Reply { to: from, ticket, reply };
        self.control.committing.push_back(Decided { end, image, changed, deletes, reply });
        // Without records there may be nothing to wait for.
        self.on_metadata_advanced(now, effects);
    }

    fn append_metadata(&mut self, now: Time, records: &[MetadataRecord]) -> Offset {
        let id = PartitionId::METADATA;
        if !records.is_empty() {
            let mut builder = BatchBuilder::new();
            for record in records {
                builder.push(now.wall_ms, None, Some(&record.encode()));
            }
            let mut rules = ProduceRules::of(&self.config.topic, true);
            rules.max_message_bytes = METADATA_BATCH_BYTES_MAX;
            // Its records have no keys, whatever topics are by default.
            rules.key_required = false;
            let batch = ProducedBatch::check(BytesMut::from(builder.build()), &rules, now.wall_ms);
            self.append_stamped(now, id, batch.expect("built here"));
        }
        self.partitions[&id].log.log_end_offset()
    }

    /// The metadata log's high watermark may have moved: decisions below it are facts. No other topics come or go before
    /// deleted ones are gone from the disk: a topic created again has the same directories, on other cores, and what two
    /// cores do to one directory has no order.
    pub(super) fn on_metadata_advanced(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let high_watermark = self.partitions[&PartitionId::METADATA].high_watermark();
        loop {
            let deleting = self.control.publishing.iter().any(|published| published.deletes);
            let is_next =
                |decided: &mut Decided| decided.end <= high_watermark && (!deleting || decided.changed.is_empty());
            let Some(decided) = self.control.committing.pop_front_if(is_next) else { return };
            let Decided { image, changed, deletes, reply, .. } = decided;
            let version = image.version();
            self.control.publishing.push_back(Publishing { version, deletes, waiting: self.shards, reply });
            for shard in (0..self.shards).map(ShardId).filter(|shard| *shard != self.id) {
                let message = Message::Image { image: image.clone(), changed: changed.clone() };
                effects.push(Effect::Send { to: shard, message });
            }
            self.on_image(now, image, &changed, effects);
        }
    }

    /// This core now goes by a new image.
    pub(super) fn on_image(
        &mut self,
        now: Time,
        image: Arc<MetadataImage>,
        changed: &[TopicId],
        effects: &mut Vec<Effect>,
    ) {
        let before = std::mem::replace(&mut self.image, image);
        let version = self.image.version();
        self.quotas.apply(self.image.quotas());
        if !Arc::ptr_eq(&self.config, self.image.config()) {
            self.apply_config();
        }
        let open = self.partitions.len();
        for &topic in changed {
            self.apply_topic(now, topic, &before, effects);
        }
        if self.partitions.len() > open {
            self.look_at_space(effects);
        }
        self.forget_offsets(now, &before, changed, effects);
        if self.is_registered() {
            for (connection, frame) in std::mem::take(&mut self.early) {
                self.on_request(now, connection, frame, effects);
            }
        }
        self.control.held.push(version);
        self.tell_applied(now, effects);
    }

    /// The broker's settings changed, and with them those of topics that do not set them.
    fn apply_config(&mut self) {
        self.config = self.image.config().clone();
        let ids: Vec<_> = self.partitions.keys().copied().collect();
        for id in ids {
            let (config, _) = self.facts_of(id);
            self.partitions.get_mut(&id).expect("just listed").log.set_config(config);
        }
    }

    /// A partition's directory is gone.
    pub(super) fn on_directory_deleted(&mut self, now: Time, directory: &str, effects: &mut Vec<Effect>) {
        self.control.deleting.retain(|(deleting, _)| **deleting != *directory);
        self.tell_applied(now, effects);
    }

    fn tell_applied(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let Control { deleting, held, .. } = &mut self.control;
        let applied: Vec<u64> = held.extract_if(.., |version| !deleting.iter().any(|(_, of)| of == version)).collect();
        for version in applied {
            if self.id == ShardId(0) {
                self.on_image_applied(now, self.id, version, effects);
            } else {
                effects.push(Effect::Send { to: ShardId(0), message: Message::ImageApplied { version } });
            }
        }
    }

    pub(super) fn on_image_applied(&mut self, now: Time, _from: ShardId, version: u64, effects: &mut Vec<Effect>) {
        let publishing = self.control.publishing.iter_mut().find(|p| p.version == version && p.waiting > 0);
        publishing.expect("every image is applied once by each core").waiting -= 1;
        let is_done = |published: &Publishing| published.waiting == 0;
        while let Some(index) = self.control.publishing.iter().position(is_done) {
            let published = self.control.publishing.remove(index).expect("just seen");
            let Reply { to, ticket, reply } = published.reply;
            if self.control.registration == Some(ticket) && to == self.id {
                self.control.registration = None;
            } else if to == self.id {
                self.on_controlled(now, ticket, reply, effects);
            } else {
                effects.push(Effect::Send { to, message: Message::Controlled { ticket, reply } });
            }
        }
        self.on_metadata_advanced(now, effects);
    }

    /// Opens, updates and closes what this core owns of a topic.
    fn apply_topic(&mut self, now: Time, id: TopicId, before: &MetadataImage, effects: &mut Vec<Effect>) {
        let old = before.topic_by_id(id).cloned();
        let new = self.image.topic_by_id(id).cloned();
        let count =
            |topic: &Option<Arc<crate::metadata::Topic>>| topic.as_ref().map_or(0, |t| t.partitions.len() as i32);
        for index in count(&new)..count(&old) {
            let gone = PartitionId { topic: id, index };
            self.close_partition(now, gone, effects);
            self.offline.forget(gone);
        }
        for index in 0..count(&new) {
            let partition = PartitionId { topic: id, index };
            if self.owner_of(partition) == self.id {
                self.open_or_update(now, partition, effects);
            }
        }
    }

    fn open_or_update(&mut self, now: Time, id: PartitionId, effects: &mut Vec<Effect>) {
        if self.offline.contains(id) {
            // What it holds is in its own directory and nowhere else.
            return;
        }
        let (config, leader_epoch) = self.facts_of(id);
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.log.set_config(config);
            partition.leader.leader_epoch = leader_epoch;
            return;
        }
        let topic = self.image.topic_by_id(id.topic).expect("the image that opens it has it");
        let keeps_groups = *topic.name == *OFFSETS_TOPIC;
        let log_dir = self.log_dir_for_new_partition();
        let directory: Arc<str> = format!("{log_dir}/{}-{}", topic.name, id.index).into();
        let log = Log::open(config, RecoveredLog::new());
        self.note_placed(&directory, 1);
        self.partitions.insert(id, Partition::lead(id, directory.clone(), log, leader_epoch));
        self.change_directory(FileChange::CreateDirectory { directory, topic: id.topic }, effects);
        if keeps_groups {
            self.lead_groups(now, id, effects);
        }
    }

    fn close_partition(&mut self, now: Time, id: PartitionId, effects: &mut Vec<Effect>) {
        if self.owner_of(id) != self.id {
            return;
        }
        let open = self.let_go(now, id, ErrorCode::UnknownTopicOrPartition, effects);
        if let Some(directory) = open.map(|partition| partition.directory).or(self.offline.forget(id)) {
            self.control.deleting.push((directory.clone(), self.image.version()));
            self.change_directory(FileChange::DeleteDirectory { directory }, effects);
        }
    }

    /// The partition is not served any more: whoever waits for it is told why.
    pub(super) fn let_go(
        &mut self,
        now: Time,
        id: PartitionId,
        reason: ErrorCode,
        effects: &mut Vec<Effect>,
    ) -> Option<Partition> {
        self.forget_storage(id);
        self.forget_groups(now, id, effects);
        let mut partition = self.partitions.remove(&id)?;
        self.note_placed(&partition.directory, -1);
        self.forget_cleaning(id, &partition.directory, reason, effects);
        let (acknowledgements, watchers) = partition.waiters.take_all();
        for token in acknowledgements {
            self.on_append_abandoned(id, token, reason, effects);
        }
        for watcher in watchers {
            self.note_gone(now, watcher, effects);
        }
        Some(partition)
    }

    /// What the image says of a partition: its topic's settings and its leader epoch.
    pub(super) fn facts_of(&self, id: PartitionId) -> (Arc<TopicConfig>, LeaderEpoch) {
        let Some(topic) = self.image.topic_by_id(id.topic) else {
            assert!(id == PartitionId::METADATA, "a log is opened for a partition that the image has");
            return (Arc::new(self.config.topic.clone()), 0);
        };
        let leader_epoch = topic.partition(id.index).map_or(0, |state| state.leader_epoch);
        (topic.config.clone(), leader_epoch)
    }

    /// This core's image has the registration of this start: clients can be told where the broker is.
    pub(super) fn is_registered(&self) -> bool {
        self.image.broker(self.config.node_id).is_some_and(|broker| broker.incarnation == self.incarnation)
    }
}
