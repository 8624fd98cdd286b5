//! H10: does an answer take longer because ten thousand others are connected? And what does a connection that does nothing
//! cost in memory?

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use gannet::protocol::{ProduceResponse, decode_response};
use gannet::reactor::pin_to;
use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::Bench;
use crate::broker::Broker;
use crate::machine::now_ns;
use crate::report::{Reading, Row, Target};
use crate::wire::{self, Connection, PRODUCE_VERSION};

const MANY: usize = 10_000;
/// One in a hundred does something.
const ACTIVE: usize = MANY / 100;
const FEW: usize = 10;
const PARTITIONS: i32 = 16;
const MESSAGE_BYTES: usize = 1024;
/// A message is due with each tick, on the next of the active connections.
const TICK: Duration = Duration::from_millis(1);
const WARM_UP_TICKS: u64 = 1000;
const TICKS: u64 = 6000;
/// Beside the connections: files, libraries, epoll.
const OTHER_FILES: u64 = 200;

pub fn take(bench: &Bench) -> io::Result<Reading> {
    allow_files(MANY as u64 + OTHER_FILES)?;
    let (mut few, mut many) = (Side::default(), Side::default());
    for round in 0..bench.rounds {
        // Few, many, many, few: what drifts hits both alike.
        if round % 2 == 0 {
            few.take(bench, FEW, FEW)?;
            many.take(bench, MANY, ACTIVE)?;
        } else {
            many.take(bench, MANY, ACTIVE)?;
            few.take(bench, FEW, FEW)?;
        }
    }
    let row = |what: &str, unit, many: Vec<f64>, few: Vec<f64>| {
        Row::new(format!("10,000 connections, 100 of them active, {what}"), unit, many).against("10 connections", few)
    };
    let rows = vec![
        row("acknowledged p99", "µs", many.p99_us, few.p99_us).target(Target::AtMost(2.0, None)),
        row("acknowledged p50", "µs", many.p50_us, few.p50_us),
        row("processor", "µs/message", many.cpu_us, few.cpu_us),
        Row::new("resident memory of one more connection that does nothing", "KiB", many.connection_kib),
    ];
    Ok(Reading {
        question: "1,000 durable messages of 1 KiB a second, over 10,000 connections and over ten",
        rows,
        curve: None,
    })
}

/// A process may have as many files open as the hard limit allows; by default far fewer.
fn allow_files(needed: u64) -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft.max(hard) < needed {
        return Err(io::Error::other(format!(
            "{needed} open files are needed here, and the limit is {hard}: ulimit -n {needed}, as root"
        )));
    }
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// One value per round.
#[derive(Default)]
struct Side {
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    cpu_us: Vec<f64>,
    connection_kib: Vec<f64>,
}

impl Side {
    fn take(&mut self, bench: &Bench, connections: usize, active: usize) -> io::Result<()> {
        let broker = Broker::start(bench, &[])?;
        let topic = broker.create_topic(PARTITIONS, &[])?;
        pin_to(Some(bench.client_core));
        let empty = broker.resident_bytes();
        let mut all = Vec::with_capacity(connections);
        for _ in 0..connections {
            let mut connection = broker.connect()?;
            // As a client that has looked around and has nothing to do.
            connection.is_ready()?;
            all.push(connection);
        }
        let resident = broker.resident_bytes().saturating_sub(empty);
        self.connection_kib.push(resident as f64 / connections as f64 / 1024.0);
        let batch = wire::batch(1, MESSAGE_BYTES);
        // Those that are active lie between those that are not.
        let step = connections / active;
        let mut crowd = Vec::with_capacity(active);
        for (index, connection) in all.iter_mut().step_by(step).enumerate() {
            let frame = wire::produce(topic, &[(index as i32 % PARTITIONS, &batch)]);
            connection.stream.set_nonblocking(true)?;
            crowd.push(Member { connection, frame, due_ns: VecDeque::new() });
        }
        let before = broker.usage();
        let latency = run(&mut crowd)?;
        let used = broker.usage().since(before);
        self.p50_us.push(latency.value_at_quantile(0.5) as f64 / 1000.0);
        self.p99_us.push(latency.value_at_quantile(0.99) as f64 / 1000.0);
        self.cpu_us.push(used.cpu_ns as f64 / 1000.0 / TICKS as f64);
        Ok(())
    }
}

struct Member<'a> {
    connection: &'a mut Connection,
    frame: Vec<u8>,
    /// Of the messages on their way, oldest first.
    due_ns: VecDeque<u64>,
}

/// Latency from when each message was due, in nanoseconds.
fn run(crowd: &mut [Member]) -> io::Result<Histogram<u64>> {
    const TIMER: u64 = u64::MAX;
    let mut latency = Histogram::new_with_bounds(100, 60_000_000_000, 3).expect("sound bounds");
    let begin_ns = now_ns() + 2_000_000;
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
    let every = Expiration::IntervalDelayed(TimeSpec::from(Duration::from_nanos(begin_ns)), TimeSpec::from(TICK));
    timer.set(every, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    epoll.add(timer.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
    for (index, member) in crowd.iter().enumerate() {
        epoll.add(&member.connection.stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
    }
    let mut events = vec![EpollEvent::empty(); 64];
    let (mut ticks, mut answered) = (0, 0);
    while answered < TICKS {
        let count = epoll.wait(&mut events, EpollTimeout::from(10_000u16))?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer for 10 s"));
        }
        for event in &events[..count] {
            if event.data() == TIMER {
                let _ = timer.wait();
                while ticks < TICKS && begin_ns + ticks * TICK.as_nanos() as u64 <= now_ns() {
                    let next = ticks as usize % crowd.len();
                    let member = &mut crowd[next];
                    member.due_ns.push_back(begin_ns + ticks * TICK.as_nanos() as u64);
                    member.connection.send(&member.frame)?;
                    ticks += 1;
                }
                continue;
            }
            let member = &mut crowd[event.data() as usize];
            member.connection.receive()?;
            while let Some(frame) = member.connection.next_frame() {
                let response = decode_response::<ProduceResponse>(frame, PRODUCE_VERSION);
                let (_, response) = response.map_err(io::Error::other)?;
                let part = response.responses.first().and_then(|topic| topic.partition_responses.first());
                if part.is_none_or(|part| part.error_code != 0) {
                    return Err(io::Error::other(format!("a batch was refused: {part:?}")));
                }
                let due_ns = member.due_ns.pop_front().expect("answers follow requests");
                if due_ns >= begin_ns + WARM_UP_TICKS * TICK.as_nanos() as u64 {
                    latency.saturating_record(now_ns().saturating_sub(due_ns));
                }
                answered += 1;
            }
        }
    }
    Ok(latency)
}
