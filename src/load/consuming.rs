//! One consumer of the load: fetches its partitions, takes records at the rate it is allowed, and notes when each came.
//! Lives on one worker's thread.

use std::collections::VecDeque;
use std::sync::Arc;

use super::net::{Clock, Links, Poller};
use super::plan::Plan;
use super::producing::{ask_for_metadata, vanished};
use super::stamp::{Read, Stamp};
use super::stats::Interval;
use super::verify::Verifier;
use crate::client::{Cluster, Fetched, Fetcher, Response, Subscription};
use crate::error_code::ErrorCode;
use crate::protocol::{ApiKey, FetchResponse, MetadataResponse};
use crate::types::{BrokerId, Offset};

/// The clock is read anew after so many records taken.
const RECORDS_PER_CLOCK: usize = 64;
const METADATA_BACKOFF_NS: u64 = 100_000_000;
/// What a throttled consumer may take at once after it could not for a while.
const BURST_NS: u64 = 10_000_000;

#[derive(Debug)]
pub struct Consuming {
    plan: Arc<Plan>,
    machine: Fetcher,
    links: Links,
    leaders: Vec<BrokerId>,
    /// Of each subscription: its place in the plan.
    places: Vec<usize>,
    /// Fetched, and not taken yet: of a throttled consumer.
    waiting: VecDeque<Waiting>,
    throttle: Option<Throttle>,
    pub verifier: Verifier,
    metadata_not_before_ns: u64,
    metadata_asked: bool,
    pub failure: Option<String>,
}

/// A record that a throttled consumer has not taken yet.
#[derive(Debug)]
struct Waiting {
    subscription: usize,
    offset: Offset,
    key_bytes: usize,
    value: Vec<u8>,
}

/// Lets records through at a rate.
#[derive(Clone, Debug)]
struct Throttle {
    gap_ns: f64,
    next_ns: f64,
}

impl Throttle {
    fn take(&mut self, now_ns: u64) -> bool {
        self.next_ns = self.next_ns.max(now_ns.saturating_sub(BURST_NS) as f64);
        let may = self.next_ns <= now_ns as f64;
        if may {
            self.next_ns += self.gap_ns;
        }
        may
    }
}

impl Consuming {
    /// Consumer `index` reads every partition whose place leaves that remainder, as a group would share them out.
    pub fn new(plan: Arc<Plan>, index: usize, client: u32) -> Consuming {
        let places: Vec<usize> = (index..plan.partitions.len()).step_by(plan.consumers).collect();
        let subscriptions = places.iter().map(|place| {
            let place = &plan.partitions[*place];
            Subscription {
                topic: place.topic.clone(),
                topic_id: place.topic_id,
                partition: place.partition,
                leader: place.leader,
                leader_epoch: place.leader_epoch,
                offset: place.offset,
            }
        });
        let machine = Fetcher::new(plan.consumer.config(), subscriptions.collect());
        Consuming {
            links: Links::new(client, format!("{}-consumer-{index}", plan.client_id), plan.addresses.clone()),
            leaders: machine.leaders(),
            machine,
            places,
            waiting: VecDeque::new(),
            throttle: plan.consumer_rate.map(|rate| Throttle { gap_ns: 1e9 / rate, next_ns: 0.0 }),
            verifier: Verifier::default(),
            metadata_not_before_ns: 0,
            metadata_asked: false,
            failure: None,
            plan,
        }
    }

    /// Asks for more, unless what came before still waits to be taken.
    pub fn pump(&mut self, poller: &Poller, now_ns: u64, from_ns: u64, interval: &mut Interval) {
        self.take_waiting(now_ns, from_ns, interval);
        if self.machine.wants_metadata() && now_ns >= self.metadata_not_before_ns && !self.metadata_asked {
            self.metadata_not_before_ns = now_ns + METADATA_BACKOFF_NS;
            match ask_for_metadata(&self.plan, &mut self.links, poller, now_ns) {
                Ok(is_asked) => self.metadata_asked = is_asked,
                Err((broker, reason)) => self.on_lost(broker, &reason, now_ns, interval),
            }
        }
        if self.waiting.len() >= self.plan.consumer.max_poll_records {
            return;
        }
        for place in 0..self.leaders.len() {
            let broker = self.leaders[place];
            let link = match self.links.ready(poller, now_ns, broker) {
                Ok(Some(link)) => link,
                Ok(None) => continue,
                Err(reason) => {
                    self.on_lost(broker, &reason, now_ns, interval);
                    continue;
                }
            };
            if let Some(request) = self.machine.next_request(Clock::time(now_ns), broker)
                && let Err(reason) = link.send(&request, true)
            {
                self.on_lost(broker, &reason, now_ns, interval);
            }
        }
    }

    pub fn on_event(
        &mut self,
        broker: BrokerId,
        poller: &mut Poller,
        clock: Clock,
        from_ns: u64,
        interval: &mut Interval,
    ) {
        let mut responses = Vec::new();
        let outcome = self.links.on_event(broker, &mut poller.scratch, &mut responses);
        for response in responses {
            if let Err(reason) = self.on_response(broker, &response, clock, from_ns, interval) {
                self.on_lost(broker, &reason, clock.now_ns(), interval);
                return;
            }
            self.links.recycle(broker, response);
        }
        if let Err(reason) = outcome {
            self.on_lost(broker, &reason, clock.now_ns(), interval);
        }
    }

    fn on_response(
        &mut self,
        broker: BrokerId,
        response: &Response,
        clock: Clock,
        from_ns: u64,
        interval: &mut Interval,
    ) -> Result<(), String> {
        if response.api_key == ApiKey::Metadata.code() {
            let metadata: MetadataResponse = response.decode().map_err(|error| error.to_string())?;
            let cluster = Cluster::of(&metadata);
            self.metadata_asked = false;
            self.failure = self.failure.take().or(vanished(&self.plan, &cluster));
            self.links.set_addresses(Plan::resolve(&cluster));
            self.machine.on_metadata(&cluster);
            self.leaders = self.machine.leaders();
            return Ok(());
        }
        let answer: FetchResponse = response.decode().map_err(|error| error.to_string())?;
        if let Some(code) = ErrorCode::from_code(answer.error_code).filter(|code| *code != ErrorCode::None) {
            interval.counts.error(code.name(), 1);
        }
        let time = Clock::time(clock.now_ns());
        for fetched in self.machine.on_response(time, broker, answer) {
            self.on_fetched(fetched, clock, from_ns, interval);
        }
        Ok(())
    }

    fn on_fetched(&mut self, fetched: Fetched, clock: Clock, from_ns: u64, interval: &mut Interval) {
        let Fetched { subscription, outcome } = fetched;
        let batches = match outcome {
            Ok(batches) => batches,
            Err(code) => {
                let name = self.plan.partitions[self.places[subscription]].name();
                interval.counts.error(&format!("fetch of {name}: {}", code.name()), 1);
                return;
            }
        };
        let (mut now_ns, mut seen, mut last) = (clock.now_ns(), 0, -1);
        batches.for_each(|record| {
            if seen > 0 && seen % RECORDS_PER_CLOCK == 0 {
                now_ns = clock.now_ns();
            }
            seen += 1;
            match record {
                Ok(record) => {
                    last = record.offset;
                    let (key_bytes, value) = (record.key.map_or(0, <[u8]>::len), record.value.unwrap_or_default());
                    if self.throttle.is_some() {
                        self.waiting.push_back(Waiting {
                            subscription,
                            offset: last,
                            key_bytes,
                            value: value.to_vec(),
                        });
                    } else {
                        self.take(subscription, last, key_bytes, value, [now_ns, from_ns], interval);
                    }
                }
                Err(error) => {
                    let name = self.plan.partitions[self.places[subscription]].name();
                    interval.counts.error("records that do not read", 1);
                    self.verifier.on_corrupt(&name, last + 1, &error.to_string());
                }
            }
        });
        self.take_waiting(now_ns, from_ns, interval);
    }

    fn take_waiting(&mut self, now_ns: u64, from_ns: u64, interval: &mut Interval) {
        let Some(mut throttle) = self.throttle.take() else { return };
        while !self.waiting.is_empty() && throttle.take(now_ns) {
            let Waiting { subscription, offset, key_bytes, value } = self.waiting.pop_front().expect("just seen");
            self.take(subscription, offset, key_bytes, &value, [now_ns, from_ns], interval);
        }
        self.throttle = Some(throttle);
    }

    /// One record, now; what was due before `from_ns` belongs to the warm-up.
    fn take(
        &mut self,
        subscription: usize,
        offset: Offset,
        key_bytes: usize,
        value: &[u8],
        [now_ns, from_ns]: [u64; 2],
        interval: &mut Interval,
    ) {
        let is_verified = self.plan.is_verified;
        interval.counts.consumed += 1;
        interval.counts.consumed_bytes += (value.len() + key_bytes) as u64;
        let read = Stamp::read(value, self.plan.run, is_verified);
        if let Read::Whole(stamp) | Read::Times(stamp) = read {
            let given_ns = stamp.due_ns.saturating_add(u64::from(stamp.delay_us) * 1000);
            interval.of(stamp.due_ns, from_ns).on_consumed(now_ns, stamp.due_ns, given_ns);
        }
        if !is_verified {
            return;
        }
        let place = self.places[subscription];
        match read {
            Read::Whole(stamp) => {
                let partition = &self.plan.partitions[place];
                let name = || partition.name();
                self.verifier.on_record(name, place, offset, &stamp);
            }
            Read::Corrupt => {
                let name = self.plan.partitions[place].name();
                self.verifier.on_corrupt(&name, offset, "the checksum and the bytes of its value do not agree");
            }
            Read::Times(_) | Read::Foreign => self.verifier.on_foreign(),
        }
    }

    fn on_lost(&mut self, broker: BrokerId, reason: &str, now_ns: u64, interval: &mut Interval) {
        interval.counts.disconnects += 1;
        interval.counts.error(&format!("{}: {reason}", self.links.name(broker)), 1);
        self.metadata_asked = false;
        self.links.close(broker, now_ns);
        self.machine.on_disconnect(Clock::time(now_ns), broker);
    }

    pub fn is_connected(&mut self) -> bool {
        self.links.any_ready().is_some()
    }

    /// Records between what was taken and the end of the partitions, as the brokers last told it.
    pub fn lag(&self) -> u64 {
        self.machine.lag() + self.waiting.len() as u64
    }

    pub fn next_ns(&self) -> u64 {
        let machine = self.machine.next_deadline().map(|us| us * 1000 + 1);
        let machine = machine.filter(|_| self.waiting.len() < self.plan.consumer.max_poll_records);
        let throttle = self.throttle.as_ref().filter(|_| !self.waiting.is_empty());
        let throttle = throttle.map(|throttle| throttle.next_ns as u64 + 1);
        let metadata = (self.machine.wants_metadata() && !self.metadata_asked).then_some(self.metadata_not_before_ns);
        machine.into_iter().chain(throttle).chain(metadata).chain(self.links.next_ns()).min().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_lets_its_rate_through_and_no_burst_after_a_rest() {
        let mut throttle = Throttle { gap_ns: 1e6, next_ns: 0.0 };
        let mut taken = |from_ns: u64, upto_ns: u64| {
            (from_ns..upto_ns).step_by(100_000).filter(|now_ns| throttle.take(*now_ns)).count()
        };
        let second = 1_000_000_000;
        assert!((999..=1011).contains(&taken(0, second)));
        let after_a_rest = taken(10 * second, 11 * second);
        assert!((999..=1011).contains(&after_a_rest), "{after_a_rest}");
    }
}
