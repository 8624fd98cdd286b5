//! The turn: wait once, take what happened, let the shard decide, perform what it decided. Owned by the core's thread.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::background::Background;
use super::clock::{Clock, thread_time};
use super::commit::{CommitMethod, Commits, JournalFile};
use super::compactor::Compactor;
use super::decide::Decide;
use super::disk::space;
use super::doorbell::{Bedside, Doorbell};
use super::files::Reads;
use super::limits::NetLimits;
use super::mesh::Mailbox;
use super::net::Net;
use super::published::Published;
use super::ring::{Completion, Ring, Token};
use super::stop::Stop;
use super::{exit_at_once, pin_to};
use crate::metrics::Metrics;
use crate::shard::{Effect, Event, FileChange, Message};
use crate::types::{Deadline, ShardId, Time};

const RING_ENTRIES: u32 = 1024;
/// Bounds a turn, so that no source of events starves the others.
const COMPLETIONS_PER_TURN: usize = 256;
const MESSAGES_PER_TURN: usize = 1024;
/// How soon a message is offered again to a peer whose ring is full.
const RETRY_US: u64 = 200;
/// How often a stopping reactor looks whether the others are done.
const STOP_LOOK_US: u64 = 5_000;
/// How old the counts are that others read.
const PUBLISH_MS: u64 = 1000;

pub struct ReactorConfig {
    pub shard: ShardId,
    /// The core to stay on.
    pub core: Option<usize>,
    /// This core's listening sockets, in the order of `listeners`.
    pub listeners: Vec<OwnedFd>,
    /// This shard's journal files, in the order of their indexes.
    pub journal: Vec<JournalFile>,
    pub commit_method: CommitMethod,
    pub commits_in_flight_max: usize,
    pub net: NetLimits,
    /// Segment files kept open, for reading and again for writing.
    pub open_files_max: usize,
    /// `gannet.spin.us`: how long to look for work before sleeping.
    pub spin_us: u64,
    pub mailbox: Mailbox<Message>,
    pub doorbell: Doorbell,
    pub clock: Clock,
    pub stop: Arc<Stop>,
    pub published: Arc<Published>,
    /// `log.dirs`
    pub log_dirs: Vec<String>,
}

pub struct Reactor<S> {
    shard: S,
    id: ShardId,
    ring: Ring,
    bedside: Bedside,
    net: Net,
    commits: Commits,
    reads: Reads,
    background: Background,
    compactor: Compactor,
    mailbox: Mailbox<Message>,
    doorbell: Doorbell,
    clock: Clock,
    stop: Arc<Stop>,
    stopping: bool,
    /// Since when the time of requests is measured, on this thread's own clock, and the events since.
    timed: Option<(Duration, u64)>,
    /// The shard took requests when it was last asked.
    had_memory: bool,
    spin: Duration,
    events: Vec<Event>,
    effects: Vec<Effect>,
    completions: Vec<Completion>,
    messages: Vec<(ShardId, Message)>,
    /// Of the reactor itself, its sockets and its ring left out.
    metrics: Metrics,
    published: Arc<Published>,
    publish_at: Deadline,
    /// Something was counted since the last time.
    unpublished: bool,
    log_dirs: Vec<String>,
}

impl<S: Decide> Reactor<S> {
    /// Must be called on the thread that will run it. `effects` are those of the shard's opening.
    pub fn start(config: ReactorConfig, shard: S, effects: Vec<Effect>) -> io::Result<Reactor<S>> {
        pin_to(config.core);
        let ring = Ring::new(RING_ENTRIES)?;
        let net = Net::new(&ring, config.listeners, config.net)?;
        let commits = Commits::start(
            config.commit_method,
            config.journal,
            config.commits_in_flight_max,
            config.core,
            &ring,
            config.doorbell.clone(),
        )?;
        let background = Background::start(config.core, config.open_files_max, config.doorbell.clone())?;
        Ok(Reactor {
            shard,
            id: config.shard,
            ring,
            bedside: Bedside::new(config.doorbell.clone()),
            net,
            commits,
            reads: Reads::new(config.open_files_max),
            background,
            compactor: Compactor::new(config.doorbell.clone()),
            mailbox: config.mailbox,
            doorbell: config.doorbell,
            clock: config.clock,
            stop: config.stop,
            stopping: false,
            timed: None,
            had_memory: true,
            spin: Duration::from_micros(config.spin_us),
            events: Vec::new(),
            effects,
            completions: Vec::new(),
            messages: Vec::new(),
            metrics: Metrics::default(),
            published: config.published,
            publish_at: 0,
            unpublished: false,
            log_dirs: config.log_dirs,
        })
    }

    /// Until the process stops and everything is written back.
    pub fn run(mut self) {
        let mut now = self.clock.now();
        self.perform(now);
        loop {
            // What the turn before left behind, and what no completion announces.
            let welcome = self.welcome();
            self.net.prepare(&mut self.ring, now, welcome, &mut self.events);
            self.bedside.arm(&mut self.ring);
            self.metrics.turn_us.record(self.clock.now().monotonic_us - now.monotonic_us);
            self.wait(now);
            now = self.clock.now();
            if self.shard.times_requests() || self.timed.is_some() {
                self.time_requests(now);
            }
            self.take(now);
            self.decide(now);
            self.perform(now);
            self.metrics.turns += 1;
            let done = self.stop.is_requested() && self.is_done();
            if done || self.unpublished && now.monotonic_us >= self.publish_at {
                self.publish(now);
            }
            if done {
                return self.leave(now);
            }
        }
    }

    /// Takes back from the kernel every buffer it may still write to, before they are freed.
    fn leave(mut self, now: Time) {
        self.net.shut_all(&mut self.events);
        while !self.net.is_empty() || !self.bedside.is_disarmed() {
            self.ring.wait(None);
            self.take(now);
        }
    }

    fn publish(&mut self, now: Time) {
        self.publish_at = now.after_ms(PUBLISH_MS);
        self.unpublished = false;
        let counters = self.net.counters;
        let mut metrics = Metrics {
            connections_opened: counters.accepted,
            connections_closed: counters.closed,
            connections_refused: counters.refused,
            connections_stalled: counters.closed_stalled + counters.closed_overfull,
            connections_idled: counters.closed_idle,
            hostile_frames: counters.hostile_frames,
            request_bytes: counters.received_bytes,
            response_bytes: counters.sent_bytes,
            sends: counters.sends,
            ring_enters: self.ring.enters(),
            doorbells: self.doorbell.rung(),
            flushes: self.commits.flushes(),
            ..self.metrics.clone()
        };
        metrics.merge(self.shard.metrics());
        self.published.put(self.id, metrics);
    }

    /// Whether requests may be read from sockets.
    fn welcome(&mut self) -> bool {
        let has_memory = self.shard.accepts_requests();
        self.metrics.memory_stalls += u64::from(self.had_memory && !has_memory);
        self.had_memory = has_memory;
        !self.stopping && has_memory && self.mailbox.is_clear()
    }

    /// What the last turn's events cost, the system calls that sent its responses included and its sleep left out, is shared
    /// out evenly: the shard charges the requests among them.
    fn time_requests(&mut self, now: Time) {
        let spent = thread_time();
        if let Some((since, events)) = self.timed.take()
            && events > 0
        {
            let each = spent.saturating_sub(since) / u32::try_from(events).unwrap_or(u32::MAX);
            self.shard.on_request_time(now, u64::try_from(each.as_nanos()).unwrap_or(u64::MAX));
        }
        self.timed = self.shard.times_requests().then_some((spent, 0));
    }

    /// Something came in that the ring does not announce.
    fn has_inbox(&self) -> bool {
        self.mailbox.has_messages()
            || self.commits.has_committed()
            || self.background.has_outcomes()
            || self.compactor.has_outcomes()
    }

    /// The only wait of the loop: submits what was queued and sleeps until something happens or is due.
    fn wait(&mut self, now: Time) {
        if !self.events.is_empty() || self.has_inbox() {
            return self.ring.wait(Some(Duration::ZERO));
        }
        if !self.spin.is_zero() {
            let end = Instant::now() + self.spin;
            while Instant::now() < end {
                self.ring.wait(Some(Duration::ZERO));
                if self.ring.has_completions() || self.has_inbox() {
                    return;
                }
            }
        }
        self.bedside.about_to_sleep();
        if self.has_inbox() || self.stop.is_requested() != self.stopping {
            self.bedside.awake();
            return self.ring.wait(Some(Duration::ZERO));
        }
        let retry = (!self.mailbox.is_clear()).then_some(now.monotonic_us + RETRY_US);
        let look = self.stopping.then_some(now.monotonic_us + STOP_LOOK_US);
        let publish = self.unpublished.then_some(self.publish_at);
        let due = [self.shard.next_deadline(), self.net.next_deadline(), self.background.next_deadline(), retry, look];
        let due = due.into_iter().chain([publish]).flatten().min();
        let timeout = due.map(|due| Duration::from_micros(due.saturating_sub(self.clock.now().monotonic_us)));
        self.ring.wait(timeout);
        self.bedside.awake();
    }

    /// Collects what happened. Commits come first: what they free leaves in this turn.
    fn take(&mut self, now: Time) {
        let Reactor { ring, net, commits, reads, background, mailbox, events, completions, .. } = self;
        let welcome = !self.stopping && self.shard.accepts_requests() && mailbox.is_clear();
        ring.take(COMPLETIONS_PER_TURN, completions);
        for completion in completions.drain(..) {
            match completion.token {
                Token::Doorbell => self.bedside.on_rung(),
                Token::Woken => {}
                Token::Accept(listener) => net.on_accept(ring, listener, completion, now, events),
                Token::Receive(slot) => net.on_receive(ring, slot, completion, now, welcome, events),
                Token::Send(slot) => net.on_sent(ring, slot, completion, now, events),
                Token::CommitWrite(index) | Token::CommitFlush(index) => commits.on_completion(index, completion),
                Token::Open(index) | Token::Read(index) => {
                    events.extend(reads.on_completion(ring, now, index, completion))
                }
            }
        }
        while let Some((commit, took_us)) = commits.take_committed() {
            self.metrics.commit_us.record(took_us);
            self.shard.step(now, Event::Committed { commit }, &mut self.effects);
        }
        while let Some((operation, outcome)) = background.take_outcome() {
            events.push(Event::Done { operation, outcome });
        }
        events.extend(self.compactor.take_outcome());
        mailbox.take(MESSAGES_PER_TURN, &mut self.messages);
        events.extend(self.messages.drain(..).map(|(from, message)| Event::Message { from, message }));
    }

    fn decide(&mut self, now: Time) {
        if self.stop.is_requested() && !self.stopping {
            self.stopping = true;
            self.net.stop_accepting();
            self.shard.begin_stop(now, &mut self.effects);
        }
        self.shard.on_unsent_bytes(self.net.unsent_bytes());
        self.metrics.events += self.events.len() as u64;
        self.unpublished |= !self.events.is_empty();
        if let Some((_, events)) = &mut self.timed {
            *events += self.events.len() as u64;
        }
        for event in self.events.drain(..) {
            self.shard.step(now, event, &mut self.effects);
        }
        self.shard.end_turn(now, &mut self.effects);
        if let Some(failure) = self.shard.failure() {
            exit_at_once(&format!(
                "a file of a partition cannot be written: {failure}. The process ends now; what was acknowledged is in the \
                 journal and is recovered at the next start. Check the device (dmesg, smartctl), then start again"
            ));
        }
    }

    fn perform(&mut self, now: Time) {
        let Reactor { ring, net, commits, reads, background, mailbox, effects, .. } = self;
        for effect in effects.drain(..) {
            match effect {
                Effect::Respond { connection, response } => net.respond(connection, response),
                Effect::Close { connection } => net.close(connection),
                Effect::Mute { connection, until } => net.mute(connection, until),
                Effect::Send { to, message } => {
                    self.metrics.messages_sent += 1;
                    mailbox.send(to, message);
                }
                Effect::Commit { commit, block } => {
                    reads.on_commit(now);
                    commits.begin(ring, commit, block.file, block.position, block.length(), |page| {
                        block.encode_into(page)
                    });
                }
                Effect::Read { operation, file, position, length } => {
                    reads.begin(ring, now, operation, file, position, length)
                }
                Effect::Write { operation, file, position, bytes } => {
                    background.write(operation, file, position, bytes)
                }
                Effect::Space { log_dir } => {
                    let space = space(&self.log_dirs[usize::from(log_dir)]);
                    self.events.push(Event::Space { log_dir, space });
                }
                Effect::Compact { operation, compaction, bytes } => self.compactor.begin(operation, compaction, bytes),
                Effect::File { operation, change } => {
                    match &change {
                        FileChange::Delete { file } | FileChange::Put { file, .. } => reads.forget_file(file),
                        FileChange::Rename { file, to } => {
                            reads.forget_file(file);
                            reads.forget_file(&file.of_kind(*to));
                        }
                        FileChange::DeleteDirectory { directory } => reads.forget_directory(directory),
                        _ => {}
                    }
                    background.change(operation, change);
                }
            }
        }
        mailbox.flush();
        background.flush(now);
        net.flush(ring, now, &mut self.events);
    }

    /// Stopping, and nothing is left to do here or anywhere.
    fn is_done(&mut self) -> bool {
        let quiet = self.stopping
            && self.shard.drained()
            && self.net.is_quiet()
            && self.commits.in_flight() == 0
            && self.reads.is_quiet()
            && self.background.is_quiet()
            && self.compactor.is_quiet()
            && self.mailbox.is_clear()
            && !self.mailbox.has_messages()
            && self.events.is_empty();
        self.stop.all_quiet(self.id, quiet)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, SocketAddr, TcpStream};
    use std::thread::JoinHandle;

    use super::super::echo::{CLOSE, ECHO, Echo, PARK, SILENT};
    use super::super::{Admission, SocketOptions, listen, mesh};
    use super::*;

    /// A whole reactor on its thread, answering at a loopback port.
    struct Running {
        address: SocketAddr,
        stop: Arc<Stop>,
        doorbell: Doorbell,
        published: Arc<Published>,
        thread: Option<JoinHandle<()>>,
    }

    impl Running {
        fn start(net: NetLimits) -> Running {
            let (address, listeners) =
                listen("127.0.0.1:0".parse().expect("an address"), 1, SocketOptions::default()).expect("loopback");
            let (stop, doorbell) = (Stop::new(1), Doorbell::new().expect("an eventfd"));
            let published = Published::new(1);
            let config = ReactorConfig {
                shard: ShardId(0),
                core: None,
                listeners,
                journal: Vec::new(),
                commit_method: CommitMethod::Thread,
                commits_in_flight_max: 1,
                net,
                open_files_max: 16,
                spin_us: 0,
                mailbox: mesh(std::slice::from_ref(&doorbell), 16).pop().expect("one"),
                doorbell: doorbell.clone(),
                clock: Clock::start(),
                stop: stop.clone(),
                published: published.clone(),
                log_dirs: Vec::new(),
            };
            let thread = std::thread::spawn(move || {
                Reactor::start(config, Echo::default(), Vec::new()).expect("io_uring is allowed here").run()
            });
            Running { address, stop, doorbell, published, thread: Some(thread) }
        }

        fn connect(&self) -> TcpStream {
            let stream = TcpStream::connect(self.address).expect("it listens");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
            stream
        }

        fn finish(mut self) -> Metrics {
            self.stop.request();
            self.doorbell.ring();
            self.thread.take().expect("once").join().expect("no panic");
            self.published.merged()
        }
    }

    fn framed(kind: u8, length: usize) -> Vec<u8> {
        let mut frame = (length as u32).to_be_bytes().to_vec();
        frame.extend((0..length).map(|i| if i == 0 { kind } else { (i % 251) as u8 }));
        frame
    }

    fn expect(stream: &mut TcpStream, bytes: &[u8]) {
        let mut received = vec![0; bytes.len()];
        stream.read_exact(&mut received).expect("an answer");
        assert!(received == bytes);
    }

    fn expect_end(stream: &mut TcpStream) {
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(rest, b""),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }

    #[test]
    fn requests_of_all_sizes_come_back_whole_and_in_order() {
        let running = Running::start(NetLimits::default());
        let mut stream = running.connect();
        for length in [1, 4, 100, 16_379, 16_380, 16_381, 70_000, 300_000, 3_000_000] {
            let frame = framed(ECHO, length);
            stream.write_all(&frame).expect("sent");
            expect(&mut stream, &frame);
        }
        let pipelined: Vec<u8> = (1..400).flat_map(|i| framed(ECHO, i * 7 % 900 + 1)).collect();
        let mut writer = stream.try_clone().expect("a clone");
        let sent = pipelined.clone();
        let sender = std::thread::spawn(move || writer.write_all(&sent).expect("sent"));
        expect(&mut stream, &pipelined);
        sender.join().expect("no panic");
        drop(stream);
        let metrics = running.finish();
        assert_eq!((metrics.connections_opened, metrics.requests.total()), (1, 9 + 399));
        assert!(metrics.sends < 300, "responses of a turn share a send: {metrics}");
    }

    #[test]
    fn a_silent_request_gets_nothing_and_holds_up_nothing() {
        let running = Running::start(NetLimits { requests_in_flight_max: 2, ..NetLimits::default() });
        let mut stream = running.connect();
        let last = framed(ECHO, 9);
        let frames = [framed(SILENT, 50).repeat(20), last.clone()].concat();
        stream.write_all(&frames).expect("sent");
        expect(&mut stream, &last);
        assert_eq!(running.finish().requests.total(), 21);
    }

    #[test]
    fn a_close_comes_after_the_last_answer() {
        let running = Running::start(NetLimits::default());
        let mut stream = running.connect();
        let frame = framed(CLOSE, 1_000_000);
        stream.write_all(&frame).expect("sent");
        expect(&mut stream, &frame);
        expect_end(&mut stream);
        assert_eq!(running.finish().connections_closed, 1);
    }

    #[test]
    fn a_hostile_length_ends_the_connection_and_no_other() {
        let running = Running::start(NetLimits::default());
        let mut honest = running.connect();
        for length in [i32::MAX, -1, 0] {
            let mut hostile = running.connect();
            hostile.write_all(&length.to_be_bytes()).expect("sent");
            expect_end(&mut hostile);
        }
        let frame = framed(ECHO, 10);
        honest.write_all(&frame).expect("sent");
        expect(&mut honest, &frame);
        assert_eq!(running.finish().hostile_frames, 3);
    }

    #[test]
    fn connections_beyond_the_limit_and_idle_ones_are_closed() {
        let running =
            Running::start(NetLimits { admission: Admission::new(1, 1), idle_max_ms: 30, ..NetLimits::default() });
        let mut first = running.connect();
        let frame = framed(ECHO, 10);
        first.write_all(&frame).expect("sent");
        expect(&mut first, &frame);
        let mut second = running.connect();
        expect_end(&mut second);
        expect_end(&mut first);
        let metrics = running.finish();
        assert_eq!((metrics.connections_refused, metrics.connections_idled), (1, 1));
    }

    #[test]
    fn a_peer_that_takes_no_answers_is_closed_and_what_waits_for_it_is_bounded() {
        let limits = NetLimits { stalled_max_ms: 50, response_pause_bytes: 1 << 20, ..NetLimits::default() };
        let running = Running::start(limits);
        let mut stream = running.connect();
        let frame = framed(ECHO, 1 << 20);
        // The kernel's buffers hold a few of them, then the broker stops reading, then it loses patience.
        while stream.write_all(&frame).is_ok() {}
        drop(stream);
        let metrics = running.finish();
        assert_eq!(metrics.connections_stalled, 1);
        assert!(metrics.requests.total() < 100, "{metrics}");
    }

    #[test]
    fn once_much_waits_in_all_a_peer_that_takes_nothing_is_closed_sooner() {
        let limits =
            NetLimits { unsent_bytes_max: 1, pressed_stall_ms: 50, stalled_max_ms: u64::MAX, ..NetLimits::default() };
        let running = Running::start(limits);
        let mut stream = running.connect();
        stream.set_write_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        let frame = framed(ECHO, 1 << 20);
        while stream.write_all(&frame).is_ok() {}
        drop(stream);
        assert_eq!(running.finish().connections_stalled, 1);
    }

    #[test]
    fn a_peer_that_leaves_in_the_middle_costs_nothing() {
        let running = Running::start(NetLimits::default());
        for cut in [2, 4, 100, 60_000] {
            let mut stream = running.connect();
            stream.write_all(&framed(ECHO, 100_000)[..cut]).expect("sent");
            stream.shutdown(Shutdown::Both).expect("shut");
        }
        let mut stream = running.connect();
        let frame = framed(ECHO, 10);
        stream.write_all(&frame).expect("sent");
        expect(&mut stream, &frame);
        let metrics = running.finish();
        assert_eq!((metrics.connections_opened, metrics.requests.total()), (5, 1));
    }

    #[test]
    fn a_stop_answers_what_is_parked_and_takes_nothing_new() {
        let running = Running::start(NetLimits::default());
        let mut stream = running.connect();
        let (parked, echoed) = (framed(PARK, 500), framed(ECHO, 5));
        stream.write_all(&[parked.clone(), echoed.clone()].concat()).expect("sent");
        expect(&mut stream, &echoed);
        let address = running.address;
        running.finish();
        expect(&mut stream, &parked);
        expect_end(&mut stream);
        assert!(TcpStream::connect(address).is_err());
    }
}
