//! Open-loop load: messages are sent when they are due, whatever became of those before, and every latency counts from
//! the moment the message was due. One thread, which sleeps in epoll between events; one connection produces, one consumes.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use gannet::protocol::{FetchResponse, ProduceResponse, decode_response};
use gannet::reactor::pin_to;
use gannet::record::batches;
use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::Bench;
use crate::broker::Broker;
use crate::machine::now_ns;
use crate::wire::{self, Connection, FETCH_VERSION, Fetch, PRODUCE_VERSION, Topic};

/// What is sent, and for how long.
#[derive(Clone, Copy)]
pub struct Load {
    pub messages_per_s: u64,
    pub message_bytes: usize,
    /// Messages due within one tick leave in one request: a producer's linger.
    pub tick: Duration,
    /// They are one batch of one partition, the next tick's of the next (KIP-480); or one batch each, in turn.
    pub is_sticky: bool,
    pub lasts: Duration,
    /// Messages due before this are not counted.
    pub warm_up: Duration,
}

/// What came of it. Latencies in nanoseconds.
pub struct Outcome {
    pub end_to_end: Histogram<u64>,
    pub acknowledged: Histogram<u64>,
    /// All that were sent, warm-up included.
    pub messages: u64,
}

impl Outcome {
    pub fn end_to_end_us(&self, quantile: f64) -> f64 {
        self.end_to_end.value_at_quantile(quantile) as f64 / 1000.0
    }

    pub fn acknowledged_us(&self, quantile: f64) -> f64 {
        self.acknowledged.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// How long after the last message answers may still come.
const PATIENCE_NS: u64 = 20_000_000_000;

const TICK: u64 = 0;
const PRODUCER: u64 = 1;
const CONSUMER: u64 = 2;

struct Run {
    topic: Topic,
    load: Load,
    count_from_ns: u64,
    producer: Connection,
    consumer: Connection,
    session: Fetch,
    /// Where each partition ended before.
    first_offsets: Vec<i64>,
    /// When each message of each partition was due, in order from the first offset.
    due_ns: Vec<Vec<u64>>,
    /// Where the consumer stands in each partition.
    offsets: Vec<i64>,
    /// Of each request on its way, oldest first: when its messages were due.
    unacknowledged: std::collections::VecDeque<u64>,
    next_partition: usize,
    ticks: u64,
    sent: u64,
    consumed: u64,
    outcome: Outcome,
}

/// Produces and consumes at once on the client's core, from where the partitions end.
pub fn run(bench: &Bench, broker: &Broker, topic: Topic, load: Load) -> io::Result<Outcome> {
    pin_to(Some(bench.client_core));
    let histogram = || Histogram::new_with_bounds(100, 60_000_000_000, 3).expect("sound bounds");
    let mut consumer = broker.connect()?;
    let offsets = wire::high_watermarks(&mut consumer, topic)?;
    let session = begin_session(&mut consumer, topic, &offsets)?;
    let begin_ns = now_ns() + 2_000_000;
    let mut run = Run {
        topic,
        load,
        count_from_ns: begin_ns + load.warm_up.as_nanos() as u64,
        producer: broker.connect()?,
        consumer,
        session,
        first_offsets: offsets.clone(),
        due_ns: vec![Vec::new(); topic.partitions as usize],
        offsets,
        unacknowledged: Default::default(),
        next_partition: 0,
        ticks: 0,
        sent: 0,
        consumed: 0,
        outcome: Outcome { end_to_end: histogram(), acknowledged: histogram(), messages: 0 },
    };
    run.producer.stream.set_nonblocking(true)?;
    run.consumer.stream.set_nonblocking(true)?;
    run.fetch_next(&[])?;
    run.until_done(begin_ns)?;
    run.outcome.messages = run.sent;
    Ok(run.outcome)
}

/// A fetch session (KIP-227) of all partitions.
fn begin_session(consumer: &mut Connection, topic: Topic, offsets: &[i64]) -> io::Result<Fetch> {
    let mut session = Fetch { session_id: 0, session_epoch: 0, partition_max_bytes: 1 << 20, max_wait_ms: 0 };
    let frame = consumer.exchange(&session.frame(topic, (0..topic.partitions).zip(offsets.iter().copied())))?;
    let (_, response) = decode_response::<FetchResponse>(&frame, FETCH_VERSION).map_err(io::Error::other)?;
    if response.error_code != 0 || response.session_id == 0 {
        return Err(io::Error::other(format!("no fetch session: error {}", response.error_code)));
    }
    session.session_id = response.session_id;
    session.max_wait_ms = 30_000;
    Ok(session)
}

impl Run {
    fn until_done(&mut self, begin_ns: u64) -> io::Result<()> {
        let tick_ns = self.load.tick.as_nanos() as u64;
        let ticks = (self.load.lasts.as_nanos() as u64 / tick_ns).max(1);
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        let (begin, every) = (Duration::from_nanos(begin_ns), TimeSpec::from(self.load.tick));
        timer.set(Expiration::IntervalDelayed(TimeSpec::from(begin), every), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        epoll.add(timer.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, TICK))?;
        let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        epoll.add(&self.producer.stream, EpollEvent::new(both, PRODUCER))?;
        epoll.add(&self.consumer.stream, EpollEvent::new(both, CONSUMER))?;
        let end_ns = begin_ns + ticks * tick_ns;
        let mut events = [EpollEvent::empty(); 4];
        while self.ticks < ticks || self.consumed < self.sent || !self.unacknowledged.is_empty() {
            let count = epoll.wait(&mut events, EpollTimeout::from(1000u16))?;
            for event in &events[..count] {
                match event.data() {
                    PRODUCER => self.on_producer()?,
                    CONSUMER => self.on_consumer()?,
                    // The timer goes on once it has been read.
                    _ => timer.wait()?,
                }
            }
            let now = now_ns();
            while self.ticks < ticks && begin_ns + self.ticks * tick_ns <= now {
                self.send_tick(begin_ns + self.ticks * tick_ns)?;
            }
            if now > end_ns + PATIENCE_NS {
                let (missing, open) = (self.sent - self.consumed, self.unacknowledged.len());
                return Err(io::Error::other(format!("{missing} messages not consumed, {open} requests not answered")));
            }
        }
        Ok(())
    }

    fn send_tick(&mut self, due_ns: u64) -> io::Result<()> {
        self.ticks += 1;
        let until_now =
            self.load.messages_per_s as u128 * self.ticks as u128 * self.load.tick.as_nanos() / 1_000_000_000;
        let messages = (until_now as u64).saturating_sub(self.sent);
        if messages == 0 {
            return Ok(());
        }
        let partitions = self.due_ns.len();
        let used = if self.load.is_sticky { 1 } else { (messages as usize).min(partitions) };
        let mut parts = Vec::with_capacity(used);
        for part in 0..used {
            let records = messages as usize / used + usize::from(part < messages as usize % used);
            let partition = (self.next_partition + part) % partitions;
            self.due_ns[partition].extend(std::iter::repeat_n(due_ns, records));
            parts.push((partition as i32, wire::batch(records, self.load.message_bytes)));
        }
        self.next_partition = (self.next_partition + used) % partitions;
        let parts: Vec<_> = parts.iter().map(|(partition, batch)| (*partition, batch)).collect();
        self.unacknowledged.push_back(due_ns);
        self.sent += messages;
        self.producer.send(&wire::produce(self.topic, &parts))
    }

    fn on_producer(&mut self) -> io::Result<()> {
        self.producer.send_rest()?;
        self.producer.receive()?;
        let now = now_ns();
        while let Some(frame) = self.producer.next_frame() {
            let (_, response) = decode_response::<ProduceResponse>(frame, PRODUCE_VERSION).map_err(io::Error::other)?;
            let failed = response
                .responses
                .iter()
                .flat_map(|topic| &topic.partition_responses)
                .find(|part| part.error_code != 0);
            if let Some(failed) = failed {
                return Err(io::Error::other(format!("a batch was refused: {failed:?}")));
            }
            let due_ns = self.unacknowledged.pop_front().ok_or(io::Error::other("an answer to nothing"))?;
            if due_ns >= self.count_from_ns {
                self.outcome.acknowledged.saturating_record(now.saturating_sub(due_ns));
            }
        }
        Ok(())
    }

    fn on_consumer(&mut self) -> io::Result<()> {
        self.consumer.send_rest()?;
        loop {
            self.consumer.receive()?;
            let now = now_ns();
            let Some(frame) = self.consumer.next_frame() else { return Ok(()) };
            let (_, response) = decode_response::<FetchResponse>(frame, FETCH_VERSION).map_err(io::Error::other)?;
            if response.error_code != 0 {
                return Err(io::Error::other(format!("a fetch failed with error {}", response.error_code)));
            }
            let mut moved = Vec::new();
            for part in response.responses.iter().flat_map(|topic| &topic.partitions) {
                let partition = part.partition_index as usize;
                if part.error_code != 0 || partition >= self.offsets.len() {
                    return Err(io::Error::other(format!(
                        "a fetch of partition {partition} failed: {}",
                        part.error_code
                    )));
                }
                for bytes in &part.records.0 {
                    for (_, header) in batches(bytes).flatten() {
                        if header.base_offset != self.offsets[partition] {
                            return Err(io::Error::other(format!(
                                "partition {partition} goes on at a wrong offset: {header:?}"
                            )));
                        }
                        let first = self.first_offsets[partition];
                        let range = header.base_offset - first..header.next_offset() - first;
                        let due = self.due_ns[partition].get(range.start as usize..range.end as usize);
                        let due = due.ok_or(io::Error::other("a record that nobody sent"))?;
                        for due_ns in due.iter().filter(|due_ns| **due_ns >= self.count_from_ns) {
                            self.outcome.end_to_end.saturating_record(now.saturating_sub(*due_ns));
                        }
                        self.consumed += due.len() as u64;
                        self.offsets[partition] = header.next_offset();
                    }
                }
                moved.push(part.partition_index);
            }
            self.fetch_next(&moved)?;
        }
    }

    fn fetch_next(&mut self, moved: &[i32]) -> io::Result<()> {
        self.session.session_epoch += 1;
        let offsets = moved.iter().map(|partition| (*partition, self.offsets[*partition as usize]));
        let frame = self.session.frame(self.topic, offsets);
        self.consumer.send(&frame)
    }
}
