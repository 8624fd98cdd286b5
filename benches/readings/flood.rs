//! Closed-loop load: every connection keeps a window of requests on their way, as fast as answers come. One thread in
//! epoll, which looks at the length of answers and at little else, so that the broker is what is measured.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gannet::protocol::{ProduceResponse, decode_response};
use gannet::reactor::pin_to;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::Bench;
use crate::wire::PRODUCE_VERSION;

pub struct Flood {
    pub port: u16,
    /// One request per connection, sent again and again.
    pub frames: Vec<Vec<u8>>,
    /// Requests of one connection on their way at once.
    pub window: usize,
    pub until: Until,
    /// The answers are the broker's, and the first of each connection must be a success.
    pub is_broker: bool,
}

#[derive(Clone, Copy)]
pub enum Until {
    /// Counted after a warm-up of a tenth of it.
    Passed(Duration),
    /// So many of each connection.
    Requests(u64),
}

pub struct Flooded {
    pub requests_per_s: f64,
    /// Time on a processor per request of whoever answered.
    pub cpu_us: f64,
    /// All that were answered, warm-up included.
    pub requests: u64,
}

struct Lane {
    stream: TcpStream,
    /// The request, `window` times.
    requests: Vec<u8>,
    request_bytes: usize,
    /// The first answer; its length is that of all others.
    first: Vec<u8>,
    response_bytes: usize,
    /// Of the answer that is on its way.
    received: usize,
    sent: u64,
    answered: u64,
}

impl Lane {
    fn open(flood: &Flood, frame: &[u8]) -> io::Result<Lane> {
        let stream = TcpStream::connect(("127.0.0.1", flood.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let requests = frame.repeat(flood.window);
        let request_bytes = frame.len();
        Ok(Lane {
            stream,
            requests,
            request_bytes,
            first: vec![0; 4],
            response_bytes: 0,
            received: 0,
            sent: 0,
            answered: 0,
        })
    }

    /// One request and its answer, which is read whole.
    fn learn(&mut self, is_broker: bool) -> io::Result<()> {
        self.send(1)?;
        self.stream.read_exact(&mut self.first)?;
        let length = u32::from_be_bytes(*self.first.first_chunk().expect("four bytes")) as usize;
        self.first.resize(length, 0);
        self.stream.read_exact(&mut self.first)?;
        self.response_bytes = 4 + length;
        self.answered = 1;
        if !is_broker {
            return Ok(());
        }
        let (_, response) =
            decode_response::<ProduceResponse>(&self.first, PRODUCE_VERSION).map_err(io::Error::other)?;
        let part = response.responses.first().and_then(|topic| topic.partition_responses.first());
        match part {
            Some(part) if part.error_code == 0 => Ok(()),
            refused => Err(io::Error::other(format!("a batch was refused: {refused:?}"))),
        }
    }

    fn send(&mut self, count: usize) -> io::Result<()> {
        self.sent += count as u64;
        self.stream.write_all(&self.requests[..count * self.request_bytes])
    }

    /// Takes what has come; how many answers that completed.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        if count == 0 {
            return Err(io::Error::other("the peer closed the connection"));
        }
        self.received += count;
        let answers = self.received / self.response_bytes;
        self.received %= self.response_bytes;
        self.answered += answers as u64;
        Ok(answers)
    }
}

impl Flood {
    /// `cpu_ns` tells how much time on a processor the other side has used so far.
    pub fn run(&self, bench: &Bench, cpu_ns: impl Fn() -> u64) -> io::Result<Flooded> {
        pin_to(Some(bench.client_core));
        let mut lanes = self.frames.iter().map(|frame| Lane::open(self, frame)).collect::<io::Result<Vec<Lane>>>()?;
        lanes.iter_mut().try_for_each(|lane| lane.learn(self.is_broker))?;
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        for (index, lane) in lanes.iter().enumerate() {
            epoll.add(&lane.stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        }
        let (warm_up, lasts, requests_max) = match self.until {
            Until::Passed(lasts) => (lasts / 10, lasts, u64::MAX),
            Until::Requests(count) => (Duration::ZERO, Duration::MAX, count),
        };
        let begin = Instant::now();
        for lane in &mut lanes {
            lane.send((self.window as u64).min(requests_max.saturating_sub(lane.sent)) as usize)?;
        }
        let (mut buffer, mut events) = (vec![0; 256 << 10], vec![EpollEvent::empty(); lanes.len()]);
        let answered = |lanes: &[Lane]| lanes.iter().map(|lane| lane.answered).sum::<u64>();
        let mut counted_from = None;
        let mut counted = None;
        while lanes.iter().any(|lane| lane.answered < lane.sent) {
            let count = epoll.wait(&mut events, EpollTimeout::from(10_000u16))?;
            if count == 0 {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer for 10 s"));
            }
            for event in &events[..count] {
                let lane = &mut lanes[event.data() as usize];
                let answers = lane.receive(&mut buffer)?;
                if counted.is_none() && answers > 0 {
                    lane.send((answers as u64).min(requests_max.saturating_sub(lane.sent)) as usize)?;
                }
            }
            let passed = begin.elapsed();
            if counted_from.is_none() && passed >= warm_up {
                counted_from = Some((Instant::now(), answered(&lanes), cpu_ns()));
            }
            if counted.is_none() && passed >= warm_up.saturating_add(lasts) {
                counted = Some((Instant::now(), answered(&lanes), cpu_ns()));
            }
        }
        let (from, requests_from, cpu_from) = counted_from.unwrap_or((begin, 0, 0));
        let (upto, requests_upto, cpu_upto) = counted.unwrap_or_else(|| (Instant::now(), answered(&lanes), cpu_ns()));
        let requests = (requests_upto - requests_from) as f64;
        Ok(Flooded {
            requests_per_s: requests / (upto - from).as_secs_f64(),
            cpu_us: (cpu_upto - cpu_from) as f64 / 1000.0 / requests,
            requests: answered(&lanes),
        })
    }
}
