//! One thread of the generator: its producers and consumers, one poller, one turn after another. Says once per interval what
//! it saw, and at the end what the verification needs.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use super::consuming::Consuming;
use super::net::{Links, Poller};
use super::plan::{Plan, Progress, Signals};
use super::producing::Producing;
use super::stats::Interval;
use super::verify::{Sent, Stream, Verifier};

/// No sleep is longer, so that signals are heard.
const SLEEP_NS_MAX: u64 = 10_000_000;

/// Progress is told no oftener: it costs a look at every partition.
const TELL_NS: u64 = 5_000_000;

/// What workers report.
#[derive(Debug)]
pub enum Report {
    Interval {
        index: u64,
        interval: Box<Interval>,
    },
    /// The last word of a worker.
    Ended {
        last: Box<Interval>,
        sent: BTreeMap<Stream, Sent>,
        verifier: Box<Verifier>,
    },
    /// The worker cannot go on.
    Failed(String),
}

#[derive(Debug)]
pub struct Worker {
    plan: Arc<Plan>,
    signals: Arc<Signals>,
    progress: Arc<Progress>,
    reports: Sender<Report>,
    poller: Poller,
    producers: Vec<Producing>,
    consumers: Vec<Consuming>,
    interval: Interval,
    index: u64,
    measure_from_ns: u64,
    acknowledged: u64,
    consumed: u64,
}

impl Worker {
    /// Worker `index` of the plan's threads: every so-many-th producer and consumer is its own.
    pub fn new(
        plan: Arc<Plan>,
        index: usize,
        signals: Arc<Signals>,
        progress: Arc<Progress>,
        reports: Sender<Report>,
    ) -> io::Result<Worker> {
        let (mut producers, mut consumers) = (Vec::new(), Vec::new());
        // Consumers are dealt out behind the producers: one of each lands on two threads where there are two.
        for client in (0..plan.producers + plan.consumers).filter(|client| client % plan.threads == index) {
            let slot = (producers.len() + consumers.len()) as u32;
            match client.checked_sub(plan.producers) {
                None => producers.push((slot, client)),
                Some(consumer) => consumers.push((slot, consumer)),
            }
        }
        let producers = producers.iter().map(|(slot, index)| Producing::new(plan.clone(), *index, *slot)).collect();
        let consumers = consumers.iter().map(|(slot, index)| Consuming::new(plan.clone(), *index, *slot)).collect();
        Ok(Worker {
            plan,
            signals,
            progress,
            reports,
            poller: Poller::new()?,
            producers,
            consumers,
            interval: Interval::default(),
            index: 0,
            measure_from_ns: u64::MAX,
            acknowledged: 0,
            consumed: 0,
        })
    }

    /// Until the run is over, or until nobody listens.
    pub fn run(mut self) {
        let mut tokens = Vec::new();
        let mut unreachable_since_ns = Some(0);
        let mut told_ns = 0;
        loop {
            let is_more_due = self.turn();
            if let Some(reason) = self.failure() {
                let _ = self.reports.send(Report::Failed(reason));
                break;
            }
            let now_ns = self.signals.clock.now_ns();
            if now_ns - told_ns >= TELL_NS {
                self.tell(now_ns, &mut unreachable_since_ns);
                told_ns = now_ns;
            }
            if self.signals.stop.load(Ordering::Relaxed) {
                break;
            }
            if now_ns >= (self.index + 1) * self.plan.interval_ns && !self.end_interval(now_ns) {
                return;
            }
            let until_ns = match is_more_due || self.plan.spin {
                true => now_ns,
                false => self.next_ns().min(now_ns + SLEEP_NS_MAX),
            };
            if let Err(error) = self.poller.wait(now_ns, until_ns, &mut tokens) {
                let _ =
                    self.reports.send(Report::Failed(format!("the generator cannot wait for its sockets: {error}")));
                break;
            }
            for token in tokens.drain(..) {
                self.on_event(token);
            }
        }
        self.end();
    }

    fn turn(&mut self) -> bool {
        let clock = self.signals.clock;
        let (end_ns, measure_from_ns) = (self.signals.end_ns(), self.signals.measure_from_ns());
        if measure_from_ns != self.measure_from_ns {
            self.measure_from_ns = measure_from_ns;
            self.producers.iter_mut().for_each(|producer| producer.measure_from(measure_from_ns));
        }
        let mut is_more_due = false;
        for producer in &mut self.producers {
            is_more_due |= producer.produce(clock, end_ns, &mut self.interval);
            producer.pump(&self.poller, clock.now_ns(), measure_from_ns, &mut self.interval);
        }
        for consumer in &mut self.consumers {
            consumer.pump(&self.poller, clock.now_ns(), measure_from_ns, &mut self.interval);
        }
        is_more_due
    }

    fn on_event(&mut self, token: u64) {
        let (slot, broker) = Links::parts(token);
        let (clock, from_ns) = (self.signals.clock, self.measure_from_ns);
        if let Some(producer) = self.producers.get_mut(slot) {
            producer.on_event(broker, &mut self.poller, clock.now_ns(), from_ns, &mut self.interval);
        } else if let Some(consumer) = self.consumers.get_mut(slot - self.producers.len()) {
            consumer.on_event(broker, &mut self.poller, clock, from_ns, &mut self.interval);
        }
    }

    fn failure(&mut self) -> Option<String> {
        let of_producers = self.producers.iter_mut().find_map(|producer| producer.failure.take());
        of_producers.or_else(|| self.consumers.iter_mut().find_map(|consumer| consumer.failure.take()))
    }

    /// Progress, for whoever decides when the run is over.
    fn tell(&mut self, now_ns: u64, unreachable_since_ns: &mut Option<u64>) {
        let is_connected = self.producers.iter_mut().any(Producing::is_connected)
            || self.consumers.iter_mut().any(Consuming::is_connected);
        *unreachable_since_ns = if is_connected { None } else { Some(unreachable_since_ns.unwrap_or(now_ns)) };
        let progress = &self.progress;
        progress.unreachable_since_ns.store(unreachable_since_ns.unwrap_or(u64::MAX), Ordering::Relaxed);
        let counts = &self.interval.counts;
        progress.acknowledged.store(self.acknowledged + counts.acknowledged, Ordering::Relaxed);
        progress.consumed.store(self.consumed + counts.consumed, Ordering::Relaxed);
        progress.lag.store(self.consumers.iter().map(Consuming::lag).sum(), Ordering::Relaxed);
        progress.is_idle.store(self.producers.iter().all(Producing::is_idle), Ordering::Release);
    }

    fn close_interval(&mut self, now_ns: u64) -> Box<Interval> {
        for producer in &mut self.producers {
            producer.count_blocked(now_ns, &mut self.interval);
        }
        self.interval.lag = self.consumers.iter().map(Consuming::lag).sum();
        self.acknowledged += self.interval.counts.acknowledged;
        self.consumed += self.interval.counts.consumed;
        Box::new(std::mem::take(&mut self.interval))
    }

    /// False if nobody listens any more.
    fn end_interval(&mut self, now_ns: u64) -> bool {
        let interval = self.close_interval(now_ns);
        let index = self.index;
        // An interval that was slept through is an empty one.
        self.index = now_ns / self.plan.interval_ns;
        let mut is_heard = self.reports.send(Report::Interval { index, interval }).is_ok();
        for index in index + 1..self.index {
            is_heard &= self.reports.send(Report::Interval { index, interval: Box::default() }).is_ok();
        }
        is_heard
    }

    fn next_ns(&self) -> u64 {
        let producers = self.producers.iter().map(Producing::next_ns);
        let consumers = self.consumers.iter().map(Consuming::next_ns);
        producers.chain(consumers).min().unwrap_or(u64::MAX).min((self.index + 1) * self.plan.interval_ns)
    }

    fn end(mut self) {
        let last = self.close_interval(self.signals.clock.now_ns());
        let sent = self.producers.iter().flat_map(Producing::sent).collect();
        let mut verifier = Box::<Verifier>::default();
        self.consumers.into_iter().for_each(|consumer| verifier.join(consumer.verifier));
        let _ = self.reports.send(Report::Ended { last, sent, verifier });
    }
}
