//! All that one core owns: partitions, their journal, connections, and who waits for what. Events in, effects out; it
//! never waits, reads a clock or touches the machine. It routes and remembers; rules live in `partition`, `log` and
//! `coordinator`. One file per verb.

mod acls;
mod append;
mod cleaning;
mod cold;
mod commit;
mod compacting;
mod configs;
mod connection;
mod control;
mod delete_records;
mod describe_producers;
mod features;
mod fetch;
mod groups;
mod inquiries;
mod kept;
mod log_dirs;
mod message;
mod metadata;
mod offline;
mod offsets;
mod owner_fetch;
mod owner_offsets;
mod placement;
mod produce;
mod quorum;
mod quotas;
mod reassignments;
mod recovery;
mod request;
mod scram;
mod seam;
mod session;
mod storage;
mod topics;
mod transactions;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;

pub use delete_records::LowWatermark;
pub use describe_producers::{ProducerFound, ProducersOf};
pub use groups::{AskedOfGroup, GroupAnswer, OFFSETS_TOPIC, partition_of_group};
pub use kept::{Kept, KeptError};
pub use log_dirs::LogSize;
pub use message::*;
pub use offline::{OfflineAtStart, OfflinePartition};
pub use quotas::{Counted, QuotaKind};
pub use recovery::*;
pub use seam::*;

use crate::config::BrokerConfig;
use crate::coordinator::BrokerRegistration;
use crate::journal::Journal;
use crate::log::{Log, RecoveredLog};
use crate::metadata::MetadataImage;
use crate::metrics::Metrics;
use crate::partition::Partition;
use crate::types::{Deadline, Few, Map, PartitionId, ShardId, Time, Uuid};

/// What a shard starts from.
pub struct ShardStart {
    pub id: ShardId,
    pub shards: u16,
    pub config: Arc<BrokerConfig>,
    pub image: Arc<MetadataImage>,
    pub journal: Journal,
    /// Where the checkpoint table of this shard is kept.
    pub checkpoint_path: Arc<str>,
    /// Where its table of cleaning is kept.
    pub cleaning_path: Arc<str>,
    /// The recovered logs of the partitions that this shard owns, with their directories.
    pub logs: Vec<(PartitionId, Arc<str>, RecoveredLog)>,
    /// The same for all shards of this start.
    pub offline: Arc<OfflineAtStart>,
    /// The same for all shards of this start; shard 0 registers the broker with it.
    pub registration: BrokerRegistration,
    /// Seeds what has to look random: topic ids, session ids.
    pub seed: u64,
}

pub struct Shard {
    id: ShardId,
    shards: u16,
    config: Arc<BrokerConfig>,
    image: Arc<MetadataImage>,
    /// Drawn anew at each start of the process.
    incarnation: Uuid,
    partitions: Map<PartitionId, Partition>,
    offline: offline::Offline,
    placement: placement::Placement,
    journal: Journal,
    commits: commit::Commits,
    connections: Map<ConnectionId, connection::Connection>,
    /// Where the next response is written.
    response_room: connection::ResponseRoom,
    appends: append::Appends,
    produces: produce::Produces,
    fetches: fetch::Fetches,
    owner_fetches: owner_fetch::OwnerFetches,
    offsets: offsets::OffsetCalls,
    owner_offsets: owner_offsets::Scans,
    control: control::Control,
    topics: topics::TopicCalls,
    group_calls: groups::GroupCalls,
    coordinators: groups::Coordinators,
    loads: groups::Loads,
    inquiries: inquiries::Inquiries,
    sessions: session::Sessions,
    storage: storage::Storage,
    cold: cold::Cold,
    quotas: quotas::Quotas,
    cleaning: cleaning::Cleaning,
    compacting: compacting::Compacting,
    timers: BTreeMap<(Deadline, u64), Timer>,
    next_token: u64,
    /// Requests that came before the broker's addresses of this start were known.
    early: Vec<(ConnectionId, BytesMut)>,
    stopping: bool,
    pub metrics: Metrics,
}

#[derive(Clone, Copy, Debug)]
enum Timer {
    /// A parked fetch of this owner answers with what there is.
    Fetch { token: u64 },
    /// Produce requests whose `timeout.ms` has passed.
    Produce,
    /// Time to look at dirty and refused bytes.
    Storage,
    /// An inquiry has taken as long as its client waits.
    Inquiry { ticket: Ticket },
    /// Producers that were silent for long are forgotten.
    ExpireProducers,
    /// Something of cleaning is due.
    Cleaning,
    /// Groups of this partition of `__consumer_offsets` wait for something.
    Groups { partition: PartitionId },
    /// Other cores do not know yet what clients took here.
    TellUsage,
    /// The client of a refused connection has waited.
    CloseRefused { connection: ConnectionId },
}

/// How often `producer.id.expiration.ms` is applied.
const EXPIRE_PRODUCERS_INTERVAL_MS: u64 = 600_000;

impl Shard {
    /// The logs were recovered before, so nothing has to be read to open them.
    pub fn open(now: Time, start: ShardStart, effects: &mut Vec<Effect>) -> Shard {
        let storage = storage::Storage::new(&start.config, start.shards, start.checkpoint_path.clone());
        let cleaning = cleaning::Cleaning::new(now, start.cleaning_path.clone(), &start.config);
        let compacting = compacting::Compacting::new(now, &start.config, start.shards, start.seed);
        let mut quotas = quotas::Quotas::new(&start.config, start.shards);
        quotas.apply(start.image.quotas());
        let log_dirs = start.config.log_dirs.len();
        let read_ahead_bytes_max = start.config.gannet.read_ahead_bytes_max(start.shards) as usize;
        let mut shard = Shard {
            id: start.id,
            shards: start.shards,
            control: control::Control::new(&start),
            sessions: session::Sessions::new(start.id, start.shards, &start.config, start.seed),
            placement: placement::Placement::new(log_dirs),
            config: start.config,
            image: start.image,
            incarnation: start.registration.incarnation,
            partitions: Map::default(),
            offline: offline::Offline::new(&start.offline, log_dirs),
            journal: start.journal,
            commits: commit::Commits::default(),
            connections: Map::default(),
            response_room: connection::ResponseRoom::default(),
            appends: append::Appends::default(),
            produces: produce::Produces::default(),
            fetches: fetch::Fetches::default(),
            owner_fetches: owner_fetch::OwnerFetches::default(),
            offsets: offsets::OffsetCalls::default(),
            owner_offsets: owner_offsets::Scans::default(),
            topics: topics::TopicCalls::default(),
            group_calls: groups::GroupCalls::default(),
            coordinators: groups::Coordinators::new(!start.seed),
            loads: groups::Loads::default(),
            inquiries: inquiries::Inquiries::default(),
            storage,
            cold: cold::Cold::new(read_ahead_bytes_max),
            quotas,
            cleaning,
            compacting,
            timers: BTreeMap::new(),
            next_token: 1,
            early: Vec::new(),
            stopping: false,
            metrics: Metrics::default(),
        };
        for (id, directory, recovered) in start.logs {
            assert!(id.owner(shard.shards) == shard.id);
            shard.note_placed(&directory, 1);
            let (config, leader_epoch) = shard.facts_of(id);
            let partition = Partition::lead(id, directory, Log::open(config, recovered), leader_epoch);
            shard.partitions.insert(id, partition);
            shard.on_opened(id);
        }
        shard.look_at_space(effects);
        for id in shard.partitions_of_groups() {
            shard.lead_groups(now, id, effects);
        }
        shard.set_timer(now.after_ms(EXPIRE_PRODUCERS_INTERVAL_MS), Timer::ExpireProducers);
        if shard.id == ShardId(0) {
            shard.metrics.offline_log_dirs = start.offline.log_dirs.len() as u64;
            shard.metrics.offline_partitions = start.offline.partitions.len() as u64;
            assert!(shard.partitions.contains_key(&PartitionId::METADATA), "the metadata log is recovered first");
            shard.register(now, start.registration, effects);
            // Nothing may happen for long: the registration's commit must not wait for an event.
            shard.end_turn(now, effects);
        }
        shard
    }

    /// Bounded work; never waits.
    pub fn step(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Opened { connection, listener, peer } => {
                if !self.is_refused(now, connection, &peer, effects) {
                    self.connections.insert(connection, connection::Connection::new(listener, &peer));
                }
            }
            Event::Request { connection, frame } => self.on_request(now, connection, frame, effects),
            Event::Closed { connection } => {
                if let Some(gone) = self.connections.remove(&connection) {
                    self.forget_fetches(connection, gone, effects);
                }
            }
            Event::Message { from, message } => self.on_message(now, from, message, effects),
            Event::Committed { commit } => self.on_committed(now, commit, effects),
            Event::Read { operation, bytes } => self.on_read(now, operation, bytes, effects),
            Event::Space { log_dir, space } => {
                self.placement.note_space(log_dir, &space);
                self.on_space(log_dir, space, effects);
            }
            Event::Done { operation, outcome } => self.on_done(now, operation, outcome, effects),
            Event::Compacted { operation, compaction } => self.on_compacted(operation, compaction),
        }
    }

    /// Due timers, write-back, and at most one commit of all that the turn appended.
    pub fn end_turn(&mut self, now: Time, effects: &mut Vec<Effect>) {
        while let Some(timer) = self.take_due_timer(now) {
            match timer {
                Timer::Fetch { token } => self.on_fetch_deadline(now, token, effects),
                Timer::Produce => self.on_produce_deadline(now, effects),
                Timer::Storage => {
                    self.storage.on_timer();
                    self.try_refused_again(effects);
                }
                Timer::Inquiry { ticket } => self.end_inquiry(ticket, effects),
                Timer::ExpireProducers => self.expire_producers(now),
                Timer::Cleaning => self.cleaning.on_timer(),
                Timer::Groups { partition } => self.on_group_deadline(now, partition, effects),
                Timer::TellUsage => self.tell_usage(effects),
                Timer::CloseRefused { connection } => effects.push(Effect::Close { connection }),
            }
        }
        self.take_commit(now, effects);
        self.tend_cleaning(now, effects);
        self.tend_storage(now, effects);
    }

    /// When `end_turn` has something to do even if no event comes.
    pub fn next_deadline(&self) -> Option<Deadline> {
        let timer = self.timers.first_key_value().map(|(&(deadline, _), _)| deadline);
        timer.into_iter().chain(self.commits.deadline()).min()
    }

    /// False while the memory budget or the journal is spent, and until the broker's addresses of this start are known:
    /// the sockets are then left unread.
    pub fn accepts_requests(&self) -> bool {
        self.is_registered() && self.storage.accepts_requests(&self.journal)
    }

    /// So many bytes of responses wait at this core's sockets: fetches get less, the more there are.
    pub fn on_unsent_bytes(&mut self, bytes: usize) {
        self.fetches.unsent_bytes = bytes;
    }

    /// Begins a clean stop: parked fetches are answered, everything is written back and checkpointed.
    pub fn begin_stop(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.stopping = true;
        self.storage.begin_stop();
        self.cleaning.wake();
        self.try_refused_again(effects);
        self.answer_parked_fetches(now, effects);
    }

    /// The clean stop has nothing left to do.
    pub fn drained(&self) -> bool {
        self.stopping
            && !self.journal.has_pending()
            && self.commits.is_empty()
            && self.storage.is_drained()
            && self.cleaning_is_quiet()
    }

    fn on_message(&mut self, now: Time, from: ShardId, message: Message, effects: &mut Vec<Effect>) {
        match message {
            Message::Append { ticket, append } => self.on_append(now, from, ticket, append, effects),
            Message::Appended { ticket, results } => self.on_appended(ticket, results, effects),
            Message::Fetch { ticket, fetch } => self.on_fetch(now, from, ticket, fetch, effects),
            Message::CancelFetch { connection } => self.on_cancel_fetch(from, connection),
            Message::EndSession { session } => self.on_end_session(now, session, effects),
            Message::Fetched { ticket, results, last } => self.on_fetched(now, ticket, from, results, last, effects),
            Message::Offsets { ticket, queries } => self.on_offsets(now, from, ticket, queries, effects),
            Message::OffsetsFound { ticket, answers } => self.on_offsets_found(ticket, answers, effects),
            Message::Ask { ticket, question } => self.on_ask(now, from, ticket, question, effects),
            Message::Told { ticket, answer } => self.on_told(ticket, answer, effects),
            Message::Control { ticket, request } => self.on_control(now, from, ticket, request, effects),
            Message::Controlled { ticket, reply } => self.on_controlled(now, ticket, reply, effects),
            Message::Image { image, changed } => self.on_image(now, image, &changed, effects),
            Message::Groups { ticket, requests } => self.on_group_requests(now, from, ticket, requests, effects),
            Message::GroupReplies { ticket, replies } => self.on_group_replies(now, ticket, replies, effects),
            Message::Used(used) => self.on_used(now, &used),
            Message::ImageApplied { version } => self.on_image_applied(now, from, version, effects),
            Message::Offline { log_dir, partitions } => self.on_offline(now, log_dir, partitions, effects),
        }
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    fn set_timer(&mut self, deadline: Deadline, timer: Timer) -> (Deadline, u64) {
        let key = (deadline, self.token());
        self.timers.insert(key, timer);
        key
    }

    fn take_due_timer(&mut self, now: Time) -> Option<Timer> {
        let entry = self.timers.first_entry()?;
        (entry.key().0 <= now.monotonic_us).then(|| entry.remove())
    }

    fn expire_producers(&mut self, now: Time) {
        let oldest_ms = now.wall_ms - i64::from(self.config.producer_id_expiration_ms);
        for partition in self.partitions.values_mut() {
            partition.log.expire_producers(oldest_ms);
        }
        self.set_timer(now.after_ms(EXPIRE_PRODUCERS_INTERVAL_MS), Timer::ExpireProducers);
    }

    /// To clients this core alone is a node; they come to it for what it owns, and to others for the rest.
    fn is_node(&self) -> bool {
        self.config.gannet.listener_per_core
    }

    fn owner_of(&self, id: PartitionId) -> ShardId {
        id.owner(self.shards)
    }
}

/// Groups what a request asks of partitions by the core that owns them, in the order of the request.
fn by_owner<T, G: Default + Extend<T>>(parts: impl IntoIterator<Item = (ShardId, T)>) -> Few<(ShardId, G)> {
    let mut groups: Few<(ShardId, G)> = Few::new();
    for (owner, part) in parts {
        let known = groups.iter().position(|(shard, _)| *shard == owner);
        let index = known.unwrap_or_else(|| {
            groups.push((owner, G::default()));
            groups.len() - 1
        });
        groups[index].1.extend([part]);
    }
    groups
}

/// Requests of one kind that wait, oldest first.
type Waiting = VecDeque<(Deadline, Ticket)>;
