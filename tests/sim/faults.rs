//! Which faults a seed has on, its settings, and how a life of the node ends: a crash with or without power, or a stop in
//! order.

use bytes::Bytes;
use gannet::config::BrokerConfig;
use gannet::types::{PartitionId, Uuid};

use crate::chance::Chance;
use crate::disk::{SECTOR, base_offset, parent};
use crate::perform::{Core, Op};
use crate::start::{MARK, OWN};
use crate::world::{Happening, World};

/// What the world itself does wrong, to see whether the checks notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutation {
    /// Says that a commit is durable when it has just been handed over.
    AckEarly,
    /// A sync that does nothing.
    DropSync,
    /// A commit that is never written.
    LoseCommit,
    /// The later of two commits lands first, and is told of.
    ReorderCommits,
    LoseMessage,
    /// A read that brings another place of the file.
    StaleRead,
    /// Recovery does not see one of the journal files.
    ForgetJournal,
    /// A checkpoint table that was not written: its journal files are used again too early.
    LoseTable,
    /// A write to a segment that never was.
    LoseWrite,
    /// Segments that recovery wants to be deleted stay.
    KeepSegments,
    /// Recovery does not see the checkpoint tables of one shard.
    ForgetTable,
    /// One bit of each journal file is wrong.
    FlipJournal,
    /// Recovery does not see the compacted segments that a crash kept from their place.
    ForgetSwap,
    /// What is to be kept of offline partitions is not.
    ForgetKept,
}

impl Mutation {
    pub const ALL: &[Mutation] = &[
        Mutation::AckEarly,
        Mutation::DropSync,
        Mutation::LoseCommit,
        Mutation::ReorderCommits,
        Mutation::LoseMessage,
        Mutation::StaleRead,
        Mutation::ForgetJournal,
        Mutation::LoseTable,
        Mutation::LoseWrite,
        Mutation::KeepSegments,
        Mutation::ForgetTable,
        Mutation::FlipJournal,
        Mutation::ForgetSwap,
        Mutation::ForgetKept,
    ];
}

/// Swarm: each seed has another subset.
pub struct Faults {
    pub kills: bool,
    pub power: bool,
    stops: bool,
    pub cores: bool,
    space: bool,
    slow_disk: bool,
    slow_mesh: bool,
    pub closes: bool,
    pub deletes: bool,
    /// Records are deleted from the beginning of logs.
    pub cuts: bool,
    rot: bool,
    /// A segment cannot be written: the process must end.
    failing_disk: bool,
    /// One of two log directories fails, for a while or until it is repaired.
    failing_dir: bool,
    tiny_memory: bool,
    pub large_records: bool,
    pub retention: bool,
    pub compaction: bool,
    /// Clients are held to quotas, which come and go.
    pub quotas: bool,
    period_us: u64,
}

impl Faults {
    pub fn draw(chance: &mut Chance) -> Faults {
        let mut on = |n| chance.one_in(n);
        Faults {
            kills: on(2),
            power: on(2),
            stops: on(3),
            cores: on(2),
            space: on(5),
            slow_disk: on(5),
            slow_mesh: on(3),
            closes: on(2),
            deletes: on(2),
            cuts: on(2),
            rot: on(6),
            failing_disk: on(6),
            failing_dir: on(4),
            tiny_memory: on(3),
            large_records: on(4),
            retention: on(3),
            compaction: on(2),
            quotas: on(4),
            period_us: chance.pick(&[60_000, 200_000, 500_000]),
        }
    }

    pub fn config(&self, chance: &mut Chance) -> BrokerConfig {
        let several = self.failing_dir || chance.one_in(3);
        let log_dirs = if several { vec!["/d0".into(), "/d1".into()] } else { vec!["/d0".into()] };
        let mut config = BrokerConfig { log_dirs, ..BrokerConfig::default() };
        config.max_incremental_fetch_session_cache_slots = chance.pick(&[0, 8, 1000]);
        config.topic.max_message_bytes = 20_000;
        config.topic.segment_bytes = chance.pick(&[6_000, 30_000, 300_000]);
        config.topic.preallocate = chance.one_in(3);
        config.topic.segment_ms = chance.pick(&[200, 1 << 40]);
        config.topic.index_interval_bytes = chance.pick(&[0, 700, 4096]);
        config.topic.file_delete_delay_ms = chance.pick(&[0, 50, 2000]);
        config.log_retention_check_interval_ms = chance.pick(&[20, 100]);
        config.topic.min_cleanable_dirty_ratio = chance.pick(&[0.0, 0.3, 0.7]);
        config.topic.delete_retention_ms = chance.pick(&[0, 100, 1 << 40]);
        config.topic.min_compaction_lag_ms = chance.pick(&[0, 0, 30]);
        config.topic.max_compaction_lag_ms = chance.pick(&[300, i64::MAX]);
        config.log_cleaner_backoff_ms = chance.pick(&[1, 20, 100]);
        config.log_cleaner_dedupe_buffer_size = chance.pick(&[4096, 1 << 20]);
        config.log_cleaner_io_max_bytes_per_second = f64::from(chance.pick(&[2u32 << 20, 1 << 30]));
        if self.quotas {
            config.quota_window_num = chance.pick(&[1, 2]);
        }
        if self.retention {
            (config.topic.retention_ms, config.topic.retention_bytes) =
                chance.pick(&[(150, -1), (600, -1), (400, 20_000), (-1, 40_000)]);
        }
        let group = &mut config.group;
        group.offsets_topic_partitions = chance.pick(&[1, 3]);
        group.min_session_timeout_ms = 1;
        group.initial_rebalance_delay_ms = chance.pick(&[0, 20]);
        group.consumer_session_timeout_ms = chance.pick(&[200, 500]);
        group.consumer_heartbeat_interval_ms = 20;
        group.offsets_retention_check_interval_ms = chance.pick(&[20, 600_000]);
        let gannet = &mut config.gannet;
        gannet.journal_files = chance.between(3, 5) as u16;
        gannet.journal_bytes = u64::from(gannet.journal_files) * chance.pick(&[32 << 10, 64 << 10, 256 << 10]);
        gannet.commit_bytes = chance.pick(&[8 << 10, 64 << 10]);
        gannet.commits_in_flight = chance.between(1, 4) as u16;
        gannet.writeback_bytes = chance.pick(&[4096, 16 << 10, 64 << 10]);
        gannet.writeback_interval_ms = chance.pick(&[10, 200, 2000]);
        gannet.memory_bytes = Some(if self.tiny_memory { 256 << 10 } else { 16 << 20 });
        config
    }

    pub fn disk_us(&self, chance: &mut Chance) -> u64 {
        if self.slow_disk && chance.one_in(10) { chance.between(1_000, 100_000) } else { chance.between(50, 600) }
    }

    pub fn commit_us(&self, chance: &mut Chance) -> u64 {
        if self.slow_disk && chance.one_in(30) { chance.between(1_000, 50_000) } else { chance.between(40, 200) }
    }

    pub fn message_us(&self, chance: &mut Chance) -> u64 {
        if self.slow_mesh && chance.one_in(10) { chance.between(100, 5_000) } else { chance.between(1, 30) }
    }

    pub fn patience_us(&self) -> Option<u64> {
        (!self.slow_disk && !self.space && !self.tiny_memory && !self.quotas).then_some(100_000)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Kill,
    PowerLoss,
    Stop,
    Space,
    Rot,
    WriteError,
    BrokenDir,
}

#[derive(Clone, Copy)]
pub enum Moment {
    Any,
    /// Several commits are on their way.
    Commits,
    /// Files are being synced, or a table is being replaced.
    Round,
    /// So many steps after a compacted segment has begun to take the place of others.
    Swap(usize),
    /// Members of a group have given up what they had, and have not got what they are to have.
    Rebalance,
}

/// How far a compacted segment was on its way when the node ended.
const SWAP_STEPS: [&str; 6] = [
    "crashes in a swap, step 0",
    "crashes in a swap, step 1",
    "crashes in a swap, step 2",
    "crashes in a swap, step 3",
    "crashes in a swap, step 4",
    "crashes in a swap, step 5",
];

impl World {
    pub fn schedule_fault(&mut self) {
        let at = self.now + self.chance.between(self.faults.period_us / 4, self.faults.period_us * 2);
        self.at(at, Happening::Fault);
    }

    pub fn on_fault(&mut self) {
        if self.settling {
            return;
        }
        self.schedule_fault();
        if self.cores.is_empty() || self.stopping {
            return;
        }
        let faults = &self.faults;
        let kinds = [
            (faults.kills, Kind::Kill),
            (faults.power, Kind::PowerLoss),
            (faults.stops, Kind::Stop),
            (faults.space, Kind::Space),
            (faults.rot, Kind::Rot),
            (faults.failing_disk, Kind::WriteError),
            (faults.failing_dir, Kind::BrokenDir),
        ];
        let on: Vec<Kind> = kinds.into_iter().filter_map(|(on, kind)| on.then_some(kind)).collect();
        if on.is_empty() {
            return;
        }
        match self.chance.pick(&on) {
            Kind::Kill => self.doom(false),
            Kind::PowerLoss => self.doom(true),
            Kind::Stop => self.begin_stop(),
            Kind::Space => {
                let used = self.disk.paths().filter_map(|path| self.disk.file(path)).map(|file| file.data.len()).sum();
                self.disk.capacity = match self.disk.capacity {
                    None => Some(usize::max(used, 20_000) + self.chance.below(30_000) as usize),
                    Some(_) => None,
                };
                self.trace.note(self.now, format_args!("the disk takes {:?} bytes", self.disk.capacity));
            }
            Kind::Rot => self.rot(),
            Kind::WriteError => {
                self.disk.fails_once = true;
                self.model.offline |= self.config.log_dirs.len() > 1;
            }
            Kind::BrokenDir => {
                self.trace.note(self.now, format_args!("/d1 is broken"));
                self.count("broken log directories");
                self.disk.broken = Some("/d1");
                self.model.offline = true;
            }
        }
    }

    /// Every log directory is whole again; one that is offline comes back with the next start.
    pub fn repair(&mut self) {
        self.disk.capacity = None;
        self.disk.fails_once = false;
        self.disk.broken = None;
        self.run_until(self.now + 100_000);
        if self.model.offline && !self.cores.is_empty() {
            self.crash(false);
        }
    }

    /// Crashes soon: at a moment when something is only half done, if one comes.
    fn doom(&mut self, power: bool) {
        let steps = self.chance.below(SWAP_STEPS.len() as u64) as usize;
        let moments = [Moment::Any, Moment::Commits, Moment::Round, Moment::Swap(steps), Moment::Rebalance];
        let moment = self.chance.pick(&moments);
        (self.doom, self.swap_steps) = (Some((power, moment)), 0);
        let patience_us = if matches!(moment, Moment::Swap(_)) { 150_000 } else { 30_000 };
        self.at(self.now + patience_us, Happening::Doom);
        self.meet_doom();
    }

    pub fn meet_doom(&mut self) {
        let Some((power, moment)) = self.doom else { return };
        let is_met = |core: &Core| match moment {
            Moment::Any => true,
            Moment::Commits if self.mutates(Mutation::ReorderCommits) => core.is_overtaken(),
            Moment::Commits => core.commits.len() >= usize::from(self.config.gannet.commits_in_flight.min(2)),
            Moment::Swap(_) => false,
            Moment::Rebalance => self.model.groups.is_rebalancing(),
            Moment::Round => core.is_syncing() || core.queues.contains_key(OWN),
        };
        if self.cores.iter().any(is_met) {
            self.doom = None;
            self.crash(power);
        }
    }

    /// A file of this directory has changed.
    pub fn meet_doom_in_swap(&mut self, directory: &str) {
        let Some((power, Moment::Swap(left))) = &mut self.doom else { return };
        if !self.disk.paths().any(|path| path.ends_with(".swap") && parent(path) == directory) {
            return;
        }
        self.swap_steps += 1;
        match left.checked_sub(1) {
            Some(fewer) => *left = fewer,
            None => {
                let power = *power;
                self.doom = None;
                self.count(SWAP_STEPS[self.swap_steps - 1]);
                self.crash(power);
            }
        }
    }

    /// Flips one bit of a segment that is complete for certain.
    fn rot(&mut self) {
        let mut sealed = Vec::new();
        for table in self.tables().into_iter().rev() {
            for partition in table.partitions.iter().filter(|partition| partition.partition != PartitionId::METADATA) {
                let Some(topic) = self.model.topics.get(&partition.partition.topic) else { continue };
                // Where offsets may be missing, one that is wrong cannot always be told.
                if self.model.is_compacted(&topic.name) {
                    continue;
                }
                let suffix = format!("/{}-{}", topic.name, partition.partition.index);
                let is_its = |(path, id): &(&str, Option<Uuid>)| {
                    path.ends_with(&suffix) && *id == Some(partition.partition.topic)
                };
                let Some((directory, _)) = self.disk.directories().find(is_its) else { continue };
                let logs = self.disk.paths().filter(|path| parent(path) == directory && path.ends_with(".log"));
                let bases: Vec<_> = logs.map(|path| base_offset(path)).collect();
                for pair in bases.windows(2).filter(|pair| pair[1] <= partition.segment_base_offset) {
                    sealed.push((partition.partition, format!("{directory}/{:020}.log", pair[0]), pair[0], pair[1]));
                }
            }
        }
        if sealed.is_empty() {
            return;
        }
        self.count("flipped bits");
        let (id, path, from, to) = sealed[self.chance.below(sealed.len() as u64) as usize].clone();
        let file = self.disk.file_mut(&path).expect("listed");
        let bit = self.chance.below(file.data.len() as u64 * 8) as usize;
        file.data[bit / 8] ^= 1 << (bit % 8);
        self.trace.note(self.now, format_args!("bit {bit} of {path} flips"));
        self.model.partition(id).expect("known").rotten.push((from, to));
    }

    pub fn crash(&mut self, power: bool) {
        self.trace.note(self.now, format_args!("crash, power lost: {power}"));
        self.count("crashes");
        if self.model.groups.is_rebalancing() {
            self.count("crashes within a rebalance");
        }
        for (shard, core) in std::mem::take(&mut self.cores).into_iter().enumerate() {
            for write in core.commits.into_iter().filter(|write| !write.skipped) {
                let journal = self.disk.journals.get_mut(&(shard as u16, write.file)).expect("made at the start");
                let target = &mut journal[write.position..write.position + write.bytes.len()];
                let fate = self.chance.below(3);
                for (target, source) in target.chunks_mut(SECTOR).zip(write.bytes.chunks(SECTOR)) {
                    if fate == 0 || (fate == 1 && power && self.chance.one_in(2)) {
                        target.copy_from_slice(source);
                    }
                }
            }
            for queue in core.queues.into_values() {
                if self.chance.one_in(2) {
                    continue;
                }
                match queue.into_iter().next() {
                    Some(Op::Write { file, position, bytes, .. }) => {
                        let bytes: Bytes = bytes.concat().into();
                        let part = self.chance.between(1, bytes.len() as u64) as usize;
                        let _ = self.disk.write(&file, position, &[bytes.slice(..part)]);
                    }
                    Some(Op::Change { change, .. }) => drop(self.disk.change(&change)),
                    _ => {}
                }
            }
        }
        self.end(power);
    }

    pub fn end(&mut self, power: bool) {
        if power {
            self.disk.lose_power(&mut self.chance);
        }
        self.stopping = false;
        self.doom = None;
        self.end_life();
        if !self.stays_down {
            let at = self.now + self.chance.between(1_000, 40_000);
            self.at(at, Happening::Restart);
        }
    }

    pub fn begin_stop(&mut self) {
        self.trace.note(self.now, format_args!("stop"));
        self.stopping = true;
        self.stop_began_at = self.now;
        self.disk.refused = false;
        let now = self.time();
        for shard in 0..self.cores.len() as u16 {
            let mut effects = Vec::new();
            self.cores[usize::from(shard)].shard.begin_stop(now, &mut effects);
            self.perform(shard, effects);
            self.schedule_turn(shard);
        }
        self.at(self.now + 1_000, Happening::StopLook);
    }

    pub fn on_stop_look(&mut self) {
        let done = self.cores.iter().all(|core| core.shard.drained() && core.is_quiet());
        if !done {
            let stuck: Vec<_> = self.cores.iter().map(|core| (core.shard.drained(), core.is_quiet())).collect();
            assert!(self.now < self.stop_began_at + 30_000_000, "the stop does not end: {stuck:?}");
            return self.at(self.now + 1_000, Happening::StopLook);
        }
        self.trace.note(self.now, format_args!("stopped"));
        self.count("stops");
        // Without space the journal keeps what the segments could not take.
        if !self.disk.refused && !self.model.offline {
            crate::segments::check(self);
        }
        self.disk.small.insert(MARK.to_owned(), Bytes::new());
        self.end(false);
    }
}
