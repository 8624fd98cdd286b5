//! Many connections that produce in turn, one message each time, at a fixed rate: open loop, acknowledged latency from when
//! each message was due. One thread, which sleeps in epoll.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use gannet::protocol::{ProduceResponse, decode_response};
use hdrhistogram::Histogram;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::broker::Broker;
use crate::machine::now_ns;
use crate::wire::{Connection, PRODUCE_VERSION};

/// Beside the connections: files, libraries, epoll.
const OTHER_FILES: u64 = 200;

/// A message is due with each tick, on the next connection.
pub struct Crowd<'a> {
    pub members: Vec<Member<'a>>,
    pub tick: Duration,
    pub ticks: u64,
    /// Messages of these first ticks are not counted.
    pub warm_up_ticks: u64,
}

pub struct Member<'a> {
    connection: &'a mut Connection,
    frame: Vec<u8>,
    /// Of the messages on their way, oldest first.
    due_ns: VecDeque<u64>,
}

/// A process may have as many files open as the hard limit allows; by default far fewer.
pub fn allow_connections(count: u64) -> io::Result<()> {
    let needed = count + OTHER_FILES;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft.max(hard) < needed {
        return Err(io::Error::other(format!(
            "{needed} open files are needed here, and the limit is {hard}: ulimit -n {needed}, as root"
        )));
    }
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// Clients that have looked around and have nothing to do yet.
pub fn connect(broker: &Broker, count: usize) -> io::Result<Vec<Connection>> {
    let connect = |_| {
        let mut connection = broker.connect()?;
        connection.is_ready()?;
        Ok(connection)
    };
    (0..count).map(connect).collect()
}

impl<'a> Member<'a> {
    pub fn new(connection: &'a mut Connection, frame: Vec<u8>) -> io::Result<Member<'a>> {
        connection.stream.set_nonblocking(true)?;
        Ok(Member { connection, frame, due_ns: VecDeque::new() })
    }

    /// When the messages were due that are answered now.
    fn answered(&mut self) -> io::Result<Vec<u64>> {
        let mut due_ns = Vec::new();
        self.connection.receive()?;
        while let Some(frame) = self.connection.next_frame() {
            let (_, response) = decode_response::<ProduceResponse>(frame, PRODUCE_VERSION).map_err(io::Error::other)?;
            let part = response.responses.first().and_then(|topic| topic.partition_responses.first());
            if part.is_none_or(|part| part.error_code != 0) {
                return Err(io::Error::other(format!("a batch was refused: {part:?}")));
            }
            due_ns.push(self.due_ns.pop_front().expect("answers follow requests"));
        }
        Ok(due_ns)
    }
}

impl Crowd<'_> {
    /// Latencies in nanoseconds.
    pub fn run(&mut self) -> io::Result<Histogram<u64>> {
        const TIMER: u64 = u64::MAX;
        let tick_ns = self.tick.as_nanos() as u64;
        let mut latency = Histogram::new_with_bounds(100, 60_000_000_000, 3).expect("sound bounds");
        let begin_ns = now_ns() + 2_000_000;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        let begin = TimeSpec::from(Duration::from_nanos(begin_ns));
        let every = Expiration::IntervalDelayed(begin, TimeSpec::from(self.tick));
        timer.set(every, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        epoll.add(timer.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        for (index, member) in self.members.iter().enumerate() {
            epoll.add(&member.connection.stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        }
        let mut events = vec![EpollEvent::empty(); 64];
        let (mut ticks, mut answered) = (0, 0);
        while answered < self.ticks {
            let count = epoll.wait(&mut events, EpollTimeout::from(10_000u16))?;
            if count == 0 {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer for 10 s"));
            }
            for event in &events[..count] {
                if event.data() == TIMER {
                    let _ = timer.wait();
                    while ticks < self.ticks && begin_ns + ticks * tick_ns <= now_ns() {
                        let next = ticks as usize % self.members.len();
                        let member = &mut self.members[next];
                        member.due_ns.push_back(begin_ns + ticks * tick_ns);
                        member.connection.send(&member.frame)?;
                        ticks += 1;
                    }
                    continue;
                }
                for due_ns in self.members[event.data() as usize].answered()? {
                    if due_ns >= begin_ns + self.warm_up_ticks * tick_ns {
                        latency.saturating_record(now_ns().saturating_sub(due_ns));
                    }
                    answered += 1;
                }
            }
        }
        Ok(latency)
    }
}
