//! kill -9 at random instants under an idempotent acks=all load: nothing acknowledged is lost, nothing comes twice or out
//! of order. The load is librdkafka's, which retries what it does not know the outcome of.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, ThreadedProducer};

use super::fixture::{Broker, PATIENCE};

/// Where each acknowledged message went: (partition, sequence) → offset.
#[derive(Default)]
struct Acknowledged {
    offsets: Mutex<HashMap<(i32, u64), i64>>,
    failures: Mutex<Vec<String>>,
    count: AtomicU64,
}

#[derive(Clone)]
struct Deliveries(Arc<Acknowledged>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, sequence: Box<u64>) {
        match result {
            Ok(message) => {
                self.0.offsets.lock().expect("lock").insert((message.partition(), *sequence), message.offset());
                self.0.count.fetch_add(1, Ordering::SeqCst);
            }
            Err((error, message)) => {
                let failure = format!("partition {} sequence {sequence}: {error}", message.partition());
                self.0.failures.lock().expect("lock").push(failure);
            }
        }
    }
}

const PARTITIONS: i32 = 6;

struct Load {
    acknowledged: Arc<Acknowledged>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

/// Produces to all partitions in turn, as fast as the broker takes it, until told to stop; then waits for all answers.
fn load(broker: &Broker, topic: &'static str) -> Load {
    let acknowledged = Arc::new(Acknowledged::default());
    let stop = Arc::new(AtomicBool::new(false));
    let mut config = broker.client();
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", "0")
        .set("linger.ms", "1")
        .set("queue.buffering.max.messages", "2000");
    let producer: ThreadedProducer<Deliveries> =
        config.create_with_context(Deliveries(acknowledged.clone())).expect("a producer");
    let stopping = stop.clone();
    let thread = std::thread::spawn(move || {
        let mut sequence = 0;
        while !stopping.load(Ordering::SeqCst) {
            let payload = format!("{sequence}:{}", "x".repeat((sequence % 700) as usize));
            let partition = (sequence % PARTITIONS as u64) as i32;
            let record = BaseRecord::<(), str, Box<u64>>::with_opaque_to(topic, Box::new(sequence));
            match producer.send(record.partition(partition).payload(&payload)) {
                Ok(()) => sequence += 1,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, _)) => panic!("sequence {sequence}: {error}"),
            }
        }
        producer.flush(PATIENCE).expect("every message is answered in the end");
        sequence
    });
    Load { acknowledged, stop, thread }
}

impl Load {
    fn wait_for_progress(&self, messages: u64) {
        let (before, begin) = (self.acknowledged.count.load(Ordering::SeqCst), Instant::now());
        while self.acknowledged.count.load(Ordering::SeqCst) < before + messages {
            let failures = self.acknowledged.failures.lock().expect("lock");
            assert!(failures.is_empty(), "{:?}", &failures[..failures.len().min(5)]);
            assert!(begin.elapsed() < PATIENCE, "no progress");
            drop(failures);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops the load and holds what the broker has against what it acknowledged.
    fn check(self, broker: &Broker, topic: &str) {
        self.stop.store(true, Ordering::SeqCst);
        let sent = self.thread.join().expect("the load ends");
        let failures = self.acknowledged.failures.lock().expect("lock");
        assert!(failures.is_empty(), "{} failed: {:?}", failures.len(), &failures[..failures.len().min(5)]);
        let acknowledged = self.acknowledged.offsets.lock().expect("lock");
        assert_eq!(acknowledged.len() as u64, sent, "every message was acknowledged in the end");
        for partition in 0..PARTITIONS {
            let records = broker.read_all(topic, partition);
            let mut expected = partition as u64;
            for (offset, payload) in &records {
                let text = std::str::from_utf8(payload).expect("text");
                let sequence: u64 = text.split(':').next().and_then(|text| text.parse().ok()).expect("a sequence");
                assert_eq!(sequence, expected, "lost, repeated or out of order in partition {partition} at {offset}");
                assert_eq!(acknowledged.get(&(partition, sequence)), Some(offset), "acknowledged elsewhere");
                expected += PARTITIONS as u64;
            }
            let count = (sent + PARTITIONS as u64 - 1 - partition as u64) / PARTITIONS as u64;
            assert_eq!(records.len() as u64, count, "partition {partition}");
        }
    }
}

/// A generator whose only job is to be another one in each round.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn fifty_kills_under_load_lose_repeat_and_reorder_nothing() {
    let mut broker = Broker::start(&["gannet.cores=2", "log.segment.bytes=1048576"]);
    broker.create_topic("crash", PARTITIONS);
    let load = load(&broker, "crash");
    let mut state = 42;
    for _ in 0..50 {
        load.wait_for_progress(1 + draw(&mut state) % 2000);
        broker.kill();
        broker.restart();
    }
    load.wait_for_progress(100);
    load.check(&broker, "crash");
}

#[test]
fn another_number_of_cores_at_each_start_loses_nothing() {
    let mut broker = Broker::start(&["gannet.cores=1"]);
    broker.create_topic("cores", PARTITIONS);
    let load = load(&broker, "cores");
    for cores in ["2", "1", "2", "2", "1"] {
        load.wait_for_progress(500);
        let clean = cores == "2";
        if clean {
            assert!(broker.terminate().success(), "{}", broker.log());
        } else {
            broker.kill();
        }
        broker.set_override(&format!("gannet.cores={cores}"));
        broker.restart();
    }
    load.check(&broker, "cores");
}

fn journals(broker: &Broker) -> impl Iterator<Item = Vec<u8>> {
    let entries = std::fs::read_dir(broker.directory.join(".gannet")).expect("its own directory");
    let files = entries.map(|entry| entry.expect("an entry").path());
    files.filter(|path| path.to_string_lossy().contains("journal")).map(|path| std::fs::read(path).expect("a journal"))
}

/// flush.ms is an upper bound, here of a minute: what waits for nobody is on its way to the device at once.
#[test]
fn what_is_acknowledged_from_memory_reaches_the_device_though_nobody_waits_for_it() {
    let mut broker = Broker::start(&["gannet.cores=1"]);
    broker.gannet(&["topics", "create", "quick", "--config", "flush.messages=10000", "--config", "flush.ms=60000"]);
    let payload = "acknowledged from memory";
    let producer: BaseProducer = broker.client().create().expect("a producer");
    producer.send(BaseRecord::<(), str>::to("quick").payload(payload)).expect("queued");
    producer.flush(PATIENCE).expect("acknowledged");
    let until = Instant::now() + PATIENCE;
    while !journals(&broker).any(|journal| journal.windows(payload.len()).any(|bytes| bytes == payload.as_bytes())) {
        assert!(Instant::now() < until, "the journal never had it");
        std::thread::yield_now();
    }
    broker.kill();
    broker.restart();
    assert_eq!(broker.read_all("quick", 0), [(0, payload.as_bytes().to_vec())]);
}
