//! Groups on the core that owns their partition of `__consumer_offsets`: the coordinator decides, its records go into the
//! partition like any batch, and replies leave when the high watermark has passed all that was decided before them.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::{AskedOfGroup, GroupAnswer};
use crate::coordinator::group::{GroupDecision, GroupRecord, GroupReply, GroupRequest, GroupTicket, Groups};
use crate::error_code::ErrorCode;
use crate::metadata::MetadataImage;
use crate::record::{BatchBuilder, ProduceRules, ProducedBatch};
use crate::shard::{Effect, Message, Shard, Ticket, Timer};
use crate::types::{Deadline, Map, Offset, PartitionId, ShardId, Time, TopicId};

pub(in crate::shard) struct Coordinators {
    /// One for each partition of `__consumer_offsets` that this core owns.
    pub(super) led: Map<PartitionId, Coordinator>,
    /// Every request that has no reply yet.
    asked: Map<GroupTicket, Asked>,
    /// Requests that came together and are answered together.
    batches: Map<u64, Batch>,
    seed: u64,
}

pub(super) struct Coordinator {
    groups: Groups,
    pub state: CoordinatorState,
    /// Replies, and the log end offset that has to be committed before they are released; rising.
    releasing: VecDeque<(Offset, GroupTicket, GroupReply)>,
    timer: Option<(Deadline, u64)>,
}

pub(super) enum CoordinatorState {
    /// Its log is being replayed.
    Loading,
    Ready,
    /// Its log cannot be read.
    Failed,
}

struct Asked {
    partition: PartitionId,
    batch: u64,
    part: u32,
    /// What is said if the partition goes away before anything else is.
    refusal: GroupReply,
}

struct Batch {
    from: ShardId,
    ticket: Ticket,
    waiting: usize,
    replies: Vec<GroupAnswer>,
}

/// Records that are decided together share a batch, so that they are recovered together or not at all; beyond this they
/// do not, and only the removal of very many offsets goes beyond.
const GROUP_BATCH_BYTES_MAX: usize = 60 << 20;
/// After which due work is tried again that would write to a device without space.
const FULL_RETRY_MS: u64 = 1000;

impl Coordinators {
    pub fn new(seed: u64) -> Coordinators {
        Coordinators { led: Map::default(), asked: Map::default(), batches: Map::default(), seed }
    }
}

impl Coordinator {
    /// Takes one record of the log in, while it loads.
    pub fn replay(&mut self, record: &GroupRecord) {
        self.groups.replay(record);
    }
}

impl Shard {
    /// A partition of `__consumer_offsets` is opened here.
    pub(in crate::shard) fn lead_groups(&mut self, now: Time, id: PartitionId, effects: &mut Vec<Effect>) {
        // Each partition draws its own ids.
        let seed = self.coordinators.seed ^ (id.index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let groups = Groups::new(self.config.clone(), seed);
        let coordinator =
            Coordinator { groups, state: CoordinatorState::Loading, releasing: VecDeque::new(), timer: None };
        self.coordinators.led.insert(id, coordinator);
        self.load_groups(now, id, effects);
    }

    /// The log is replayed to its end.
    pub(super) fn on_groups_loaded(&mut self, now: Time, id: PartitionId, effects: &mut Vec<Effect>) {
        let Some(coordinator) = self.coordinators.led.get_mut(&id) else { return };
        coordinator.state = CoordinatorState::Ready;
        let decision = coordinator.groups.on_loaded(now, &self.image);
        self.carry_out(now, id, decision, effects);
    }

    /// Requests about groups of this core, which were asked together.
    pub(in crate::shard) fn on_group_requests(
        &mut self,
        now: Time,
        from: ShardId,
        ticket: Ticket,
        requests: Vec<AskedOfGroup>,
        effects: &mut Vec<Effect>,
    ) {
        let batch = self.token();
        let waiting = requests.len();
        self.coordinators.batches.insert(batch, Batch { from, ticket, waiting, replies: Vec::with_capacity(waiting) });
        for AskedOfGroup { part, partition, request } in requests {
            let ticket = self.token();
            let refusal = request.refuse(ErrorCode::NotCoordinator);
            self.coordinators.asked.insert(ticket, Asked { partition, batch, part, refusal });
            match self.refusal_of(partition, &request) {
                Some(reply) => self.on_group_reply(now, ticket, reply, effects),
                None => {
                    let coordinator = self.coordinators.led.get_mut(&partition).expect("it refuses nothing");
                    let decision = coordinator.groups.handle(now, &self.image, ticket, request);
                    self.carry_out(now, partition, decision, effects);
                }
            }
        }
    }

    /// Why the coordinator is not even asked.
    fn refusal_of(&self, id: PartitionId, request: &GroupRequest) -> Option<GroupReply> {
        let Some(coordinator) = self.coordinators.led.get(&id) else {
            return Some(request.refuse(ErrorCode::NotCoordinator));
        };
        match coordinator.state {
            // Whether the member is still one is not known yet: it is not worth a rebalance.
            CoordinatorState::Loading if matches!(request, GroupRequest::Heartbeat(_)) => {
                return Some(GroupReply::Heartbeat(ErrorCode::None));
            }
            CoordinatorState::Loading => return Some(request.refuse(ErrorCode::CoordinatorLoadInProgress)),
            CoordinatorState::Failed => return Some(request.refuse(ErrorCode::CoordinatorNotAvailable)),
            CoordinatorState::Ready => {}
        }
        let no_space = request.may_write() && self.refuses_appends(id);
        no_space.then(|| request.refuse(ErrorCode::CoordinatorNotAvailable))
    }

    /// Appends what was decided, and keeps the replies until it is committed.
    fn carry_out(&mut self, now: Time, id: PartitionId, decision: GroupDecision, effects: &mut Vec<Effect>) {
        let GroupDecision { records, replies } = decision;
        self.append_group_records(now, id, &records);
        let end = self.partitions[&id].log.log_end_offset();
        let coordinator = self.coordinators.led.get_mut(&id).expect("it has decided");
        coordinator.releasing.extend(replies.into_iter().map(|(ticket, reply)| (end, ticket, reply)));
        self.set_group_timer(now, id);
        self.advance_relaxed(now, effects);
        self.release_group_replies(now, id, effects);
    }

    fn append_group_records(&mut self, now: Time, id: PartitionId, records: &[GroupRecord]) {
        let limit = GROUP_BATCH_BYTES_MAX.min(self.storage.batch_bytes_max());
        let mut builder = BatchBuilder::new();
        for record in records {
            let (key, value) = record.encode();
            let size = key.len() + value.as_ref().map_or(0, |value| value.len()) + 64;
            if !builder.is_empty() && builder.size() + size > limit {
                self.append_group_batch(now, id, std::mem::take(&mut builder));
            }
            builder.push(now.wall_ms, Some(&key), value.as_deref());
        }
        if !builder.is_empty() {
            self.append_group_batch(now, id, builder);
        }
    }

    fn append_group_batch(&mut self, now: Time, id: PartitionId, builder: BatchBuilder) {
        let mut rules = ProduceRules::of(self.partitions[&id].log.config(), true);
        rules.max_message_bytes = usize::MAX;
        let batch = ProducedBatch::check(BytesMut::from(builder.build()), &rules, now.wall_ms);
        self.append_stamped(now, id, batch.expect("built here"));
    }

    /// The partition's high watermark may have moved: what was decided below it is said.
    pub(in crate::shard) fn release_group_replies(&mut self, now: Time, id: PartitionId, effects: &mut Vec<Effect>) {
        if !self.coordinators.led.contains_key(&id) {
            return;
        }
        let high_watermark = self.partitions[&id].high_watermark();
        while let Some(coordinator) = self.coordinators.led.get_mut(&id)
            && let Some((_, ticket, reply)) = coordinator.releasing.pop_front_if(|(end, ..)| *end <= high_watermark)
        {
            self.on_group_reply(now, ticket, reply, effects);
        }
    }

    fn on_group_reply(&mut self, now: Time, ticket: GroupTicket, reply: GroupReply, effects: &mut Vec<Effect>) {
        let Some(Asked { batch: of, part, .. }) = self.coordinators.asked.remove(&ticket) else { return };
        let batch = self.coordinators.batches.get_mut(&of).expect("a batch waits for all its requests");
        batch.replies.push(GroupAnswer { part, reply });
        batch.waiting -= 1;
        if batch.waiting == 0 {
            let Batch { from, ticket, replies, .. } = self.coordinators.batches.remove(&of).expect("just seen");
            if from == self.id {
                self.on_group_replies(now, ticket, replies, effects);
            } else {
                effects.push(Effect::Send { to: from, message: Message::GroupReplies { ticket, replies } });
            }
        }
    }

    /// One timer for all that the coordinator of a partition waits for.
    fn set_group_timer(&mut self, now: Time, id: PartitionId) {
        let Some(coordinator) = self.coordinators.led.get_mut(&id) else { return };
        let Some(next) = coordinator.groups.next_deadline() else { return };
        // What is due already waits for the next turn: others have theirs first.
        let next = next.max(now.monotonic_us + 1);
        if coordinator.timer.is_none_or(|(set, _)| next < set) {
            let before = coordinator.timer.take();
            let timer = self.set_timer(next, Timer::Groups { partition: id });
            self.coordinators.led.get_mut(&id).expect("just seen").timer = Some(timer);
            before.map(|before| self.timers.remove(&before));
        }
    }

    pub(in crate::shard) fn on_group_deadline(&mut self, now: Time, id: PartitionId, effects: &mut Vec<Effect>) {
        let no_space = self.refuses_appends(id);
        let Some(coordinator) = self.coordinators.led.get_mut(&id) else { return };
        coordinator.timer = None;
        if no_space {
            let timer = self.set_timer(now.after_ms(FULL_RETRY_MS), Timer::Groups { partition: id });
            self.coordinators.led.get_mut(&id).expect("just seen").timer = Some(timer);
            return;
        }
        let decision = coordinator.groups.on_deadline(now, &self.image);
        self.carry_out(now, id, decision, effects);
    }

    /// The partition goes away: whoever waits for one of its groups looks for another coordinator.
    pub(in crate::shard) fn forget_groups(&mut self, now: Time, id: PartitionId, effects: &mut Vec<Effect>) {
        let Some(coordinator) = self.coordinators.led.remove(&id) else { return };
        coordinator.timer.map(|timer| self.timers.remove(&timer));
        let of_partition = |(_, asked): &(&GroupTicket, &Asked)| asked.partition == id;
        let mut tickets: Vec<_> =
            self.coordinators.asked.iter().filter(of_partition).map(|(ticket, _)| *ticket).collect();
        tickets.sort_unstable();
        for ticket in tickets {
            let refusal = self.coordinators.asked[&ticket].refusal.clone();
            self.on_group_reply(now, ticket, refusal, effects);
        }
    }

    /// Topics of the image before are no more, and with them the offsets that were committed to them.
    pub(in crate::shard) fn forget_offsets(
        &mut self,
        now: Time,
        before: &MetadataImage,
        changed: &[TopicId],
        effects: &mut Vec<Effect>,
    ) {
        let gone = changed.iter().filter(|id| self.image.topic_by_id(**id).is_none());
        let gone: Vec<_> = gone.filter_map(|id| Some((before.topic_by_id(*id)?.name.clone(), *id))).collect();
        if gone.is_empty() {
            return;
        }
        let mut led: Vec<_> = self.coordinators.led.keys().copied().collect();
        led.sort_unstable();
        for id in led {
            let coordinator = self.coordinators.led.get_mut(&id).expect("just listed");
            if matches!(coordinator.state, CoordinatorState::Ready) {
                let decision = coordinator.groups.on_topics_deleted(&gone);
                self.carry_out(now, id, decision, effects);
            }
        }
    }
}
