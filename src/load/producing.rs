//! One producer of the load: makes records when they are due, hands them to the client's machine, and notes what became of
//! each. Lives on one worker's thread.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::net::{Clock, Links, Poller};
use super::plan::{Partitioning, Plan};
use super::random::Random;
use super::schedule::Schedule;
use super::stamp::Stamp;
use super::stats::{Interval, Pending};
use super::verify::{Sent, Stream};
use super::workload::RecordMaker;
use crate::client::{Cluster, Delivery, Destination, Partitioner, Producer, Response};
use crate::error_code::ErrorCode;
use crate::protocol::ApiKey;
use crate::protocol::metadata::MetadataRequestTopic;
use crate::protocol::{
    InitProducerIdRequest, InitProducerIdResponse, MetadataRequest, MetadataResponse, ProduceResponse,
};
use crate::types::{BrokerId, Time};

/// Records made at a stretch before sockets are looked at again.
const RECORDS_PER_TURN: usize = 512;
/// The clock is read anew after so many of them.
const RECORDS_PER_CLOCK: usize = 32;
const METADATA_BACKOFF_NS: u64 = 100_000_000;
/// Records that would wait for others anyway are made together: at most so long after the first of them was due.
const SLACK_NS_MAX: u64 = 1_000_000;
/// A record costs its batch about so much more than its key and value.
const RECORD_OVERHEAD_BYTES: usize = 12;

#[derive(Debug)]
pub struct Producing {
    /// Counted from 0 over all workers.
    pub index: usize,
    plan: Arc<Plan>,
    machine: Producer,
    links: Links,
    /// The brokers that lead something, as of the last metadata.
    leaders: Vec<BrokerId>,
    maker: RecordMaker,
    /// `None` at the maximum rate.
    schedule: Option<Schedule>,
    partitioners: Vec<Partitioner>,
    /// By topic: bytes given to the sticky partition since it was chosen.
    sticky_bytes: Vec<usize>,
    round_robin: usize,
    next_topic: usize,
    /// By destination.
    pending: Vec<Pending>,
    pending_records: usize,
    unacknowledged: BTreeMap<usize, Vec<(u64, u64)>>,
    /// A record is made, and waits since then for buffer.memory.
    blocked_since_ns: Option<u64>,
    /// The part of that which has been counted.
    blocked_counted_ns: u64,
    is_made: bool,
    has_ended: bool,
    metadata_not_before_ns: u64,
    metadata_asked: bool,
    identity_not_before_ns: u64,
    identity_asked: bool,
    pub failure: Option<String>,
}

impl Producing {
    pub fn new(plan: Arc<Plan>, index: usize, client: u32) -> Producing {
        let destinations = plan.partitions.iter().map(|place| Destination {
            topic: place.topic.clone(),
            topic_id: place.topic_id,
            partition: place.partition,
            leader: place.leader,
        });
        let identity = plan.identities.get(index).copied();
        let machine = Producer::new(plan.producer.config(), identity, destinations.collect());
        let topics = plan.partitions.len() / plan.partitions_per_topic;
        let start = index as u32;
        let schedule = Schedule::new(
            &plan.rate,
            plan.step_ns,
            plan.arrivals,
            index,
            plan.producers,
            Random::new(plan.seed, 1 << 32 | index as u64),
        );
        Producing {
            index,
            links: Links::new(client, format!("{}-producer-{index}", plan.client_id), plan.addresses.clone()),
            leaders: machine.leaders(),
            machine,
            maker: RecordMaker::new(plan.seed, index, plan.sizes.clone(), plan.keys.clone(), plan.pool.clone()),
            schedule,
            partitioners: vec![Partitioner::new(plan.partitions_per_topic as u32, start); topics],
            sticky_bytes: vec![0; topics],
            round_robin: index * plan.partitions_per_topic / plan.producers.max(1),
            next_topic: index % topics,
            pending: vec![Pending::default(); plan.partitions.len()],
            pending_records: 0,
            unacknowledged: BTreeMap::new(),
            blocked_since_ns: None,
            blocked_counted_ns: 0,
            is_made: false,
            has_ended: false,
            metadata_not_before_ns: 0,
            metadata_asked: false,
            identity_not_before_ns: 0,
            identity_asked: false,
            failure: None,
            plan,
        }
    }

    pub fn measure_from(&mut self, ns: u64) {
        if let Some(schedule) = &mut self.schedule {
            schedule.measure_from(ns);
        }
    }

    /// Every record has reached its end, and none is due any more.
    pub fn is_idle(&self) -> bool {
        self.has_ended && self.machine.is_idle()
    }

    /// Makes what is due. True if more is due than one turn makes.
    pub fn produce(&mut self, clock: Clock, end_ns: u64, interval: &mut Interval) -> bool {
        let mut now_ns = clock.now_ns();
        let mut time = Clock::time(now_ns);
        let slack_ns = self.slack_ns();
        for made in 0..RECORDS_PER_TURN {
            if made > 0 && made % RECORDS_PER_CLOCK == 0 {
                now_ns = clock.now_ns();
                time = Clock::time(now_ns);
            }
            let due_ns = self.schedule.as_ref().map_or(now_ns, Schedule::due_ns);
            if self.has_ended || due_ns >= end_ns || (self.schedule.is_none() && now_ns >= end_ns) {
                self.end(now_ns, interval);
                return false;
            }
            if due_ns > now_ns {
                return false;
            }
            if !std::mem::replace(&mut self.is_made, true) {
                interval.counts.due += 1;
                self.maker.next();
            }
            if !self.has_room() {
                self.block(now_ns, interval);
                return false;
            }
            self.unblock(now_ns, interval);
            // What was made together with others, a little late, leaves no later for that.
            let since_us = due_ns.max(now_ns.saturating_sub(slack_ns)) / 1000;
            self.push(now_ns, Time { monotonic_us: since_us, ..time }, due_ns);
            self.is_made = false;
            if let Some(schedule) = &mut self.schedule {
                schedule.advance();
            }
        }
        true
    }

    /// How late a record may be made so that the generator does not wake up for each: a tenth of linger.ms, and a
    /// quarter of the time in which a batch fills, since a batch that is full should leave. Nothing with linger.ms=0.
    fn slack_ns(&self) -> u64 {
        let settings = &self.plan.producer;
        let Some(schedule) = self.schedule.as_ref().filter(|_| settings.linger_ms > 0) else { return 0 };
        let records_a_batch = settings.batch_size / (self.plan.sizes.largest() + RECORD_OVERHEAD_BYTES);
        let fills_ns = schedule.gap_ns().saturating_mul(records_a_batch as u64);
        let slack_ns = (settings.linger_ms * 1_000_000 / 10).min(fills_ns / 4).min(SLACK_NS_MAX);
        // Where each record would be alone all the same, it is made when it is due.
        if slack_ns < schedule.gap_ns() { 0 } else { slack_ns }
    }

    fn end(&mut self, now_ns: u64, interval: &mut Interval) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.unblock(now_ns, interval);
            self.machine.flush();
        }
    }

    fn has_room(&self) -> bool {
        let record_bytes = self.maker.value().len() + self.maker.key().map_or(0, <[u8]>::len);
        let settings = &self.plan.producer;
        let is_first = self.machine.buffered_bytes() == 0;
        (is_first || self.machine.buffered_bytes() + record_bytes <= settings.buffer_memory)
            && self.pending_records < settings.buffer_records
    }

    /// The record waits; one that has waited for max.block.ms is given up, as a client's `send` would.
    fn block(&mut self, now_ns: u64, interval: &mut Interval) {
        let since_ns = *self.blocked_since_ns.get_or_insert(now_ns);
        self.count_blocked(now_ns, interval);
        if now_ns.saturating_sub(since_ns) >= self.plan.producer.max_block_ms * 1_000_000 && self.schedule.is_some() {
            interval.counts.blocked_out += 1;
            interval.counts.error("no buffer.memory within max.block.ms", 1);
            self.blocked_since_ns = None;
            self.blocked_counted_ns = 0;
            self.is_made = false;
            if let Some(schedule) = &mut self.schedule {
                schedule.advance();
            }
        }
    }

    fn unblock(&mut self, now_ns: u64, interval: &mut Interval) {
        self.count_blocked(now_ns, interval);
        self.blocked_since_ns = None;
        self.blocked_counted_ns = 0;
    }

    /// Time blocked so far, up to now.
    pub fn count_blocked(&mut self, now_ns: u64, interval: &mut Interval) {
        if let Some(since_ns) = self.blocked_since_ns {
            let blocked_ns = now_ns.saturating_sub(since_ns);
            interval.counts.blocked_ns += blocked_ns - self.blocked_counted_ns;
            self.blocked_counted_ns = blocked_ns;
        }
    }

    fn push(&mut self, now_ns: u64, time: Time, due_ns: u64) {
        let plan = &self.plan;
        let topic = self.next_topic;
        let topics = self.partitioners.len();
        self.next_topic = if topic + 1 == topics { 0 } else { topic + 1 };
        let partition = match plan.partitioning {
            Partitioning::Murmur2 => self.partitioners[topic].partition(self.maker.key()) as usize,
            Partitioning::Sticky => self.partitioners[topic].partition(None) as usize,
            Partitioning::RoundRobin => {
                self.round_robin += usize::from(topic == 0);
                self.round_robin % plan.partitions_per_topic
            }
        };
        let destination = topic * plan.partitions_per_topic + partition;
        let stamp = Stamp {
            run: plan.run,
            due_ns,
            delay_us: u32::try_from(now_ns.saturating_sub(due_ns) / 1000).unwrap_or(u32::MAX),
            producer: self.index as u32,
            sequence: self.pending[destination].next(),
        };
        stamp.write(self.maker.value_mut(), plan.is_verified);
        let (key, value) = (self.maker.key(), self.maker.value());
        self.pending[destination].push(due_ns, now_ns, key.map_or(0, <[u8]>::len) + value.len());
        self.pending_records += 1;
        let is_full = self.machine.push(time, destination, time.wall_ms, key, Some(value));
        if key.is_none() || plan.partitioning == Partitioning::Sticky {
            // Where linger ends batches before they are full, a batch's worth of bytes moves on as well (KIP-794).
            self.sticky_bytes[topic] += value.len();
            if is_full || self.sticky_bytes[topic] >= plan.producer.batch_size {
                self.partitioners[topic].on_batch_full();
                self.sticky_bytes[topic] = 0;
            }
        }
    }

    /// Sends what may leave, gives up what is overdue.
    pub fn pump(&mut self, poller: &Poller, now_ns: u64, measured_from_ns: u64, interval: &mut Interval) {
        let time = Clock::time(now_ns);
        let expired = self.machine.expire(time);
        self.on_deliveries(expired, now_ns, measured_from_ns, interval);
        if let Some(broker) = self.machine.overdue(time) {
            self.on_lost(broker, "it owes an answer for request.timeout.ms", now_ns, interval);
        }
        self.ask_for_metadata(poller, now_ns, interval);
        self.ask_for_identity(now_ns, interval);
        for place in 0..self.leaders.len() {
            let broker = self.leaders[place];
            loop {
                let link = match self.links.ready(poller, now_ns, broker) {
                    Ok(Some(link)) => link,
                    Ok(None) => break,
                    Err(reason) => {
                        self.on_lost(broker, &reason, now_ns, interval);
                        break;
                    }
                };
                let Some(request) = self.machine.next_request(time, broker) else { break };
                let is_answered = request.acks != 0;
                interval.counts.requests += 1;
                if let Err(reason) = link.send(&request, is_answered) {
                    self.on_lost(broker, &reason, now_ns, interval);
                    break;
                }
                if !is_answered {
                    let deliveries = self.machine.on_sent_unanswered(broker);
                    self.on_deliveries(deliveries, now_ns, measured_from_ns, interval);
                }
            }
        }
    }

    fn ask_for_metadata(&mut self, poller: &Poller, now_ns: u64, interval: &mut Interval) {
        let is_due = self.machine.wants_metadata() && now_ns >= self.metadata_not_before_ns;
        if !is_due || self.metadata_asked {
            return;
        }
        self.metadata_not_before_ns = now_ns + METADATA_BACKOFF_NS;
        match ask_for_metadata(&self.plan, &mut self.links, poller, now_ns) {
            Ok(is_asked) => self.metadata_asked = is_asked,
            Err((broker, reason)) => self.on_lost(broker, &reason, now_ns, interval),
        }
    }

    /// After records were given up: what follows them in their partitions needs another producer id.
    fn ask_for_identity(&mut self, now_ns: u64, interval: &mut Interval) {
        let is_due = self.machine.wants_identity() && now_ns >= self.identity_not_before_ns;
        if !is_due || self.identity_asked {
            return;
        }
        let Some((broker, link)) = self.links.any_ready() else { return };
        self.identity_not_before_ns = now_ns + METADATA_BACKOFF_NS;
        match link.send(&InitProducerIdRequest { transaction_timeout_ms: i32::MAX, ..Default::default() }, true) {
            Ok(()) => self.identity_asked = true,
            Err(reason) => self.on_lost(broker, &reason, now_ns, interval),
        }
    }

    pub fn on_event(
        &mut self,
        broker: BrokerId,
        poller: &mut Poller,
        now_ns: u64,
        from_ns: u64,
        interval: &mut Interval,
    ) {
        let mut responses = Vec::new();
        let outcome = self.links.on_event(broker, &mut poller.scratch, &mut responses);
        for response in responses {
            if let Err(reason) = self.on_response(broker, &response, now_ns, from_ns, interval) {
                self.on_lost(broker, &reason, now_ns, interval);
                return;
            }
        }
        if let Err(reason) = outcome {
            self.on_lost(broker, &reason, now_ns, interval);
        }
    }

    fn on_response(
        &mut self,
        broker: BrokerId,
        response: &Response,
        now_ns: u64,
        from_ns: u64,
        interval: &mut Interval,
    ) -> Result<(), String> {
        if response.api_key == ApiKey::Metadata.code() {
            let metadata: MetadataResponse = response.decode().map_err(|error| error.to_string())?;
            self.on_metadata(&Cluster::of(&metadata));
            return Ok(());
        }
        if response.api_key == ApiKey::InitProducerId.code() {
            let answer: InitProducerIdResponse = response.decode().map_err(|error| error.to_string())?;
            self.identity_asked = false;
            if answer.error_code == ErrorCode::None.code() {
                let deliveries = self.machine.on_identity((answer.producer_id, answer.producer_epoch));
                self.on_deliveries(deliveries, now_ns, from_ns, interval);
            }
            return Ok(());
        }
        let answer: ProduceResponse = response.decode().map_err(|error| error.to_string())?;
        for part in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
            if let Some(code) = ErrorCode::from_code(part.error_code).filter(|code| *code != ErrorCode::None) {
                interval.counts.error(code.name(), 1);
            }
        }
        let deliveries = self.machine.on_response(Clock::time(now_ns), broker, &answer);
        self.on_deliveries(deliveries, now_ns, from_ns, interval);
        Ok(())
    }

    fn on_metadata(&mut self, cluster: &Cluster) {
        self.metadata_asked = false;
        if let Some(reason) = vanished(&self.plan, cluster) {
            self.failure = Some(reason);
        }
        self.links.set_addresses(Plan::resolve(cluster));
        self.machine.on_metadata(cluster);
        self.leaders = self.machine.leaders();
    }

    fn on_deliveries(&mut self, deliveries: Vec<Delivery>, now_ns: u64, from_ns: u64, interval: &mut Interval) {
        for delivery in deliveries {
            let records = u64::try_from(delivery.records).unwrap_or(0);
            let pending = &mut self.pending[delivery.destination];
            self.pending_records -= records as usize;
            interval.counts.batches += 1;
            if let Err((code, _)) = &delivery.outcome {
                pending.take(delivery.first_record, records, |_, _, _| {});
                interval.counts.failed += records;
                interval.counts.error(&format!("given up: {}", code.name()), records);
                self.unacknowledged.entry(delivery.destination).or_default().push((delivery.first_record, records));
                continue;
            }
            let mut bytes = 0;
            pending.take(delivery.first_record, records, |due_ns, given_ns, record_bytes| {
                bytes += u64::from(record_bytes);
                interval.of(due_ns, from_ns).on_acknowledged(now_ns, due_ns, given_ns);
            });
            interval.counts.acknowledged += records;
            interval.counts.acknowledged_bytes += bytes;
        }
    }

    fn on_lost(&mut self, broker: BrokerId, reason: &str, now_ns: u64, interval: &mut Interval) {
        interval.counts.disconnects += 1;
        interval.counts.error(&format!("{}: {reason}", self.links.name(broker)), 1);
        self.metadata_asked = false;
        self.identity_asked = false;
        self.links.close(broker, now_ns);
        let deliveries = self.machine.on_disconnect(Clock::time(now_ns), broker);
        // What is given up has no latency, so that it does not matter what is measured.
        self.on_deliveries(deliveries, now_ns, u64::MAX, interval);
    }

    pub fn is_connected(&mut self) -> bool {
        self.links.any_ready().is_some()
    }

    /// When something is due next, in nanoseconds since the run began.
    pub fn next_ns(&self) -> u64 {
        let schedule = match &self.schedule {
            _ if self.has_ended => None,
            // Answers make room, and the end of max.block.ms is a coarse matter.
            _ if self.blocked_since_ns.is_some() => None,
            Some(schedule) => Some(schedule.due_ns() + self.slack_ns()),
            None => Some(0),
        };
        let machine = self.machine.next_deadline().map(|us| us * 1000 + 1);
        let metadata = (self.machine.wants_metadata() && !self.metadata_asked).then_some(self.metadata_not_before_ns);
        let identity = (self.machine.wants_identity() && !self.identity_asked).then_some(self.identity_not_before_ns);
        schedule
            .into_iter()
            .chain(machine)
            .chain(metadata)
            .chain(identity)
            .chain(self.links.next_ns())
            .min()
            .unwrap_or(u64::MAX)
    }

    /// How many records of each destination were sent, and which were not acknowledged.
    pub fn sent(&self) -> impl Iterator<Item = (Stream, Sent)> + '_ {
        let sent = self.pending.iter().enumerate().filter(|(_, pending)| pending.next() > 0);
        sent.map(|(destination, pending)| {
            let mut unacknowledged = self.unacknowledged.get(&destination).cloned().unwrap_or_default();
            // A run that was cut off leaves records on their way.
            unacknowledged.extend(pending.open());
            let stream = Stream { destination, producer: self.index as u32 };
            (stream, Sent { records: pending.next(), unacknowledged })
        })
    }
}

/// Asks any broker that can be reached. True if one was asked; connects to the others meanwhile.
pub fn ask_for_metadata(
    plan: &Plan,
    links: &mut Links,
    poller: &Poller,
    now_ns: u64,
) -> Result<bool, (BrokerId, String)> {
    let topics = plan.topics();
    if links.any_ready().is_none() {
        for broker in plan.addresses.keys() {
            links.ready(poller, now_ns, *broker).map_err(|reason| (*broker, reason))?;
        }
    }
    let Some((broker, link)) = links.any_ready() else { return Ok(false) };
    fn named(topic: &Arc<str>) -> MetadataRequestTopic<'_> {
        MetadataRequestTopic { name: Some(topic), ..Default::default() }
    }
    let request = MetadataRequest {
        topics: Some(topics.iter().map(named).collect()),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    link.send(&request, true).map_err(|reason| (broker, reason))?;
    Ok(true)
}

/// Why the run cannot go on with this cluster.
pub fn vanished(plan: &Plan, cluster: &Cluster) -> Option<String> {
    let gone = plan.partitions.iter().find(|place| {
        let is_unknown = cluster.errors.get(&*place.topic) == Some(&ErrorCode::UnknownTopicOrPartition);
        is_unknown || cluster.topics.get(&*place.topic).is_some_and(|topic| topic.id != place.topic_id)
    });
    gone.map(|place| format!("topic {} has been deleted while it was under load", place.topic))
}
