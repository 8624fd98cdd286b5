//! The world around the shards: one heap of future events, the clients and their connections.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use crc32c::crc32c;
use gannet::config::BrokerConfig;
use gannet::shard::{Compaction, ConnectionId, Event, FileName, Message, OperationId};
use gannet::types::{ShardId, Time};

use crate::chance::{Chance, Trace};
use crate::client::{Action, Client, Ctx, WALL_MS};
use crate::disk::Disk;
use crate::faults::{Faults, Mutation};
use crate::model::{Model, Retention};
use crate::perform::Core;

/// What will happen at a time.
pub enum Happening {
    Turn(u16),
    Unmuted(u16),
    Landed(u16),
    FileStep(u16, String),
    Synced(u16, OperationId, Vec<FileName>),
    Compacted(u16, OperationId, Box<Compaction>, Bytes),
    ReadDone(u16, OperationId, FileName, u64, u32),
    Message(u16, u16, Message),
    ToNode(u64, Bytes),
    Connected(u64),
    /// The client closed it.
    Left(u64),
    ToClient(u64, Bytes),
    Cut(u64),
    Alarm(usize, u64),
    Fault,
    Restart,
    /// A crash has waited long enough for its moment.
    Doom,
    /// Whether the stop is done.
    StopLook,
}

pub struct Wire {
    pub client: usize,
    pub shard: u16,
    pub id: ConnectionId,
    /// Frames that the node has not read.
    unread: VecDeque<Bytes>,
    /// None of them is read before then.
    muted_until: u64,
    to_node_at: u64,
    to_client_at: u64,
    open: bool,
}

pub struct World {
    pub now: u64,
    pub chance: Chance,
    pub trace: Trace,
    pub faults: Faults,
    pub mutation: Option<Mutation>,
    pub config: Arc<BrokerConfig>,
    pub disk: Disk,
    pub cores: Vec<Core>,
    /// Counts the lives of the process: what a former one began has no effect any more.
    life: u64,
    pub born_at: u64,
    died_at: u64,
    heap: BTreeMap<(u64, u64), (u64, Happening)>,
    sequence: u64,
    wires: BTreeMap<u64, Wire>,
    next_wire: u64,
    pub clients: Vec<Option<Box<dyn Client>>>,
    /// The connection of each client, if it has one, and the alarm that counts.
    lines: Vec<(Option<u64>, u64)>,
    pub model: Model,
    pub settling: bool,
    pub stopping: bool,
    pub doom: Option<(bool, crate::faults::Moment)>,
    /// Changes of files since a compacted segment began to take the place of others, for that doom.
    pub swap_steps: usize,
    pub stop_began_at: u64,
    pub cores_drawn: u16,
    /// The next stop is the last one.
    pub stays_down: bool,
    pub events: u64,
    pub counts: BTreeMap<&'static str, u64>,
}

impl World {
    pub fn new(seed: u64, mutation: Option<Mutation>, printed: bool) -> World {
        let mut chance = Chance::new(seed);
        let faults = Faults::draw(&mut chance);
        let mut config = faults.config(&mut chance);
        // A chance of its own, so that what else a seed has on stays.
        config.gannet.listener_per_core = Chance::new(!seed).one_in(3);
        let config = Arc::new(config);
        let (ms, bytes) = (config.topic.retention_ms, config.topic.retention_bytes);
        let mut model = Model::default();
        model.compacted = faults.compaction.then_some("orders");
        model.retention = faults.retention.then_some(Retention { ms, bytes });
        World {
            now: 0,
            chance,
            trace: Trace::new(printed),
            faults,
            mutation,
            config,
            disk: Disk::default(),
            cores: Vec::new(),
            life: 0,
            born_at: 0,
            died_at: 0,
            heap: BTreeMap::new(),
            sequence: 0,
            wires: BTreeMap::new(),
            next_wire: 1,
            clients: Vec::new(),
            lines: Vec::new(),
            model,
            settling: false,
            stopping: false,
            doom: None,
            swap_steps: 0,
            stop_began_at: 0,
            cores_drawn: 0,
            stays_down: false,
            events: 0,
            counts: BTreeMap::new(),
        }
    }

    pub fn time(&self) -> Time {
        Time { monotonic_us: self.now, wall_ms: WALL_MS + self.now as i64 / 1000 }
    }

    pub fn at(&mut self, at: u64, happening: Happening) {
        self.sequence += 1;
        self.heap.insert((at.max(self.now), self.sequence), (self.life, happening));
    }

    fn is_ready(&self) -> bool {
        !self.cores.is_empty() && !self.stopping
    }

    /// Everything of the process that ran is gone; clients notice.
    pub fn end_life(&mut self) {
        self.life += 1;
        self.died_at = self.now;
        self.cores.clear();
        let mut cut = Vec::new();
        for (id, wire) in &mut self.wires {
            wire.unread.clear();
            if std::mem::take(&mut wire.open) {
                cut.push((wire.to_client_at.max(self.now) + 200, *id));
            }
        }
        for (at, id) in cut {
            self.at(at, Happening::Cut(id));
        }
    }

    pub fn add_client(&mut self, build: impl FnOnce(&mut Ctx) -> Box<dyn Client>) -> usize {
        let client = self.with_ctx(build).0;
        self.clients.push(Some(client));
        self.lines.push((None, 0));
        let index = self.clients.len() - 1;
        let at = self.now + self.chance.between(0, 5_000);
        self.set_alarm(index, at);
        index
    }

    pub fn drop_client(&mut self, index: usize) {
        self.clients[index] = None;
        if let Some(wire) = self.lines[index].0.take() {
            self.at(self.now, Happening::Left(wire));
        }
    }

    fn with_ctx<T>(&mut self, work: impl FnOnce(&mut Ctx) -> T) -> (T, Vec<Action>) {
        let mut ctx = Ctx {
            now: self.now,
            chance: &mut self.chance,
            model: &mut self.model,
            actions: Vec::new(),
            settling: self.settling,
            patience_us: self.faults.patience_us(),
            life: self.life,
            born_at: self.born_at,
            died_at: self.died_at,
        };
        let outcome = work(&mut ctx);
        (outcome, ctx.actions)
    }

    pub fn ask_client<T>(&mut self, index: usize, work: impl FnOnce(&mut dyn Client, &mut Ctx) -> T) -> Option<T> {
        let mut client = self.clients[index].take()?;
        let (outcome, actions) = self.with_ctx(|ctx| work(&mut *client, ctx));
        self.clients[index] = Some(client);
        for action in actions {
            self.act(index, action);
        }
        Some(outcome)
    }

    fn set_alarm(&mut self, client: usize, at: u64) {
        self.lines[client].1 += 1;
        let number = self.lines[client].1;
        self.at(at, Happening::Alarm(client, number));
    }

    fn network_us(&mut self) -> u64 {
        self.chance.between(20, 120)
    }

    fn act(&mut self, client: usize, action: Action) {
        match action {
            Action::Wake(at) => self.set_alarm(client, at),
            Action::Connect => {
                let shard = self.chance.below(self.cores.len().max(1) as u64) as u16;
                let id = self.next_wire;
                self.next_wire += 1;
                let connection = ConnectionId { slot: id as u32 % 64, generation: id as u32 };
                let wire = Wire {
                    client,
                    shard,
                    id: connection,
                    unread: VecDeque::new(),
                    muted_until: 0,
                    to_node_at: 0,
                    to_client_at: 0,
                    open: true,
                };
                self.wires.insert(id, wire);
                self.lines[client].0 = Some(id);
                let at = self.now + self.network_us();
                self.at(at, Happening::Connected(id));
            }
            Action::Send(frame) => {
                let Some(id) = self.lines[client].0 else { return };
                let delay = self.network_us();
                let now = self.now;
                let Some(wire) = self.wires.get_mut(&id) else { return };
                wire.to_node_at = wire.to_node_at.max(now + delay);
                let at = wire.to_node_at;
                self.at(at, Happening::ToNode(id, frame));
            }
            Action::Close => {
                if let Some(id) = self.lines[client].0.take() {
                    self.at(self.now, Happening::Left(id));
                    self.ask_client(client, |client, ctx| client.on_closed(ctx));
                }
            }
        }
    }

    /// Lets the next thing happen; false if nothing will before `until`.
    pub fn step(&mut self, until: u64) -> bool {
        let Some((&(at, _), _)) = self.heap.first_key_value() else { return false };
        if at > until {
            self.now = until;
            return false;
        }
        let (_, (life, happening)) = self.heap.pop_first().expect("just seen");
        self.now = at;
        self.events += 1;
        assert!(self.events < 2_000_000, "the world spins: at {} us something happens all the time", self.now);
        self.happen(life == self.life, happening);
        true
    }

    pub fn run_until(&mut self, until: u64) {
        while self.step(until) {}
    }

    fn happen(&mut self, same_life: bool, happening: Happening) {
        match happening {
            Happening::Turn(shard) if same_life => self.turn(shard),
            Happening::Unmuted(shard) if same_life => self.pump(shard),
            Happening::Landed(shard) if same_life => self.on_landed(shard),
            Happening::FileStep(shard, directory) if same_life => self.on_file_step(shard, &directory),
            Happening::Synced(shard, operation, files) if same_life => self.on_sync_end(shard, operation, files),
            Happening::ReadDone(shard, operation, file, position, length) if same_life => {
                self.on_read_end(shard, operation, &file, position, length);
            }
            Happening::Compacted(shard, operation, mut compaction, bytes) if same_life => {
                compaction.take(&bytes);
                self.deliver(shard, Event::Compacted { operation, compaction });
            }
            Happening::Message(from, to, message) if same_life => {
                if self.mutation == Some(Mutation::LoseMessage) && self.chance.one_in(200) {
                    return;
                }
                self.deliver(to, Event::Message { from: ShardId(from), message });
            }
            Happening::Connected(id) => self.on_connected(id),
            Happening::ToNode(id, frame) => {
                if let Some(wire) = self.wires.get_mut(&id)
                    && same_life
                {
                    wire.unread.push_back(frame);
                    let shard = wire.shard;
                    self.pump(shard);
                }
            }
            Happening::Left(id) => {
                if let Some(wire) = self.wires.remove(&id)
                    && same_life
                    && wire.open
                {
                    self.deliver(wire.shard, Event::Closed { connection: wire.id });
                }
            }
            Happening::ToClient(id, frame) => self.on_to_client(id, &frame),
            Happening::Cut(id) => self.on_cut(id),
            Happening::Alarm(client, number) if self.lines[client].1 == number => self.on_alarm(client),
            Happening::Fault => self.on_fault(),
            Happening::Restart => self.start(),
            Happening::Doom if same_life => {
                if let Some((power, _)) = self.doom.take() {
                    self.crash(power);
                }
            }
            Happening::StopLook if same_life => self.on_stop_look(),
            _ => {}
        }
    }

    fn on_to_client(&mut self, id: u64, frame: &[u8]) {
        let Some(wire) = self.wires.get(&id) else { return };
        let client = wire.client;
        if self.lines[client].0 == Some(id) {
            self.trace.note(self.now, format_args!("client {client} gets {} bytes {:08x}", frame.len(), crc32c(frame)));
            self.ask_client(client, |client, ctx| client.on_frame(ctx, &frame[4..]));
        }
    }

    fn on_cut(&mut self, id: u64) {
        let Some(wire) = self.wires.remove(&id) else { return };
        if self.lines[wire.client].0 == Some(id) {
            self.lines[wire.client].0 = None;
            self.trace.note(self.now, format_args!("client {} is cut off", wire.client));
            self.ask_client(wire.client, |client, ctx| client.on_closed(ctx));
        }
    }

    fn on_alarm(&mut self, client: usize) {
        let closes = self.faults.closes && !self.settling && self.chance.one_in(150);
        if closes && self.lines[client].0.is_some() {
            self.act(client, Action::Close);
        } else {
            self.ask_client(client, |client, ctx| client.on_wake(ctx));
        }
    }

    fn on_connected(&mut self, id: u64) {
        let Some(wire) = self.wires.get(&id) else { return };
        let (client, shard, connection) = (wire.client, wire.shard, wire.id);
        if !self.is_ready() || usize::from(shard) >= self.cores.len() {
            let at = self.now + 100;
            return self.at(at, Happening::Cut(id));
        }
        self.deliver(shard, Event::Opened { connection, listener: 0, peer: "127.0.0.1".to_owned() });
        self.ask_client(client, |client, ctx| client.on_connected(ctx));
    }

    /// Reads requests from the sockets of this core, if it takes any.
    pub fn pump(&mut self, shard: u16) {
        if usize::from(shard) >= self.cores.len() || self.stopping {
            return;
        }
        let is_read = |wire: &Wire| wire.shard == shard && wire.muted_until <= self.now;
        let ids: Vec<u64> = self.wires.iter().filter(|(_, wire)| is_read(wire)).map(|(id, _)| *id).collect();
        for id in ids {
            if !self.cores[usize::from(shard)].shard.accepts_requests() {
                return;
            }
            let wire = self.wires.get_mut(&id).expect("just seen");
            while let Some(frame) = wire.unread.pop_front() {
                let (connection, frame) = (wire.id, BytesMut::from(&frame[4..]));
                let event = Event::Request { connection, frame };
                self.cores[usize::from(shard)].inbox.push_back(event);
            }
        }
        if !self.cores[usize::from(shard)].inbox.is_empty() {
            self.schedule_turn(shard);
        }
    }

    pub fn deliver(&mut self, shard: u16, event: Event) {
        if let Some(core) = self.cores.get_mut(usize::from(shard)) {
            core.inbox.push_back(event);
            self.schedule_turn(shard);
        }
    }

    pub fn schedule_turn(&mut self, shard: u16) {
        let delay = if self.chance.one_in(50) { self.chance.between(100, 3_000) } else { self.chance.between(1, 20) };
        self.turn_by(shard, self.now + delay);
    }

    pub fn turn_by(&mut self, shard: u16, at: u64) {
        let core = &mut self.cores[usize::from(shard)];
        if core.turn_at.is_none_or(|planned| planned > at) {
            core.turn_at = Some(at);
            self.at(at, Happening::Turn(shard));
        }
    }

    pub fn wire_of(&self, connection: ConnectionId) -> Option<u64> {
        let id = u64::from(connection.generation);
        self.wires.contains_key(&id).then_some(id)
    }

    /// The node closes it, after what was already sent.
    pub fn close(&mut self, shard: u16, connection: ConnectionId) {
        if let Some(id) = self.wire_of(connection) {
            let wire = self.wires.get_mut(&id).expect("just seen");
            wire.open = false;
            let at = wire.to_client_at.max(self.now) + 100;
            self.at(at, Happening::Cut(id));
        }
        self.deliver(shard, Event::Closed { connection });
    }

    pub fn mute(&mut self, shard: u16, connection: ConnectionId, until: u64) {
        let Some(id) = self.wire_of(connection) else { return };
        let wire = self.wires.get_mut(&id).expect("just seen");
        wire.muted_until = wire.muted_until.max(until);
        self.count("mutes");
        self.at(until, Happening::Unmuted(shard));
    }

    pub fn respond(&mut self, connection: ConnectionId, frame: Bytes) {
        let Some(id) = self.wire_of(connection) else { return };
        if frame.is_empty() {
            return;
        }
        let length = i32::from_be_bytes(frame[..4].try_into().expect("4 bytes"));
        assert!(length as usize + 4 == frame.len(), "a response is one whole frame");
        let delay = self.network_us();
        let now = self.now;
        let wire = self.wires.get_mut(&id).expect("just seen");
        wire.to_client_at = wire.to_client_at.max(now + delay);
        let at = wire.to_client_at;
        self.at(at, Happening::ToClient(id, frame));
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn mutates(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}
