//! One core's shard and what it asked for: the turn, and another way to perform effects than the reactor's. Commits land in
//! order, files change in the order of their directory, messages between two cores keep theirs; all else is chance.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use crc32c::crc32c;
use gannet::shard::{CommitId, Effect, Event, FileChange, FileError, FileKind, FileName, OperationId, Shard, Space};

use crate::chance::Trace;
use crate::disk::parent;
use crate::faults::Mutation;
use crate::world::{Happening, World};

const EVENTS_PER_TURN: u64 = 50;
/// What a request takes of a core, where a quota asks.
const REQUEST_NS: u64 = 200_000;
/// How much longer commits take where they overtake each other, so that clients hear of one before the one below it is down.
const OVERTAKEN_US: u64 = 2_000;

pub enum Op {
    Write {
        operation: OperationId,
        file: FileName,
        position: u64,
        bytes: Vec<Bytes>,
    },
    Change {
        operation: OperationId,
        change: FileChange,
    },
    /// A sync waits here until what came before is done.
    Barrier(OperationId),
}

pub struct CommitWrite {
    pub commit: CommitId,
    pub file: u16,
    pub position: usize,
    pub bytes: Vec<u8>,
    pub skipped: bool,
}

pub struct Core {
    pub shard: Shard,
    pub inbox: VecDeque<Event>,
    pub turn_at: Option<u64>,
    /// By directory.
    pub queues: BTreeMap<String, VecDeque<Op>>,
    /// Directories that a sync still waits for, and its files.
    syncs: BTreeMap<OperationId, (BTreeSet<String>, Vec<FileName>)>,
    syncing: usize,
    pub commits: VecDeque<CommitWrite>,
    landed_at: u64,
    /// The last commit that the shard was told of.
    told: Option<CommitId>,
    message_at: BTreeMap<u16, u64>,
}

impl Core {
    /// A commit was told of while an earlier one is still on its way.
    pub fn is_overtaken(&self) -> bool {
        self.commits.front().is_some_and(|write| self.told > Some(write.commit))
    }

    pub fn new(shard: Shard) -> Core {
        Core {
            shard,
            inbox: VecDeque::new(),
            turn_at: None,
            queues: BTreeMap::new(),
            syncs: BTreeMap::new(),
            syncing: 0,
            commits: VecDeque::new(),
            landed_at: 0,
            told: None,
            message_at: BTreeMap::new(),
        }
    }

    pub fn is_syncing(&self) -> bool {
        self.syncing > 0 || !self.syncs.is_empty()
    }

    pub fn is_quiet(&self) -> bool {
        self.inbox.is_empty() && self.queues.is_empty() && !self.is_syncing() && self.commits.is_empty()
    }
}

impl World {
    pub fn turn(&mut self, shard: u16) {
        let now = self.time();
        let core = &mut self.cores[usize::from(shard)];
        if core.turn_at.is_none_or(|planned| planned > self.now) {
            return;
        }
        core.turn_at = None;
        let taken = self.chance.between(1, EVENTS_PER_TURN) as usize;
        let mut effects = Vec::new();
        if core.shard.times_requests() {
            core.shard.on_request_time(now, REQUEST_NS);
        }
        for event in core.inbox.drain(..taken.min(core.inbox.len())) {
            note_event(&mut self.trace, self.now, shard, &event);
            core.shard.step(now, event, &mut effects);
        }
        core.shard.end_turn(now, &mut effects);
        self.perform(shard, effects);
        self.meet_doom();
        let Some(core) = self.cores.get(usize::from(shard)) else { return };
        if let Some(failure) = core.shard.failure() {
            assert!(failure.contains("an input/output error"), "shard {shard} gave up: {failure}");
            return self.crash(false);
        }
        if !core.inbox.is_empty() {
            self.schedule_turn(shard);
        } else if let Some(deadline) = core.shard.next_deadline() {
            self.turn_by(shard, deadline.max(self.now + 1));
        }
        self.pump(shard);
    }

    pub fn perform(&mut self, shard: u16, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Respond { connection, response } => self.respond(connection, response.concat().into()),
                Effect::Close { connection } => self.close(shard, connection),
                Effect::Mute { connection, until } => self.mute(shard, connection, until),
                Effect::Send { to, message } => {
                    let delay = self.faults.message_us(&mut self.chance);
                    let core = &mut self.cores[usize::from(shard)];
                    let at = core.message_at.entry(to.0).or_default();
                    *at = (*at).max(self.now + delay);
                    let at = *at;
                    self.at(at, Happening::Message(shard, to.0, message));
                }
                Effect::Commit { commit, block } => {
                    let mut bytes = vec![0; block.length()];
                    block.encode_into(&mut bytes);
                    self.trace.note(
                        self.now,
                        format_args!(
                            "shard {shard} commits {} at {}:{} {:08x}",
                            commit.0,
                            block.file,
                            block.position,
                            crc32c(&bytes)
                        ),
                    );
                    self.count("commits");
                    self.commit(shard, commit, block.file, block.position as usize, bytes);
                }
                Effect::Write { operation, file, position, bytes } => {
                    let directory = file.directory.to_string();
                    self.enqueue(shard, directory, Op::Write { operation, file, position, bytes });
                }
                Effect::Read { operation, file, position, length } => {
                    self.count("reads");
                    self.trace.note(self.now, format_args!("shard {shard} reads {file} {position}+{length}"));
                    let at = self.now + self.faults.disk_us(&mut self.chance);
                    self.at(at, Happening::ReadDone(shard, operation, file, position, length));
                }
                Effect::Space { log_dir } => {
                    let space = Space { total_bytes: 1 << 40, usable_bytes: 1 << 39 };
                    self.deliver(shard, Event::Space { log_dir, space: Ok(space) });
                }
                Effect::File { operation, change } => self.change(shard, operation, change),
                Effect::Compact { operation, compaction, bytes } => {
                    let at = self.now + self.faults.disk_us(&mut self.chance);
                    self.trace.note(self.now, format_args!("shard {shard} compacts {:08x}", crc32c(&bytes)));
                    self.at(at, Happening::Compacted(shard, operation, compaction, bytes));
                }
            }
        }
    }

    fn commit(&mut self, shard: u16, commit: CommitId, file: u16, position: usize, bytes: Vec<u8>) {
        let skipped = self.mutates(Mutation::LoseCommit) && self.chance.one_in(20);
        let mut delay = self.faults.commit_us(&mut self.chance);
        if self.mutates(Mutation::ReorderCommits) {
            delay += OVERTAKEN_US;
        }
        if self.mutates(Mutation::AckEarly) {
            self.deliver(shard, Event::Committed { commit });
        }
        let core = &mut self.cores[usize::from(shard)];
        core.landed_at = core.landed_at.max(self.now + delay);
        let at = core.landed_at;
        core.commits.push_back(CommitWrite { commit, file, position, bytes, skipped });
        self.at(at, Happening::Landed(shard));
    }

    pub fn on_landed(&mut self, shard: u16) {
        let swapped = self.mutates(Mutation::ReorderCommits);
        let core = &mut self.cores[usize::from(shard)];
        let landed = if swapped { core.commits.pop_back() } else { core.commits.pop_front() };
        let landed = landed.expect("every write lands once");
        if !landed.skipped {
            let journal = self.disk.journals.get_mut(&(shard, landed.file)).expect("made at the start");
            journal[landed.position..landed.position + landed.bytes.len()].copy_from_slice(&landed.bytes);
        }
        let late = swapped && landed.commit < self.cores[usize::from(shard)].told.unwrap_or(landed.commit);
        if !self.mutates(Mutation::AckEarly) && !late {
            self.cores[usize::from(shard)].told = Some(landed.commit);
            self.deliver(shard, Event::Committed { commit: landed.commit });
        }
    }

    fn change(&mut self, shard: u16, operation: OperationId, change: FileChange) {
        self.trace.note(self.now, format_args!("shard {shard} {}", describe(&change)));
        match &change {
            FileChange::Truncate { .. } => self.count("closed segments"),
            FileChange::Preallocate { .. } => self.count("segments given room at once"),
            FileChange::Sync { .. } => self.count("checkpoint rounds"),
            FileChange::DeleteDirectory { .. } => self.count("deleted directories"),
            FileChange::Rename { to: FileKind::DeletedLog, .. } => self.count("removed segments"),
            FileChange::Rename { file, .. } if file.kind == FileKind::SwapLog => self.count("compacted segments"),
            _ => {}
        }
        let directory = match &change {
            FileChange::CreateDirectory { directory, .. } | FileChange::DeleteDirectory { directory } => {
                directory.to_string()
            }
            FileChange::Put { file, .. }
            | FileChange::Preallocate { file, .. }
            | FileChange::Truncate { file, .. }
            | FileChange::Delete { file }
            | FileChange::Rename { file, .. } => file.directory.to_string(),
            FileChange::Replace { path, .. } => parent(path).to_owned(),
            FileChange::Sync { files } => return self.sync(shard, operation, files.clone()),
        };
        self.enqueue(shard, directory, Op::Change { operation, change });
    }

    fn sync(&mut self, shard: u16, operation: OperationId, files: Vec<FileName>) {
        let core = &mut self.cores[usize::from(shard)];
        let busy: BTreeSet<String> = files.iter().map(|file| file.directory.to_string()).collect();
        let busy: BTreeSet<String> = busy.into_iter().filter(|name| core.queues.contains_key(name)).collect();
        core.syncs.insert(operation, (busy.clone(), files));
        if busy.is_empty() {
            return self.start_sync(shard, operation);
        }
        for directory in busy {
            self.enqueue(shard, directory, Op::Barrier(operation));
        }
    }

    pub fn on_sync_end(&mut self, shard: u16, operation: OperationId, files: Vec<FileName>) {
        self.cores[usize::from(shard)].syncing -= 1;
        let outcome = match self.mutates(Mutation::DropSync) {
            true => Ok(()),
            false => self.disk.change(&FileChange::Sync { files }),
        };
        self.done(shard, operation, outcome);
    }

    pub fn on_read_end(&mut self, shard: u16, operation: OperationId, file: &FileName, position: u64, length: u32) {
        let mut bytes = self.disk.read(file, position, length);
        if self.mutates(Mutation::StaleRead)
            && let Ok(read) = &mut bytes
            && self.chance.one_in(4)
        {
            // Another place of the same file.
            *read = self.disk.read(file, 0, read.len() as u32).expect("it was just read");
        }
        self.deliver(shard, Event::Read { operation, bytes });
    }

    fn start_sync(&mut self, shard: u16, operation: OperationId) {
        let core = &mut self.cores[usize::from(shard)];
        core.syncing += 1;
        let (_, files) = core.syncs.remove(&operation).expect("it waits");
        let at = self.now + self.faults.disk_us(&mut self.chance);
        self.at(at, Happening::Synced(shard, operation, files));
    }

    fn enqueue(&mut self, shard: u16, directory: String, op: Op) {
        let core = &mut self.cores[usize::from(shard)];
        let queue = core.queues.entry(directory.clone()).or_default();
        queue.push_back(op);
        if queue.len() == 1 {
            let at = self.now + self.faults.disk_us(&mut self.chance);
            self.at(at, Happening::FileStep(shard, directory));
        }
    }

    pub fn on_file_step(&mut self, shard: u16, directory: &str) {
        let core = &mut self.cores[usize::from(shard)];
        let queue = core.queues.get_mut(directory).expect("it has something to do");
        let op = queue.pop_front().expect("never empty");
        if queue.is_empty() {
            core.queues.remove(directory);
        } else {
            let at = self.now + self.faults.disk_us(&mut self.chance);
            self.at(at, Happening::FileStep(shard, directory.to_owned()));
        }
        match op {
            Op::Barrier(operation) => {
                let core = &mut self.cores[usize::from(shard)];
                let (waits_for, _) = core.syncs.get_mut(&operation).expect("it waits");
                waits_for.remove(directory);
                if waits_for.is_empty() {
                    self.start_sync(shard, operation);
                }
            }
            Op::Write { operation, file, position, bytes } => {
                let lost = self.mutates(Mutation::LoseWrite) && self.chance.one_in(10);
                let outcome = if lost { Ok(()) } else { self.disk.write(&file, position, &bytes) };
                self.trace.note(self.now, format_args!("shard {shard} wrote {file} at {position}: {outcome:?}"));
                self.count(if outcome.is_ok() { "writes" } else { "refused writes" });
                self.done(shard, operation, outcome);
            }
            Op::Change { operation, change } => {
                let table = matches!(&change, FileChange::Replace { path, .. } if path.contains("checkpoint"));
                let lost = table && self.mutates(Mutation::LoseTable) && self.chance.one_in(2);
                let kept = matches!(&change, FileChange::Replace { path, .. } if path.contains("/kept-"));
                let lost = lost || kept && self.mutates(Mutation::ForgetKept);
                let outcome = if lost { Ok(()) } else { self.disk.change(&change) };
                self.done(shard, operation, outcome);
            }
        }
        self.meet_doom_in_swap(directory);
    }

    pub fn done(&mut self, shard: u16, operation: OperationId, outcome: Result<(), FileError>) {
        self.deliver(shard, Event::Done { operation, outcome });
    }
}

fn describe(change: &FileChange) -> String {
    match change {
        FileChange::Replace { path, bytes } => format!("replaces {path} {} {:08x}", bytes.len(), crc32c(bytes)),
        FileChange::Put { file, bytes } => format!("puts {file} {} {:08x}", bytes.len(), crc32c(bytes)),
        FileChange::CreateDirectory { directory, topic } => format!("makes {directory} of {topic}"),
        FileChange::DeleteDirectory { directory } => format!("deletes {directory}"),
        FileChange::Preallocate { file, length } => format!("gives {file} room for {length}"),
        FileChange::Truncate { file, length } => format!("cuts {file} to {length}"),
        FileChange::Delete { file } => format!("deletes {file}"),
        FileChange::Rename { file, to } => format!("renames {file} to .{}", to.extension()),
        FileChange::Sync { files } => format!("syncs {} files", files.len()),
    }
}

fn note_event(trace: &mut Trace, now: u64, shard: u16, event: &Event) {
    match event {
        Event::Opened { connection, .. } => trace.note(now, format_args!("shard {shard} opened {connection:?}")),
        Event::Request { connection, frame } => {
            let key = i16::from_be_bytes([frame[0], frame[1]]);
            let version = i16::from_be_bytes([frame[2], frame[3]]);
            trace.note(
                now,
                format_args!("shard {shard} request {key} v{version} {} {:08x}", connection.generation, crc32c(frame)),
            );
        }
        Event::Closed { connection } => trace.note(now, format_args!("shard {shard} closed {}", connection.generation)),
        Event::Message { from, message } => {
            let text = if trace.printed { format!("{message:?}") } else { String::new() };
            let kind = std::mem::discriminant(message);
            // The text is only for people: formatting it takes longer than the step.
            if trace.printed {
                eprintln!("           from {}: {}", from.0, &text[..text.len().min(400)]);
            }
            trace.note(now, format_args!("shard {shard} message from {} {kind:?}", from.0));
        }
        Event::Committed { commit } => trace.note(now, format_args!("shard {shard} committed {}", commit.0)),
        Event::Read { operation, bytes } => trace.note(
            now,
            format_args!("shard {shard} read {} {:?}", operation.0, bytes.as_ref().map(|bytes| crc32c(bytes))),
        ),
        Event::Space { log_dir, space } => {
            trace.note(now, format_args!("shard {shard} space {log_dir} {space:?}"));
        }
        Event::Done { operation, outcome } => {
            trace.note(now, format_args!("shard {shard} done {} {outcome:?}", operation.0));
        }
        Event::Compacted { operation, .. } => trace.note(now, format_args!("shard {shard} compacted {}", operation.0)),
    }
}
