//! Real shards above a machine that obeys at once: commits land when asked, files obey in the same turn, messages arrive in
//! the next. What a shard allocates and says is counted, what this file does is not.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use gannet::config::BrokerConfig;
use gannet::coordinator::BrokerRegistration;
use gannet::journal::{Journal, JournalBlock, JournalLayout, Run};
use gannet::metadata::Endpoint;
use gannet::protocol::{CreateTopicsResponse, decode_response};
use gannet::shard::{
    CommitId, ConnectionId, Effect, Event, FileChange, FileError, FileName, Found, Message, OperationId, Shard,
    ShardStart, recover,
};
use gannet::types::{ShardId, Time, Uuid};

use crate::allocations::{Allocations, note_places};
use crate::wire;

pub const PRODUCER: ConnectionId = ConnectionId { slot: 0, generation: 1 };
pub const CONSUMER: ConnectionId = ConnectionId { slot: 1, generation: 1 };

pub struct Cores {
    cores: Vec<Core>,
    now: Time,
    effects: Vec<Effect>,
    messages: VecDeque<(ShardId, ShardId, Message)>,
    /// Answers, oldest first.
    pub responses: VecDeque<Vec<Bytes>>,
    /// Of commits, and pieces that went to segments; kept where a test looks at them.
    pub keeps_bytes: bool,
    pub blocks: Vec<JournalBlock>,
    pub written: Vec<Bytes>,
    /// Whether files keep what is written to them.
    pub keeps_files: bool,
    files: HashMap<FileName, Vec<u8>>,
    /// Asked of files, since the start.
    pub read_bytes: u64,
    /// Between cores, since the start.
    pub messages_sent: u64,
    /// By the shards, since the start.
    pub allocated: Allocations,
    /// Where they do it is noted too, which is slow.
    pub notes_places: bool,
}

struct Core {
    shard: Shard,
    committing: VecDeque<CommitId>,
    done: Vec<OperationId>,
    reads: VecDeque<Event>,
}

impl Cores {
    /// Clients are connected to the first.
    pub fn open(count: u16) -> Cores {
        Cores::open_as(count, BrokerConfig::default())
    }

    pub fn open_as(count: u16, config: BrokerConfig) -> Cores {
        let config = Arc::new(BrokerConfig { log_dirs: vec!["memory".into()], ..config });
        let found = Found {
            cluster_id: "counts".into(),
            config: config.clone(),
            journals: Vec::new(),
            checkpoints: Vec::new(),
            cleaning: Default::default(),
            partitions: Vec::new(),
            kept: Vec::new(),
            log_dirs: vec!["memory".into()],
            incomplete: false,
        };
        let recovery = recover(found, false, &mut |_, _| Bytes::new()).expect("nothing was there");
        let run = Run { first_generation: recovery.next_generation, salt: 0x5a17 };
        let image = Arc::new(recovery.image);
        let mut logs: Vec<_> = (0..count).map(|_| Vec::new()).collect();
        for found in recovery.partitions {
            logs[usize::from(found.id.owner(count).0)].push((found.id, found.directory, found.log));
        }
        let now = Time { monotonic_us: 1, wall_ms: 1_700_000_000_000 };
        let mut opening = Vec::new();
        let starts = logs.into_iter().zip(0..).map(|(logs, id)| ShardStart {
            id: ShardId(id),
            shards: count,
            journal: Journal::new(JournalLayout::of(ShardId(id), &config.gannet), run),
            registration: registration(config.node_id),
            config: config.clone(),
            image: image.clone(),
            checkpoint_path: "memory/checkpoint".into(),
            cleaning_path: "memory/cleaning".into(),
            logs,
            offline: Arc::default(),
            seed: 1,
        });
        let mut open = |start| {
            let mut effects = Vec::new();
            let shard = Shard::open(now, start, &mut effects);
            opening.push(effects);
            Core { shard, committing: VecDeque::new(), done: Vec::new(), reads: VecDeque::new() }
        };
        let mut cores = Cores {
            cores: starts.map(&mut open).collect(),
            now,
            effects: Vec::new(),
            messages: VecDeque::new(),
            responses: VecDeque::new(),
            keeps_bytes: false,
            blocks: Vec::new(),
            written: Vec::new(),
            keeps_files: false,
            files: HashMap::new(),
            read_bytes: 0,
            messages_sent: 0,
            allocated: Allocations::default(),
            notes_places: false,
        };
        for (index, effects) in opening.into_iter().enumerate() {
            cores.effects = effects;
            cores.perform(index);
        }
        cores.settle();
        for connection in [PRODUCER, CONSUMER] {
            cores.turn(0, Some(Event::Opened { connection, listener: 0, peer: "127.0.0.1".to_owned() }));
        }
        cores
    }

    pub fn create_topic(&mut self, partitions: i32) -> Uuid {
        self.request(PRODUCER, wire::create_topic(partitions));
        self.settle();
        let response = self.take_response();
        let (_, created) = decode_response::<CreateTopicsResponse>(&response, 7).expect("a response");
        assert_eq!(created.topics[0].error_code, 0);
        created.topics[0].topic_id
    }

    /// One request, in a turn of its own.
    pub fn request(&mut self, connection: ConnectionId, frame: BytesMut) {
        self.turn(0, Some(Event::Request { connection, frame }));
    }

    /// Several requests in one turn.
    pub fn requests(&mut self, connection: ConnectionId, frames: impl Iterator<Item = BytesMut>) {
        for frame in frames {
            self.step(0, Event::Request { connection, frame });
        }
        self.turn(0, None);
    }

    /// Until nothing is under way any more.
    pub fn settle(&mut self) {
        loop {
            let mut moved = false;
            if let Some((from, to, message)) = self.messages.pop_front() {
                moved = true;
                self.turn(usize::from(to.0), Some(Event::Message { from, message }));
            }
            for index in 0..self.cores.len() {
                if let Some(commit) = self.cores[index].committing.pop_front() {
                    moved = true;
                    self.turn(index, Some(Event::Committed { commit }));
                } else if let Some(read) = self.cores[index].reads.pop_front() {
                    moved = true;
                    self.turn(index, Some(read));
                } else if !self.cores[index].done.is_empty() {
                    moved = true;
                    self.turn(index, None);
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Time goes by with nothing happening.
    pub fn pass_ms(&mut self, ms: u64) {
        self.now.monotonic_us += ms * 1000;
        for index in 0..self.cores.len() {
            self.turn(index, None);
        }
        self.settle();
    }

    /// The oldest answer, in one piece and without its length.
    pub fn take_response(&mut self) -> Bytes {
        Bytes::from(self.responses.pop_front().expect("an answer").concat()).slice(4..)
    }

    /// One turn of a reactor.
    fn turn(&mut self, index: usize, event: Option<Event>) {
        self.now.monotonic_us += 50;
        if let Some(event) = event {
            self.step(index, event);
        }
        while let Some(operation) = self.cores[index].done.pop() {
            self.step(index, Event::Done { operation, outcome: Ok(()) });
        }
        let now = self.now;
        self.counted(index, |shard, effects| shard.end_turn(now, effects));
        self.perform(index);
    }

    fn step(&mut self, index: usize, event: Event) {
        let now = self.now;
        self.counted(index, |shard, effects| shard.step(now, event, effects));
    }

    fn counted(&mut self, index: usize, work: impl FnOnce(&mut Shard, &mut Vec<Effect>)) {
        let before = Allocations::made();
        note_places(self.notes_places);
        work(&mut self.cores[index].shard, &mut self.effects);
        note_places(false);
        self.allocated += Allocations::made() - before;
    }

    fn perform(&mut self, index: usize) {
        let core = &mut self.cores[index];
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Respond { response, .. } => self.responses.push_back(response),
                Effect::Send { to, message } => {
                    self.messages_sent += 1;
                    self.messages.push_back((ShardId(index as u16), to, message));
                }
                Effect::Commit { commit, block } => {
                    core.committing.push_back(commit);
                    if self.keeps_bytes {
                        self.blocks.push(block);
                    }
                }
                Effect::Write { operation, file, position, bytes } => {
                    core.done.push(operation);
                    if self.keeps_files {
                        let content = self.files.entry(file).or_default();
                        assert_eq!(content.len() as u64, position);
                        bytes.iter().for_each(|piece| content.extend_from_slice(piece));
                    }
                    if self.keeps_bytes {
                        self.written.extend(bytes);
                    }
                }
                Effect::Read { operation, file, position, length } => {
                    self.read_bytes += u64::from(length);
                    let content = self.files.get(&file).ok_or(FileError::NotFound);
                    let bytes = content.map(|content| {
                        let rest = &content[content.len().min(position as usize)..];
                        Bytes::copy_from_slice(&rest[..rest.len().min(length as usize)])
                    });
                    core.reads.push_back(Event::Read { operation, bytes });
                }
                Effect::File { operation, change } => {
                    core.done.push(operation);
                    if let FileChange::Put { file, bytes } = change {
                        self.files.insert(file, bytes.to_vec());
                    }
                }
                // Room is looked at on a start, and what was not answered yet counts as enough.
                Effect::Space { .. } => {}
                Effect::Close { .. } | Effect::Mute { .. } | Effect::Compact { .. } => {
                    panic!("not in these tests: {effect:?}")
                }
            }
        }
    }
}

fn registration(id: i32) -> BrokerRegistration {
    let endpoint =
        Endpoint { listener: "PLAINTEXT".into(), host: "localhost".into(), port: 9092, security_protocol: 0 };
    BrokerRegistration {
        id,
        incarnation: Uuid::from_random(1),
        endpoints: vec![endpoint],
        rack: None,
        after_crash: false,
    }
}
