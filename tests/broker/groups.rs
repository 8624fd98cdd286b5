//! Groups of librdkafka's consumers, of both protocols and on both cores, read a topic through kill -9s of their
//! coordinator: everything is read, no committed offset goes back, and members notice no more than a pause.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::fixture::{Broker, PATIENCE};

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 4;
const RECORDS_PER_PARTITION: i64 = 300;
/// A member commits after so many records of a partition, and stops short of the end by less.
const COMMIT_EVERY: i64 = 20;
const KILLS: usize = 3;

/// By partition: offsets that were read, and the greatest that was said to be committed.
#[derive(Default)]
struct Seen {
    read: BTreeMap<i32, BTreeSet<i64>>,
    committed: BTreeMap<i32, i64>,
}

impl Seen {
    fn add(&mut self, other: Seen) {
        other.read.into_iter().for_each(|(partition, offsets)| self.read.entry(partition).or_default().extend(offsets));
        for (partition, offset) in other.committed {
            let most = self.committed.entry(partition).or_default();
            *most = offset.max(*most);
        }
    }
}

struct Group {
    name: String,
    members: Vec<JoinHandle<Seen>>,
    /// What it had committed when it was last looked at.
    floor: BTreeMap<i32, i64>,
}

fn classic(broker: &Broker, group: &str) -> ClientConfig {
    let mut config = broker.client();
    config.set("group.id", group).set("session.timeout.ms", "6000").set("heartbeat.interval.ms", "200");
    config
}

fn consumer(broker: &Broker, group: &str) -> ClientConfig {
    let mut config = broker.client();
    config.set("group.id", group).set("group.protocol", "consumer");
    config
}

/// Subscribes, reads, and commits every so often, until told to stop.
fn member(mut config: ClientConfig, stop: Arc<AtomicBool>) -> JoinHandle<Seen> {
    config.set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    std::thread::spawn(move || {
        let mut seen = Seen::default();
        consumer.subscribe(&[TOPIC]).expect("a subscription");
        while !stop.load(Ordering::SeqCst) {
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else { continue };
            let (partition, offset) = (message.partition(), message.offset());
            seen.read.entry(partition).or_default().insert(offset);
            if (offset + 1) % COMMIT_EVERY == 0 {
                let mut list = TopicPartitionList::new();
                list.add_partition_offset(TOPIC, partition, Offset::Offset(offset + 1)).expect("an offset");
                // While the coordinator is down, or another member has the partition, it is not committed: that is said.
                if consumer.commit(&list, CommitMode::Sync).is_ok() {
                    seen.committed.insert(partition, offset + 1);
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        seen
    })
}

/// As the group has it now; 0 where nothing is committed.
fn committed(broker: &Broker, group: &str) -> BTreeMap<i32, i64> {
    let mut config = broker.client();
    let consumer: BaseConsumer = config.set("group.id", group).create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_range(TOPIC, 0, PARTITIONS - 1);
    let begin = Instant::now();
    loop {
        match consumer.committed_offsets(list.clone(), PATIENCE) {
            Ok(found) => {
                let offset = |offset| if let Offset::Offset(offset) = offset { offset } else { 0 };
                return found.elements().iter().map(|row| (row.partition(), offset(row.offset()))).collect();
            }
            Err(error) => assert!(begin.elapsed() < PATIENCE, "{group}: {error}\n{}", broker.log()),
        }
    }
}

impl Group {
    fn start(name: &str, members: Vec<ClientConfig>, stop: &Arc<AtomicBool>) -> Group {
        let members = members.into_iter().map(|config| member(config, stop.clone())).collect();
        Group { name: name.to_owned(), members, floor: BTreeMap::new() }
    }

    /// No offset has gone back. True once the group is through.
    fn look(&mut self, broker: &Broker) -> bool {
        let now = committed(broker, &self.name);
        for (partition, offset) in &self.floor {
            let (name, found) = (&self.name, now[partition]);
            assert!(found >= *offset, "{name}: {offset} was committed for {partition}, {found} is\n{}", broker.log());
        }
        self.floor = now;
        self.floor.values().all(|offset| *offset == RECORDS_PER_PARTITION)
    }

    /// Nothing was passed over, and what was said to be committed is.
    fn check(self, broker: &Broker) {
        let mut seen = Seen::default();
        self.members.into_iter().for_each(|member| seen.add(member.join().expect("a member")));
        let committed = committed(broker, &self.name);
        for partition in 0..PARTITIONS {
            let read = seen.read.get(&partition).cloned().unwrap_or_default();
            assert!(read.into_iter().eq(0..RECORDS_PER_PARTITION), "{}: {partition} is not read whole", self.name);
            let told = seen.committed.get(&partition).copied().unwrap_or_default();
            assert!(committed[&partition] >= told, "{}: {told} was told to be committed", self.name);
        }
    }
}

fn fill(broker: &Broker) {
    broker.create_topic(TOPIC, PARTITIONS);
    let producer: BaseProducer = broker.client().create().expect("a producer");
    for number in 0..RECORDS_PER_PARTITION {
        for partition in 0..PARTITIONS {
            let payload = number.to_string();
            let record = BaseRecord::<(), str>::to(TOPIC).partition(partition).payload(&payload);
            producer.send(record).map_err(|(error, _)| error).expect("room in the queue");
        }
    }
    producer.flush(PATIENCE).expect("delivered");
}

#[test]
fn groups_read_everything_and_no_committed_offset_goes_back() {
    let mut broker = Broker::start(&["gannet.cores=2", "group.initial.rebalance.delay.ms=100"]);
    fill(&broker);
    let stop = Arc::new(AtomicBool::new(false));
    let mut fixed = classic(&broker, "pair");
    fixed.set("group.instance.id", "one");
    let pair = vec![classic(&broker, "pair"), fixed];
    let mut groups = vec![Group::start("pair", pair, &stop)];
    let pair = vec![consumer(&broker, "pair-848"), consumer(&broker, "pair-848")];
    groups.push(Group::start("pair-848", pair, &stop));
    // Their partitions of __consumer_offsets lie on either core.
    for number in 0..4 {
        let name = format!("alone-{number}");
        let config = if number % 2 == 0 { classic(&broker, &name) } else { consumer(&broker, &name) };
        groups.push(Group::start(&name, vec![config], &stop));
    }
    let begin = Instant::now();
    let mut kills = 0;
    loop {
        std::thread::sleep(Duration::from_millis(700));
        let through = groups.iter_mut().filter_map(|group| group.look(&broker).then_some(())).count();
        if through == groups.len() {
            break;
        }
        let behind: Vec<_> = groups.iter().map(|group| (&group.name, &group.floor)).collect();
        assert!(begin.elapsed() < 2 * PATIENCE, "the groups have come to {behind:?} only\n{}", broker.log());
        if kills < KILLS {
            kills += 1;
            broker.kill();
            broker.restart();
        }
    }
    assert_eq!(kills, KILLS, "the groups were through too soon");
    stop.store(true, Ordering::SeqCst);
    groups.into_iter().for_each(|group| group.check(&broker));
    assert!(broker.terminate().success());
}

#[test]
fn a_member_goes_on_as_the_one_it_was_after_its_coordinator_was_killed() {
    let mut broker = Broker::start(&["gannet.cores=2", "group.initial.rebalance.delay.ms=0"]);
    fill(&broker);
    let stop = Arc::new(AtomicBool::new(false));
    for (name, config) in [("old", classic(&broker, "old")), ("new", consumer(&broker, "new"))] {
        let mut group = Group::start(name, vec![config], &stop);
        let begin = Instant::now();
        while !group.look(&broker) {
            assert!(begin.elapsed() < PATIENCE, "{name} has come to {:?}\n{}", group.floor, broker.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        let before = broker.gannet(&["groups", "describe", name]);
        broker.kill();
        broker.restart();
        let after = broker.gannet(&["groups", "describe", name]);
        assert_eq!(before, after, "{name} has another member");
        assert!(group.look(&broker), "{name}: {:?}", group.floor);
        std::thread::sleep(Duration::from_millis(1000));
        let later = broker.gannet(&["groups", "describe", name]);
        assert_eq!(before, later, "{name} has joined again");
        stop.store(true, Ordering::SeqCst);
        group.check(&broker);
        stop.store(false, Ordering::SeqCst);
    }
}
