//! A start, as the broker does it, that may be cut short at any step: what the last life left is read, the plan that
//! recovery makes of it is carried out, and only then the shards begin.

use std::sync::Arc;

use bytes::Bytes;
use gannet::coordinator::BrokerRegistration;
use gannet::journal::{self, Journal, JournalFileName, JournalLayout, Run, START_TABLES};
use gannet::log::{START_CLEANING, decode_cleaning};
use gannet::metadata::Endpoint;
use gannet::shard::{
    self, FileChange, FileKind, FileName, Found, Kept, OfflineAtStart, RecoveredPartition, Recovery, Shard, ShardStart,
};
use gannet::types::{Map, PartitionId, ShardId, Uuid};

use crate::faults::Mutation;
use crate::perform::Core;
use crate::world::World;

pub const OWN: &str = "/d0/.own";
pub const MARK: &str = "/d0/.own/stopped-in-order";

/// Of the first core, where each has one.
pub const PORT: i32 = 9092;

fn checkpoint_path(shard: u16) -> String {
    format!("{OWN}/checkpoint-{shard}")
}

/// Steps left until a start dies; `None` lets it come to its end.
struct Life(Option<u64>);

impl Life {
    /// One more step; `None` if it is not taken.
    fn goes_on(&mut self) -> Option<()> {
        if let Some(left) = &mut self.0 {
            *left = left.checked_sub(1)?;
        }
        Some(())
    }
}

impl World {
    pub fn tables(&self) -> Vec<journal::Checkpoint> {
        let is_table = |path: &str| path.ends_with(START_TABLES) || path.contains("/checkpoint-");
        let found = self.disk.small.iter().filter(|(path, _)| is_table(path));
        found.flat_map(|(_, bytes)| journal::decode_tables(bytes).expect("tables are replaced whole")).collect()
    }

    pub fn start(&mut self) {
        let shards = if self.faults.cores || self.cores_drawn == 0 {
            self.chance.between(1, 4) as u16
        } else {
            self.cores_drawn
        };
        self.cores_drawn = shards;
        self.disk.capacity = None;
        self.disk.fails_once = false;
        if self.settling || self.chance.one_in(2) {
            self.disk.broken = None;
        }
        self.model.offline = self.disk.broken.is_some();
        let cut_short = (!self.settling && (self.faults.kills || self.faults.power) && self.chance.one_in(4))
            .then(|| self.chance.below(30));
        self.trace.note(self.now, format_args!("start with {shards} cores, cut short {cut_short:?}"));
        match self.prepare(shards, cut_short) {
            Some((recovery, run)) => self.open(shards, recovery, run),
            None => {
                self.count("starts cut short");
                let power = self.faults.power && self.chance.one_in(2);
                self.end(power);
            }
        }
    }

    /// What the broker does with the log directories before any shard exists; `None` if it died over it.
    fn prepare(&mut self, shards: u16, cut_short: Option<u64>) -> Option<(Recovery, Run)> {
        let mut life = Life(cut_short);
        self.disk.delete_leftovers();
        let recovery = self.recover();
        self.model.on_recovered(&recovery);
        for stray in &recovery.strays {
            life.goes_on()?;
            self.change_now(FileChange::DeleteDirectory { directory: stray.clone() });
        }
        for partition in &recovery.partitions {
            self.carry_out(partition, &mut life)?;
        }
        life.goes_on()?;
        self.disk.sync_all();
        let run = Run { first_generation: recovery.next_generation, salt: self.chance.next() };
        let kept_before: Vec<_> = self.kept_files();
        if !recovery.keep.is_empty() && !self.mutates(Mutation::ForgetKept) {
            life.goes_on()?;
            let path = format!("{OWN}/kept-{}-start-{}", run.first_generation, kept_before.len());
            self.disk.small.insert(path, Kept::encode_all(&recovery.keep));
        }
        life.goes_on()?;
        self.disk.small.insert(format!("{OWN}/{START_CLEANING}"), recovery.cleaning_table());
        life.goes_on()?;
        let tables = journal::encode_tables(&recovery.checkpoints(shards, run));
        self.disk.small.insert(format!("{OWN}/{START_TABLES}"), tables);
        life.goes_on()?;
        for (path, ids) in kept_before {
            if !recovery.offline.iter().any(|offline| ids.contains(&offline.id)) {
                self.disk.small.remove(&path);
                life.goes_on()?;
            }
        }
        self.disk.journals.retain(|(shard, _), _| *shard < shards);
        self.disk.small.retain(|path, _| {
            let table = path.rsplit_once("/checkpoint-").or(path.rsplit_once("/cleaning-"));
            let shard = table.and_then(|(_, shard)| shard.parse::<u16>().ok());
            shard.is_none_or(|shard| shard < shards)
        });
        let bytes = self.config.gannet.journal_file_bytes() as usize;
        for shard in 0..shards {
            for index in 0..self.config.gannet.journal_files {
                self.disk.journals.entry((shard, index)).or_insert_with(|| vec![0; bytes]);
            }
        }
        Some((recovery, run))
    }

    /// What is kept of offline partitions: the files, and whose they are.
    fn kept_files(&self) -> Vec<(String, Vec<PartitionId>)> {
        let files = self.disk.small.iter().filter(|(path, _)| path.contains("/kept-"));
        let ids =
            |bytes| Kept::decode_all(bytes).expect("files are replaced whole").iter().map(|kept| kept.id).collect();
        files.map(|(path, bytes)| (path.clone(), ids(bytes))).collect()
    }

    /// After all records are older than retention allows.
    pub fn check_that_all_is_gone(&mut self) {
        let recovery = self.recover();
        let compacted = self.model.compacted.map_or("no such topic".to_owned(), |name| format!("/{name}-"));
        let is_to_go = |partition: &&RecoveredPartition| {
            // Facts and groups outlive what is read and written.
            !partition.directory.contains("/__") && !partition.directory.contains(&compacted)
        };
        for partition in recovery.partitions.iter().filter(is_to_go) {
            let state = &partition.log.state;
            let (start, end) = (state.log_start_offset, state.log_end_offset);
            assert!(start == end, "{}: {start} to {end} is still there", partition.directory);
            let segments = partition.log.sealed.len();
            assert!(segments == 0, "{}: {segments} old segments are still there", partition.directory);
        }
    }

    fn recover(&mut self) -> Recovery {
        let stopped_in_order = self.disk.small.remove(MARK).is_some();
        let journal = |((shard, index), bytes): (&(u16, u16), &Vec<u8>)| {
            (JournalFileName { shard: ShardId(*shard), index: *index }, Bytes::copy_from_slice(bytes))
        };
        let mut journals: Vec<_> = self.disk.journals.iter().map(journal).collect();
        if self.mutates(Mutation::ForgetJournal) && !journals.is_empty() {
            let index = self.chance.below(journals.len() as u64) as usize;
            journals.remove(index);
        }
        if self.mutates(Mutation::FlipJournal) {
            for (_, bytes) in &mut journals {
                let mut flipped = bytes.to_vec();
                let bit = self.chance.below(flipped.len() as u64 * 8) as usize;
                flipped[bit / 8] ^= 1 << (bit % 8);
                *bytes = flipped.into();
            }
        }
        let mut checkpoints = self.tables();
        if self.mutates(Mutation::ForgetTable) && !checkpoints.is_empty() {
            let shard = checkpoints[self.chance.below(checkpoints.len() as u64) as usize].shard;
            checkpoints.retain(|table| table.shard != shard);
        }
        let (config, mut partitions) = (self.config.clone(), self.disk.partitions());
        if self.mutates(Mutation::ForgetSwap) {
            partitions.iter_mut().for_each(|partition| partition.swaps.clear());
        }
        let mut cleaning = Map::default();
        for (_, bytes) in self.disk.small.iter().filter(|(path, _)| path.contains("/cleaning-")) {
            decode_cleaning(bytes, &mut cleaning).expect("tables are replaced whole");
        }
        let is_kept = |path: &String| path.contains("/kept-");
        let kept = self.disk.small.iter().filter(|(path, _)| is_kept(path));
        let kept = kept.flat_map(|(_, bytes)| Kept::decode_all(bytes).expect("files are replaced whole")).collect();
        let broken = self.disk.broken;
        let log_dirs = config.log_dirs.iter().filter(|log_dir| Some(log_dir.as_str()) != broken).cloned().collect();
        let found = Found {
            cluster_id: "sim".into(),
            config,
            journals,
            checkpoints,
            cleaning,
            kept,
            partitions,
            log_dirs,
            incomplete: broken.is_some(),
        };
        let recovery = shard::recover(found, stopped_in_order, &mut |directory, base_offset| {
            let name = FileName { directory: directory.into(), base_offset, kind: FileKind::Log };
            self.disk.read(&name, 0, u32::MAX).expect("recovery reads what was found")
        });
        recovery.unwrap_or_else(|error| panic!("the node does not start: {error}"))
    }

    fn carry_out(&mut self, partition: &RecoveredPartition, life: &mut Life) -> Option<()> {
        let RecoveredPartition { id, directory, is_new, log } = partition;
        life.goes_on()?;
        if *is_new {
            self.change_now(FileChange::CreateDirectory { directory: directory.clone(), topic: id.topic });
        }
        let name = |base_offset, kind| FileName { directory: directory.clone(), base_offset, kind };
        let kinds = [FileKind::Log, FileKind::OffsetIndex, FileKind::TimeIndex];
        for swap in &log.swaps {
            for base_offset in &swap.covers {
                life.goes_on()?;
                kinds
                    .into_iter()
                    .for_each(|kind| self.change_now(FileChange::Delete { file: name(*base_offset, kind) }));
            }
            life.goes_on()?;
            self.disk.sync_directory(directory);
            life.goes_on()?;
            self.change_now(FileChange::Rename { file: name(swap.base_offset, FileKind::SwapLog), to: FileKind::Log });
        }
        let deleted = if self.mutates(Mutation::KeepSegments) { &[][..] } else { &log.delete[..] };
        for base_offset in deleted {
            life.goes_on()?;
            kinds.into_iter().for_each(|kind| self.change_now(FileChange::Delete { file: name(*base_offset, kind) }));
        }
        if log.index_is_stale {
            for kind in [FileKind::OffsetIndex, FileKind::TimeIndex] {
                self.change_now(FileChange::Delete { file: name(log.active.base_offset, kind) });
            }
        }
        let active = name(log.active.base_offset, FileKind::Log);
        let size = self.disk.file(&active.to_string()).map_or(0, |file| file.data.len() as u64);
        if size == log.active.size && log.append.is_empty() {
            return Some(());
        }
        life.goes_on()?;
        self.change_now(FileChange::Truncate { file: active.clone(), length: log.keep });
        life.goes_on()?;
        let bytes: Vec<_> = log.append.iter().map(|batch| batch.bytes().clone()).collect();
        if !bytes.is_empty() {
            self.disk.write(&active, log.keep, &bytes).expect("there is space");
            self.change_now(FileChange::Truncate { file: active, length: log.active.size });
        }
        Some(())
    }

    fn change_now(&mut self, change: FileChange) {
        self.disk.change(&change).expect("there is space at a start");
    }

    fn open(&mut self, shards: u16, recovery: Recovery, run: Run) {
        self.born_at = self.now;
        let image = Arc::new(recovery.image);
        let nodes = if self.config.gannet.listener_per_core { shards } else { 1 };
        let endpoint = |core| Endpoint {
            listener: "PLAINTEXT".into(),
            host: "localhost".into(),
            port: PORT as u16 + core,
            security_protocol: 0,
        };
        let registration = BrokerRegistration {
            id: self.config.node_id,
            incarnation: Uuid::from_random(u128::from(self.chance.next()) << 64 | u128::from(self.chance.next())),
            endpoints: (0..nodes).map(endpoint).collect(),
            rack: None,
            after_crash: recovery.after_crash,
        };
        let offline = Arc::new(OfflineAtStart {
            log_dirs: self.disk.broken.map(|_| 1).into_iter().collect(),
            partitions: recovery.offline,
        });
        let mut logs: Vec<Vec<_>> = (0..shards).map(|_| Vec::new()).collect();
        for partition in recovery.partitions {
            let owner = usize::from(partition.id.owner(shards).0);
            logs[owner].push((partition.id, partition.directory, partition.log));
        }
        let seed = self.chance.next();
        for (index, logs) in logs.into_iter().enumerate() {
            let id = ShardId(index as u16);
            let start = ShardStart {
                id,
                shards,
                config: self.config.clone(),
                image: image.clone(),
                journal: Journal::new(JournalLayout::of(id, &self.config.gannet), run),
                checkpoint_path: checkpoint_path(id.0).into(),
                cleaning_path: format!("{OWN}/cleaning-{}", id.0).into(),
                logs,
                offline: offline.clone(),
                registration: registration.clone(),
                seed: seed.wrapping_add(index as u64),
            };
            let mut effects = Vec::new();
            let shard = Shard::open(self.time(), start, &mut effects);
            self.cores.push(Core::new(shard));
            self.perform(id.0, effects);
        }
        for shard in 0..shards {
            self.schedule_turn(shard);
        }
    }
}
