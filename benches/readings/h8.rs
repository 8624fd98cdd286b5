//! H8: how fast do consumers get what is in memory, and what is only on the device?

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gannet::protocol::{FetchResponse, decode_response};
use gannet::reactor::pin_to;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::Bench;
use crate::broker::Broker;
use crate::flood::{Flood, Until};
use crate::floor::{self, Peer};
use crate::report::{Reading, Row, Target};
use crate::wire::{self, FETCH_VERSION, Fetch, Topic};

const PARTITIONS: usize = 4;
const BATCH_RECORDS: usize = 64;
const RECORD_BYTES: usize = 1024;
const FETCH_BYTES: usize = 1 << 20;
const TAIL_BATCHES: u64 = 512;
const COLD_BATCHES: u64 = 4096;
const LASTS: Duration = Duration::from_secs(2);

pub fn take(bench: &Bench) -> io::Result<Reading> {
    let (mut tail, mut tail_cpu, mut sink, mut uncached_sink) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut cold, mut cold_cpu, mut device, mut from_device) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut asked, mut reads) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let broker = Broker::start(bench, &[])?;
        let topic = fill(bench, &broker, TAIL_BATCHES)?;
        let before = broker.usage();
        let consumed = consume(bench, broker.port, topic, TAIL_BATCHES, Some(LASTS))?;
        let used = broker.usage().since(before);
        tail.push(consumed.bytes / consumed.seconds / 1e6);
        tail_cpu.push(used.cpu_ns as f64 / 1000.0 / (consumed.bytes / 1e6));
        drop(broker);
        sink.push(raw_sink(bench, FETCH_BYTES)? / 1e6);
        let log_bytes = PARTITIONS * TAIL_BATCHES as usize * BATCH_RECORDS * RECORD_BYTES;
        uncached_sink.push(raw_sink(bench, log_bytes)? / 1e6);

        let mut broker = Broker::start(bench, &["gannet.memory.bytes=209715200"])?;
        let topic = fill(bench, &broker, COLD_BATCHES)?;
        broker.stop()?;
        broker.start_again()?;
        let before = broker.usage();
        let consumed = consume(bench, broker.port, topic, COLD_BATCHES, None)?;
        let used = broker.usage().since(before);
        cold.push(consumed.bytes / consumed.seconds / 1e6);
        cold_cpu.push(used.cpu_ns as f64 / 1000.0 / (consumed.bytes / 1e6));
        from_device.push(used.read_bytes as f64 / consumed.bytes);
        let counters = broker.stop()?;
        asked.push(counters.get("segment_read_bytes") / consumed.bytes);
        reads.push(consumed.bytes / counters.get("segment_reads") / 1024.0);
        let segments = segments(broker.directory())?;
        let segments: Vec<&Path> = segments.iter().map(PathBuf::as_path).collect();
        device.push(floor::read_stream(&segments, FETCH_BYTES, PARTITIONS)? / 1e6);
    }
    let rows = vec![
        Row::new("tail, 4 consumers of 1 MiB fetches", "MB/s", tail.clone())
            .against("raw loopback stream of one MiB, over and over", sink)
            .target(Target::AtLeast(0.7, Some(0.85))),
        Row::new("the same", "MB/s", tail)
            .against("raw loopback stream of as much memory as the logs take", uncached_sink),
        Row::new("tail, processor", "µs/MB", tail_cpu),
        Row::new("cold, 4 consumers of 1 MiB fetches", "MB/s", cold)
            .against("O_DIRECT reads of 1 MiB, 4 at once", device)
            .target(Target::AtLeast(0.85, Some(0.95))),
        Row::new("cold, processor", "µs/MB", cold_cpu),
        Row::new("cold, read from the device / consumed", "×", from_device),
        Row::new("cold, asked of segments / consumed", "×", asked),
        Row::new("cold, consumed per read", "KiB", reads),
    ];
    Ok(Reading {
        question: "consume from memory against a loopback stream, from disk against direct reads",
        rows,
        curve: None,
    })
}

fn fill(bench: &Bench, broker: &Broker, batches: u64) -> io::Result<Topic> {
    let topic = broker.create_topic(PARTITIONS as i32, &[])?;
    let batch = wire::batch(BATCH_RECORDS, RECORD_BYTES);
    let frames = (0..PARTITIONS).map(|index| wire::produce(topic, &[(index as i32, &batch)])).collect();
    Flood { port: broker.port, frames, window: 8, until: Until::Requests(batches), is_broker: true }
        .run(bench, || 0)?;
    Ok(topic)
}

fn segments(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("readings-")) {
            for file in std::fs::read_dir(path)? {
                found.push(file?.path());
            }
        }
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    Ok(found)
}

struct Consumed {
    bytes: f64,
    seconds: f64,
}

/// One consumer of one partition, with one fetch on its way.
struct Lane {
    stream: TcpStream,
    partition: i32,
    offset: i64,
    /// Bytes of the answer still to come; 0 before its length is known.
    missing: usize,
    head: Vec<u8>,
    frame_bytes: usize,
}

/// What a response holds besides its batches, and how long a batch is: the same in every response.
#[derive(Clone, Copy)]
struct Shape {
    overhead_bytes: usize,
    batch_bytes: usize,
}

impl Lane {
    fn ask(&mut self, topic: Topic) -> io::Result<()> {
        let fetch =
            Fetch { session_id: 0, session_epoch: -1, partition_max_bytes: FETCH_BYTES as i32, max_wait_ms: 30_000 };
        self.stream.write_all(&fetch.frame(topic, std::iter::once((self.partition, self.offset))))
    }

    /// The first answer is read whole; the others are counted.
    fn learn(&mut self, topic: Topic, batch_bytes: usize) -> io::Result<Shape> {
        self.ask(topic)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        let (_, response) = decode_response::<FetchResponse>(&frame, FETCH_VERSION).map_err(io::Error::other)?;
        let part = response.responses.first().and_then(|topic| topic.partitions.first());
        match part {
            Some(part) if part.error_code == 0 && part.records.bytes().is_multiple_of(batch_bytes) => {
                Ok(Shape { overhead_bytes: frame.len() - part.records.bytes(), batch_bytes })
            }
            _ => Err(io::Error::other(format!(
                "not whole batches of {batch_bytes} bytes: {:?}",
                part.map(|p| p.error_code)
            ))),
        }
    }

    /// Takes what has come; the bytes of the answer if it is complete.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if self.missing == 0 {
            let wanted = 4 - self.head.len();
            let count = self.stream.read(&mut buffer[..wanted])?;
            self.head.extend_from_slice(&buffer[..count]);
            if let Some(length) = self.head.first_chunk::<4>() {
                self.frame_bytes = u32::from_be_bytes(*length) as usize;
                self.missing = self.frame_bytes;
                self.head.clear();
            }
            return if count == 0 { Err(io::Error::other("the broker closed the connection")) } else { Ok(None) };
        }
        let room = buffer.len().min(self.missing);
        let count = self.stream.read(&mut buffer[..room])?;
        self.missing -= count;
        match count {
            0 => Err(io::Error::other("the broker closed the connection")),
            _ => Ok((self.missing == 0).then_some(self.frame_bytes)),
        }
    }
}

/// Consumes every partition once, or again and again for so long.
fn consume(bench: &Bench, port: u16, topic: Topic, batches: u64, lasts: Option<Duration>) -> io::Result<Consumed> {
    pin_to(Some(bench.client_core));
    let batch_bytes = wire::batch(BATCH_RECORDS, RECORD_BYTES).len();
    let end = batches as i64 * BATCH_RECORDS as i64;
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    let mut lanes = Vec::new();
    let mut shape = None;
    for partition in 0..PARTITIONS {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, partition as u64))?;
        let mut lane =
            Lane { stream, partition: partition as i32, offset: 0, missing: 0, head: Vec::new(), frame_bytes: 0 };
        shape = Some(lane.learn(topic, batch_bytes)?);
        lanes.push(lane);
    }
    let shape = shape.expect("there are partitions");
    let begin = Instant::now();
    lanes.iter_mut().try_for_each(|lane| lane.ask(topic))?;
    let (mut open, mut bytes) = (lanes.len(), 0);
    let (mut buffer, mut events) = (vec![0; 1 << 20], [EpollEvent::empty(); PARTITIONS]);
    while open > 0 {
        let count = epoll.wait(&mut events, EpollTimeout::from(10_000u16))?;
        if count == 0 {
            let stands: Vec<_> = lanes.iter().map(|lane| (lane.offset, lane.missing)).collect();
            let problem = format!("no answer for 10 s; consumers (offset, bytes missing) {stands:?} of {end}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, problem));
        }
        for event in &events[..count] {
            let lane = &mut lanes[event.data() as usize];
            let Some(frame_bytes) = lane.receive(&mut buffer)? else { continue };
            bytes += frame_bytes;
            let records = frame_bytes.saturating_sub(shape.overhead_bytes);
            if records == 0 || !records.is_multiple_of(shape.batch_bytes) {
                return Err(io::Error::other(format!(
                    "an answer of {frame_bytes} bytes is no number of whole batches"
                )));
            }
            lane.offset += (records / shape.batch_bytes * BATCH_RECORDS) as i64;
            let again = lasts.is_some_and(|lasts| begin.elapsed() < lasts);
            if lane.offset >= end && again {
                lane.offset = 0;
            }
            if lane.offset < end && (again || lasts.is_none()) {
                lane.ask(topic)?;
            } else {
                open -= 1;
            }
        }
    }
    Ok(Consumed { bytes: bytes as f64, seconds: begin.elapsed().as_secs_f64() })
}

/// Bytes per second of as many connections with nothing asked and nothing looked at, out of so much memory.
fn raw_sink(bench: &Bench, memory_bytes: usize) -> io::Result<f64> {
    let peer = Peer::source(bench, PARTITIONS, memory_bytes)?;
    pin_to(Some(bench.client_core));
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    let mut streams = Vec::new();
    for index in 0..PARTITIONS {
        let stream = TcpStream::connect(("127.0.0.1", peer.port))?;
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?;
        streams.push(stream);
    }
    let (mut buffer, mut events, mut bytes) = (vec![0; 1 << 20], [EpollEvent::empty(); PARTITIONS], 0);
    let begin = Instant::now();
    while begin.elapsed() < LASTS {
        let count = epoll.wait(&mut events, EpollTimeout::from(10_000u16))?;
        for event in &events[..count] {
            bytes += streams[event.data() as usize].read(&mut buffer)?;
        }
    }
    let rate = bytes as f64 / begin.elapsed().as_secs_f64();
    drop(streams);
    peer.finish()?;
    Ok(rate)
}
