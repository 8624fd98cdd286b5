//! The cost of deciding: a real shard with a disk that obeys at once, so that only the shard's own work is timed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gannet::config::BrokerConfig;
use gannet::coordinator::BrokerRegistration;
use gannet::journal::{Journal, JournalLayout, Run};
use gannet::metadata::Endpoint;
use gannet::protocol::create_topics::CreatableTopic;
use gannet::protocol::fetch::{FetchPartition, FetchTopic};
use gannet::protocol::produce::{PartitionProduceData, TopicProduceData};
use gannet::protocol::{
    CreateTopicsRequest, CreateTopicsResponse, FetchRequest, Message, ProduceRequest, ProduceResponse, decode_response,
    encode_request,
};
use gannet::record::BatchBuilder;
use gannet::shard::{CommitId, ConnectionId, Effect, Event, Found, OperationId, Shard, ShardStart, recover};
use gannet::types::{ShardId, Time, Uuid};

const PRODUCER: ConnectionId = ConnectionId { slot: 0, generation: 1 };
const CONSUMER: ConnectionId = ConnectionId { slot: 1, generation: 1 };
const TOPIC: &str = "orders";
const PARTITIONS: i32 = 100;

/// One core's shard and the machine below it: commits land when asked, files obey in the same turn.
struct Core {
    shard: Shard,
    now: Time,
    effects: Vec<Effect>,
    committing: VecDeque<CommitId>,
    done: Vec<OperationId>,
    responses: Vec<(ConnectionId, Vec<Bytes>)>,
}

impl Core {
    fn open() -> Core {
        let config = Arc::new(BrokerConfig { log_dirs: vec!["memory".into()], ..BrokerConfig::default() });
        let found = Found {
            cluster_id: "bench".into(),
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
        let endpoint =
            Endpoint { listener: "PLAINTEXT".into(), host: "localhost".into(), port: 9092, security_protocol: 0 };
        let start = ShardStart {
            id: ShardId(0),
            shards: 1,
            journal: Journal::new(JournalLayout::of(ShardId(0), &config.gannet), run),
            registration: BrokerRegistration {
                id: config.node_id,
                incarnation: Uuid::from_random(1),
                endpoints: vec![endpoint],
                rack: None,
                after_crash: false,
            },
            config,
            image: Arc::new(recovery.image),
            checkpoint_path: "memory/checkpoint".into(),
            cleaning_path: "memory/cleaning".into(),
            logs: recovery.partitions.into_iter().map(|found| (found.id, found.directory, found.log)).collect(),
            offline: Arc::default(),
            seed: 1,
        };
        let now = Time { monotonic_us: 1, wall_ms: 1_700_000_000_000 };
        let mut effects = Vec::new();
        let shard = Shard::open(now, start, &mut effects);
        let (committing, done, responses) = (VecDeque::new(), Vec::new(), Vec::new());
        let mut core = Core { shard, now, effects, committing, done, responses };
        for connection in [PRODUCER, CONSUMER] {
            core.turn(Some(Event::Opened { connection, listener: 0, peer: "127.0.0.1".to_owned() }));
        }
        core.settle();
        core
    }

    /// One turn of a reactor.
    fn turn(&mut self, event: Option<Event>) {
        self.now.monotonic_us += 50;
        if let Some(event) = event {
            self.shard.step(self.now, event, &mut self.effects);
        }
        for operation in self.done.drain(..) {
            self.shard.step(self.now, Event::Done { operation, outcome: Ok(()) }, &mut self.effects);
        }
        self.shard.end_turn(self.now, &mut self.effects);
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Respond { connection, response } => self.responses.push((connection, response)),
                Effect::Commit { commit, .. } => self.committing.push_back(commit),
                Effect::Write { operation, .. } | Effect::File { operation, .. } => self.done.push(operation),
                Effect::Close { .. }
                | Effect::Mute { .. }
                | Effect::Send { .. }
                | Effect::Read { .. }
                | Effect::Space { .. }
                | Effect::Compact { .. } => {
                    panic!("not in this bench: {effect:?}")
                }
            }
        }
    }

    /// The next commit lands, in a turn of its own.
    fn land(&mut self) {
        let commit = self.committing.pop_front().expect("a commit is under way");
        self.turn(Some(Event::Committed { commit }));
    }

    fn settle(&mut self) {
        while !self.committing.is_empty() || !self.done.is_empty() {
            match self.committing.pop_front() {
                Some(commit) => self.turn(Some(Event::Committed { commit })),
                None => self.turn(None),
            }
        }
    }

    fn request(&mut self, connection: ConnectionId, frame: BytesMut) {
        self.turn(Some(Event::Request { connection, frame }));
    }

    fn take_response(&mut self) -> Bytes {
        let (_, response) = self.responses.pop().expect("an answer");
        Bytes::from(response.concat()).slice(4..)
    }

    fn create_topic(&mut self) -> Uuid {
        let topic =
            CreatableTopic { name: TOPIC, num_partitions: PARTITIONS, replication_factor: 1, ..Default::default() };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        self.request(PRODUCER, frame(&request, 7));
        self.settle();
        let response = self.take_response();
        let (_, created) = decode_response::<CreateTopicsResponse>(&response, 7).expect("a response");
        assert_eq!(created.topics[0].error_code, 0);
        created.topics[0].topic_id
    }
}

fn frame<'a, M: Message<'a>>(request: &M, version: i16) -> BytesMut {
    BytesMut::from(&encode_request(request, version, 7, Some("bench")).concat()[4..])
}

fn produce_frame(topic_id: Uuid, partitions: i32, batch_bytes: usize) -> BytesMut {
    let mut builder = BatchBuilder::new();
    builder.push(1_700_000_000_000, None, Some(&vec![b'x'; batch_bytes]));
    let batch = builder.build();
    let data = |index| PartitionProduceData { index, records: Some(&batch) };
    let topic = TopicProduceData { name: "", topic_id, partition_data: (0..partitions).map(data).collect() };
    frame(&ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: [topic].into(), ..Default::default() }, 13)
}

fn fetch_frame(topic_id: Uuid, fetch_offset: i64) -> BytesMut {
    let partition = FetchPartition { partition: 0, fetch_offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: "", topic_id, partitions: [partition].into() };
    frame(&FetchRequest { max_wait_ms: 30_000, min_bytes: 1, topics: [topic].into(), ..Default::default() }, 17)
}

/// Times `timed` alone, `iterations` times, with `before` and `after` outside of the clock.
fn clocked(
    core: &mut Core,
    iterations: u64,
    mut before: impl FnMut(&mut Core) -> BytesMut,
    mut timed: impl FnMut(&mut Core, BytesMut),
) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..iterations {
        let frame = before(core);
        let begin = Instant::now();
        timed(core, frame);
        total += begin.elapsed();
        core.settle();
        core.responses.clear();
    }
    total
}

/// Request in, commit out, commit lands, answer out: two turns.
fn produce(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step/produce");
    for (partitions, batch_bytes) in [(1, 100), (1, 1024), (1, 65_536), (PARTITIONS, 100)] {
        let mut core = Core::open();
        let topic_id = core.create_topic();
        let template = produce_frame(topic_id, partitions, batch_bytes);
        core.request(PRODUCER, template.clone());
        core.settle();
        let response = core.take_response();
        let (_, answer) = decode_response::<ProduceResponse>(&response, 13).expect("a response");
        assert!(answer.responses[0].partition_responses.iter().all(|part| part.error_code == 0), "{answer:?}");
        group.throughput(Throughput::Elements(partitions as u64));
        group.bench_function(BenchmarkId::new("acks=all", format!("{partitions}x{batch_bytes}B")), |bencher| {
            bencher.iter_custom(|iterations| {
                clocked(
                    &mut core,
                    iterations,
                    |_| template.clone(),
                    |core, frame| {
                        core.request(PRODUCER, frame);
                        core.land();
                    },
                )
            });
        });
    }
}

/// Many requests in one turn share one commit.
fn produce_in_one_turn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step/produce");
    const REQUESTS: u64 = 64;
    let mut core = Core::open();
    let topic_id = core.create_topic();
    let template = produce_frame(topic_id, 1, 100);
    group.throughput(Throughput::Elements(REQUESTS));
    group.bench_function("64 requests a turn", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                let frames: Vec<BytesMut> = (0..REQUESTS).map(|_| template.clone()).collect();
                let begin = Instant::now();
                for frame in frames {
                    let event = Event::Request { connection: PRODUCER, frame };
                    core.shard.step(core.now, event, &mut core.effects);
                }
                core.turn(None);
                core.land();
                total += begin.elapsed();
                core.settle();
                assert_eq!(core.responses.len() as u64, REQUESTS);
                core.responses.clear();
            }
            total
        });
    });
}

fn fetch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step/fetch");
    let mut core = Core::open();
    let topic_id = core.create_topic();
    let (produce, mut end) = (produce_frame(topic_id, 1, 1024), 0);
    for _ in 0..2000 {
        core.request(PRODUCER, produce.clone());
        core.settle();
        end += 1;
    }
    core.responses.clear();
    group.throughput(Throughput::Elements(1));
    // One batch at the end, and a whole MiB of them from the start.
    for (name, offset) in [("tail hit 1KiB", end - 1), ("tail hit 1MiB", 0)] {
        let template = fetch_frame(topic_id, offset);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                clocked(
                    &mut core,
                    iterations,
                    |_| template.clone(),
                    |core, frame| {
                        core.request(CONSUMER, frame);
                        assert_eq!(core.responses.len(), 1);
                    },
                )
            });
        });
    }
    group.bench_function("park", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                let frame = fetch_frame(topic_id, end);
                let begin = Instant::now();
                core.request(CONSUMER, frame);
                total += begin.elapsed();
                core.request(PRODUCER, produce.clone());
                core.settle();
                end += 1;
                assert_eq!(core.responses.len(), 2, "the parked fetch and the producer");
                core.responses.clear();
            }
            total
        });
    });
    // Both answers leave in the turn in which the commit lands; what the produce before it costs stands above.
    group.bench_function("wake and acknowledge", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                core.request(CONSUMER, fetch_frame(topic_id, end));
                core.request(PRODUCER, produce.clone());
                let begin = Instant::now();
                core.land();
                total += begin.elapsed();
                core.settle();
                end += 1;
                assert_eq!(core.responses.len(), 2, "the parked fetch and the producer");
                core.responses.clear();
            }
            total
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600)).sample_size(20);
    targets = produce, produce_in_one_turn, fetch
}
criterion_main!(benches);
