//! What requests cost the whole process: flushes, sends and entries into the kernel as the broker counted them, and its
//! processor time against a loop of this test's that moves the same bytes.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::BytesMut;
use gannet::protocol::{CreateTopicsResponse, FetchResponse, Message, ProduceResponse, decode_response};
use gannet::types::Uuid;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::fixture::{Broker, free_port, serve};
use crate::wire;

/// On one core, so that no request depends on which core its connection landed on.
struct Process {
    broker: Broker,
    topic_id: Uuid,
    _directory: tempfile::TempDir,
}

impl Process {
    fn start() -> Process {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the test");
        let (path, port) = (directory.path().join("data"), free_port());
        std::fs::create_dir(&path).expect("a directory for the broker");
        let overrides = ["gannet.cores=1", "gannet.journal.bytes=67108864"].map(str::to_owned);
        let mut command = serve(&path, port, &overrides);
        command.args(["--log-level", "debug"]);
        let broker = Broker::start_command(&path, port, command);
        let mut process = Process { broker, topic_id: Uuid::default(), _directory: directory };
        let mut client = process.connect();
        client.send([wire::create_topic(1)]);
        let frame = client.receive();
        let created = decoded::<CreateTopicsResponse>(&frame, wire::CREATE_TOPICS_VERSION);
        assert_eq!(created.topics[0].error_code, 0, "{created:?}");
        process.topic_id = created.topics[0].topic_id;
        process
    }

    fn connect(&self) -> Client {
        let stream = self.broker.connect();
        stream.set_nodelay(true).expect("an open socket");
        Client { stream, topic_id: self.topic_id }
    }

    /// Of all its threads, in user and in kernel mode.
    fn processor_time(&self) -> Duration {
        time_of(clock_getcpuclockid(Pid::from_raw(self.broker.pid() as i32)).expect("it runs"))
    }

    fn stop(mut self) -> Counted {
        assert!(self.broker.terminate().success(), "{}", self.broker.log());
        let log = self.broker.log();
        Counted(log.split_once("counted since the start:").expect("told at the end").1.to_owned())
    }
}

/// What the broker counted from its start to its end.
struct Counted(String);

impl Counted {
    /// Zero where nothing was counted, which is not told.
    fn get(&self, name: &str) -> f64 {
        let of = |line: &str| {
            let (found, count) = line.trim().split_once(' ')?;
            (found == name).then(|| count.trim().parse().expect("counts are numbers"))
        };
        self.0.lines().find_map(of).unwrap_or(0.0)
    }

    fn assert_at_most(&self, name: &str, most: f64, requests: usize) {
        let found = self.get(name) / requests as f64;
        assert!(found <= most, "{name}: {found:.3} a request, at most {most} are allowed. It counted:\n{}", self.0);
    }
}

struct Client {
    stream: TcpStream,
    topic_id: Uuid,
}

impl Client {
    /// In one call, so that they arrive together.
    fn send(&mut self, frames: impl IntoIterator<Item = BytesMut>) {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend_from_slice(&(frame.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&frame);
        }
        self.stream.write_all(&bytes).expect("it listens");
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("an answer");
        let mut response = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut response).expect("a whole answer");
        response
    }

    /// So many requests at once, until all are answered; their first offset.
    fn produce(&mut self, count: usize, batch: &[u8]) -> i64 {
        let frame = wire::produce(self.topic_id, 1, batch);
        self.send((0..count).map(|_| frame.clone()));
        let offsets: Vec<i64> = (0..count).map(|_| self.produced()).collect();
        assert!(offsets.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{offsets:?}");
        offsets[0]
    }

    fn produced(&mut self) -> i64 {
        let frame = self.receive();
        let part = &decoded::<ProduceResponse>(&frame, wire::PRODUCE_VERSION).responses[0].partition_responses[0];
        assert_eq!(part.error_code, 0, "{part:?}");
        part.base_offset
    }

    fn ask_from(&mut self, offset: i64) {
        self.send([wire::fetch(self.topic_id, [(0, offset)], (0, -1))]);
    }

    /// Bytes of the records that came.
    fn fetched(&mut self) -> usize {
        let frame = self.receive();
        let fetched = decoded::<FetchResponse>(&frame, wire::FETCH_VERSION);
        fetched.responses[0].partitions[0].records.bytes()
    }
}

fn decoded<'a, M: Message<'a>>(frame: &'a [u8], version: i16) -> M {
    decode_response::<M>(frame, version).expect("a response").1
}

#[test]
fn a_request_alone_costs_one_flush_one_send_and_few_entries_into_the_kernel() {
    const REQUESTS: usize = 1000;
    let (process, batch) = (Process::start(), wire::batch(1024));
    let mut client = process.connect();
    for _ in 0..REQUESTS {
        client.produce(1, &batch);
    }
    let counted = process.stop();
    counted.assert_at_most("flushes", 1.1, REQUESTS);
    counted.assert_at_most("sends", 1.1, REQUESTS);
    // Found: 3. The request comes in, its commit lands, its response has left.
    counted.assert_at_most("ring_enters", 4.0, REQUESTS);
}

/// As a producer with a full window sends them.
#[test]
fn requests_that_come_together_share_flushes_sends_and_entries_into_the_kernel() {
    const WINDOWS: usize = 100;
    const TOGETHER: usize = 64;
    let (process, batch) = (Process::start(), wire::batch(1024));
    let mut client = process.connect();
    for _ in 0..WINDOWS {
        client.produce(TOGETHER, &batch);
    }
    let counted = process.stop();
    // Found: 0.05, 0.05 and 0.2. They come in five pieces.
    counted.assert_at_most("flushes", 0.2, WINDOWS * TOGETHER);
    counted.assert_at_most("sends", 0.2, WINDOWS * TOGETHER);
    counted.assert_at_most("ring_enters", 0.5, WINDOWS * TOGETHER);
}

/// The consumer waits at the end, is woken by a record, and asks again.
#[test]
fn a_record_on_its_way_to_a_waiting_consumer_costs_one_flush_two_sends_and_few_entries_into_the_kernel() {
    const RECORDS: usize = 1000;
    let (process, batch) = (Process::start(), wire::batch(1024));
    let (mut producer, mut consumer) = (process.connect(), process.connect());
    for offset in 0..RECORDS as i64 {
        consumer.ask_from(offset);
        assert_eq!(producer.produce(1, &batch), offset);
        assert_eq!(consumer.fetched(), batch.len());
    }
    let counted = process.stop();
    counted.assert_at_most("flushes", 1.1, RECORDS);
    counted.assert_at_most("sends", 2.1, RECORDS);
    // Found: 3.8.
    counted.assert_at_most("ring_enters", 5.0, RECORDS);
}

const ROUNDS: usize = 9;

/// What the broker needs for a round, in units of what the loop needs for the same; the median of the rounds. The two take
/// turns, so that a processor that changes its speed changes it for both.
fn median_ratio(process: &Process, mut ours: impl FnMut(), mut floor: impl FnMut()) -> f64 {
    ours();
    floor();
    let own = || time_of(ClockId::CLOCK_THREAD_CPUTIME_ID);
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let before = own();
            floor();
            let (floor, before) = (own() - before, process.processor_time());
            ours();
            (process.processor_time() - before).as_secs_f64() / floor.as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!("times the floor: {ratios:.2?}");
    ratios[ROUNDS / 2]
}

fn time_of(clock: ClockId) -> Duration {
    clock_gettime(clock).expect("a clock of the processor").into()
}

/// The least that anybody does with a request: it passes a socket, is copied once, its checksum is computed, and a short
/// answer passes the socket back. Both ends are in this thread, so that nobody sleeps.
struct Floor {
    near: UnixStream,
    far: UnixStream,
    received: Vec<u8>,
    kept: Vec<u8>,
}

impl Floor {
    fn new(bytes: usize) -> Floor {
        let (near, far) = UnixStream::pair().expect("two sockets");
        Floor { near, far, received: vec![0; bytes], kept: vec![0; bytes] }
    }

    fn pass(&mut self, bytes: &[u8]) {
        // What a socket holds at least, whatever its settings.
        for piece in bytes.chunks(32 << 10) {
            self.near.write_all(piece).expect("room");
            self.far.read_exact(&mut self.received[..piece.len()]).expect("just written");
        }
    }

    fn request(&mut self, bytes: &[u8]) {
        self.pass(bytes);
        self.kept[..bytes.len()].copy_from_slice(bytes);
        black_box(crc32c::crc32c(black_box(&self.kept[..bytes.len()])));
    }
}

/// Small requests, many in flight.
#[test]
fn a_small_request_costs_a_few_times_the_processor_time_of_its_floor() {
    /// Found: 3 to 5.
    const RATIO_MAX: f64 = 12.0;
    const WINDOWS: usize = 20;
    const TOGETHER: usize = 64;
    let (process, batch) = (Process::start(), wire::batch(100));
    let (mut client, mut floor) = (process.connect(), Floor::new(1 << 10));
    let (request, answer) = (wire::produce(process.topic_id, 1, &batch), [0; 60]);
    let ours = || {
        for _ in 0..WINDOWS {
            client.produce(TOGETHER, &batch);
        }
    };
    let loops = || {
        for _ in 0..WINDOWS * TOGETHER {
            floor.request(&request);
            floor.pass(&answer);
        }
    };
    let ratio = median_ratio(&process, ours, loops);
    assert!(ratio <= RATIO_MAX, "{ratio:.2} times the floor, at most {RATIO_MAX} are allowed");
}

/// Large batches, produced and consumed.
#[test]
fn a_megabyte_costs_a_few_times_the_processor_time_of_its_floor() {
    /// Found: 8 to 11; the floor's bytes stay in the processor's caches, ours do not.
    const RATIO_MAX: f64 = 25.0;
    const BATCHES: usize = 16;
    let (process, batch) = (Process::start(), wire::batch(64 << 10));
    let (mut client, mut floor) = (process.connect(), Floor::new(128 << 10));
    let ours = || {
        for _ in 0..8 {
            let first = client.produce(BATCHES, &batch);
            // A batch more than the megabyte has to come by itself.
            for offset in [first, first + BATCHES as i64 / 2] {
                client.ask_from(offset);
                assert!(client.fetched() >= BATCHES / 2 * batch.len());
            }
        }
    };
    let loops = || {
        for _ in 0..8 * BATCHES {
            floor.request(&batch);
            floor.pass(&batch);
        }
    };
    let ratio = median_ratio(&process, ours, loops);
    assert!(ratio <= RATIO_MAX, "{ratio:.2} times the floor, at most {RATIO_MAX} are allowed");
}
