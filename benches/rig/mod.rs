//! Real reactors with a shard of the bench's own on top: it decides nothing and counts rounds. Owned by one bench; its
//! threads end with the value.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use gannet::metrics::Metrics;
use gannet::reactor::{
    Clock, CommitMethod, Decide, Doorbell, JournalFile, NetLimits, Published, Reactor, ReactorConfig, Stop, mesh,
};
use gannet::shard::{Effect, Event};
use gannet::types::{Deadline, ShardId, Time};

/// What the bench's shard does with its rounds.
pub trait Player: Send + 'static {
    /// Begins a round; `on_event` says when it is over.
    fn begin(&mut self, effects: &mut Vec<Effect>);
    /// True if a round ended with this event.
    fn on_event(&mut self, event: Event, effects: &mut Vec<Effect>) -> bool;
}

/// Orders to the first reactor, and its answer.
#[derive(Default)]
struct Order {
    rounds: AtomicU64,
    took_ns: AtomicU64,
}

struct Play<P> {
    player: P,
    order: Arc<Order>,
    caller: Option<Thread>,
    metrics: Metrics,
    left: u64,
    begun: Instant,
}

impl<P: Player> Decide for Play<P> {
    fn step(&mut self, _now: Time, event: Event, effects: &mut Vec<Effect>) {
        if !self.player.on_event(event, effects) || self.left == 0 {
            return;
        }
        self.left -= 1;
        if self.left > 0 {
            self.player.begin(effects);
        } else if let Some(caller) = &self.caller {
            self.order.took_ns.store(self.begun.elapsed().as_nanos() as u64, Ordering::Release);
            caller.unpark();
        }
    }

    fn end_turn(&mut self, _now: Time, effects: &mut Vec<Effect>) {
        let rounds = self.order.rounds.swap(0, Ordering::Acquire);
        if rounds > 0 {
            self.left = rounds;
            self.begun = Instant::now();
            self.player.begin(effects);
        }
    }

    fn next_deadline(&self) -> Option<Deadline> {
        None
    }

    fn accepts_requests(&self) -> bool {
        true
    }

    fn begin_stop(&mut self, _now: Time, _effects: &mut Vec<Effect>) {}

    fn drained(&self) -> bool {
        true
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

pub struct Rig {
    order: Arc<Order>,
    doorbells: Vec<Doorbell>,
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
pub struct Settings {
    pub journal: Vec<JournalFile>,
    pub commit_method: CommitMethod,
    pub spin_us: u64,
}

impl Rig {
    /// One reactor per player, on cores counted from 0; the first player begins the rounds.
    pub fn start<P: Player>(players: Vec<P>, settings: Settings) -> Rig {
        let count = players.len();
        let doorbells: Vec<Doorbell> = (0..count).map(|_| Doorbell::new().expect("an eventfd")).collect();
        let (order, stop, clock) = (Arc::new(Order::default()), Stop::new(count), Clock::start());
        let per_core = players.into_iter().zip(mesh(&doorbells, 1024)).enumerate();
        let threads = per_core.map(|(index, (player, mailbox))| {
            let config = ReactorConfig {
                shard: ShardId(index as u16),
                core: Some(index),
                listeners: Vec::new(),
                log_dirs: Vec::new(),
                journal: if index == 0 { settings.journal.clone() } else { Vec::new() },
                commit_method: settings.commit_method,
                commits_in_flight_max: 1,
                net: NetLimits::default(),
                open_files_max: 16,
                spin_us: settings.spin_us,
                mailbox,
                doorbell: doorbells[index].clone(),
                clock,
                stop: stop.clone(),
                published: Published::new(count),
            };
            let order = if index == 0 { order.clone() } else { Arc::default() };
            let caller = (index == 0).then(std::thread::current);
            std::thread::spawn(move || {
                let metrics = Metrics::default();
                let play = Play { player, order, caller, metrics, left: 0, begun: Instant::now() };
                Reactor::start(config, play, Vec::new()).expect("io_uring is allowed here").run();
            })
        });
        let threads = threads.collect();
        Rig { order, doorbells, stop, threads }
    }

    /// How long so many rounds take. Called by the thread that started the rig.
    pub fn play(&self, rounds: u64) -> Duration {
        self.order.took_ns.store(0, Ordering::Relaxed);
        self.order.rounds.store(rounds, Ordering::Release);
        self.doorbells[0].ring();
        loop {
            match self.order.took_ns.load(Ordering::Acquire) {
                0 => std::thread::park(),
                took_ns => return Duration::from_nanos(took_ns),
            }
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.request();
        self.doorbells.iter().for_each(Doorbell::ring);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
