//! One run: starts the workers, decides when the warm-up is over and when the run is, and adds up what they saw.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use super::arguments::WarmUp;
use super::plan::{Plan, Progress, Signals};
use super::results::{IntervalRow, Run, Spread, Step, Verdict};
use super::schedule::{Arrivals, Rate};
use super::stamp::TIME_BYTES;
use super::stats::{Counts, Interval, Latencies, latency};
use super::units::{short, short_us};
use super::verify::{Sent, Stream, Verifier};
use super::warm_up::Settling;
use super::worker::{Report, Worker};

/// How often the run is looked at between reports.
const LOOK: Duration = Duration::from_millis(20);
/// No broker at all for so long ends the run.
const UNREACHABLE_NS: u64 = 10_000_000_000;
/// How long acknowledgements may take after the last record was due.
const DRAIN_NS: u64 = 30_000_000_000;
/// The same once somebody has pressed Ctrl-C.
const HASTY_DRAIN_NS: u64 = 2_000_000_000;
/// Consumers that get nothing for so long will get no more.
const QUIET_NS: u64 = 3_000_000_000;
/// A warm-up that never settles ends all the same.
const WARM_UP_INTERVALS_MAX: u64 = 60;
/// A run that misses its rate by more is invalid.
const RATE_TOLERANCE: f64 = 0.01;

/// What one run needs beside its plan.
#[derive(Clone, Debug)]
pub struct Course {
    pub duration: Duration,
    pub warm_up: WarmUp,
    /// Set by Ctrl-C.
    pub interrupted: Arc<AtomicBool>,
    /// Called with each interval as it ends.
    pub show: fn(&IntervalRow),
}

/// Runs the plan to its end, or as far as it gets. An error means that nothing was measured.
pub fn run(plan: Plan, course: &Course) -> Result<Run, String> {
    let plan = Arc::new(plan);
    let measure_from_ns = match course.warm_up {
        WarmUp::Auto => u64::MAX,
        WarmUp::For(length) => (length.as_nanos() as u64).next_multiple_of(plan.interval_ns),
    };
    let signals = Arc::new(Signals::new(measure_from_ns));
    let (sender, reports) = mpsc::channel();
    let (mut threads, mut progress) = (Vec::new(), Vec::new());
    for index in 0..plan.threads {
        let own = Arc::new(Progress::default());
        let worker = Worker::new(plan.clone(), index, signals.clone(), own.clone(), sender.clone());
        let worker = worker.map_err(|error| format!("the generator cannot watch sockets: {error}"))?;
        let thread = thread::Builder::new().name(format!("load-{index}")).spawn(move || worker.run());
        threads.push(thread.map_err(|error| format!("the generator cannot start thread {index}: {error}"))?);
        progress.push(own);
    }
    drop(sender);
    let mut running = Running::new(plan, course, signals, progress);
    running.set_end();
    running.watch(&reports);
    for thread in threads {
        if thread.join().is_err() {
            running.cut.get_or_insert("a thread of the generator failed; its message stands above".into());
        }
    }
    Ok(running.finish())
}

struct Running<'a> {
    plan: Arc<Plan>,
    course: &'a Course,
    signals: Arc<Signals>,
    progress: Vec<Arc<Progress>>,
    settling: Settling,
    /// Not reported by all workers yet: how many have, and what.
    open: BTreeMap<u64, (usize, Interval)>,
    rows: Vec<IntervalRow>,
    totals: Latencies,
    /// Of the intervals that were measured.
    counts: Counts,
    /// Of all, warm-up and drain included.
    all_counts: Counts,
    steps: Vec<(Latencies, Counts, u64)>,
    cpu_from: Option<f64>,
    cpu_upto: Option<f64>,
    lag: u64,
    ended: usize,
    cut: Option<String>,
    notes: Vec<String>,
    sent: BTreeMap<Stream, Sent>,
    verifier: Verifier,
    consumed_seen: u64,
    consumed_at_ns: u64,
    /// A run that only consumes has reached the end of its partitions.
    is_drained: bool,
}

/// Seconds on a processor of this process so far.
pub fn cpu_s() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask what it used");
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

impl<'a> Running<'a> {
    fn new(plan: Arc<Plan>, course: &'a Course, signals: Arc<Signals>, progress: Vec<Arc<Progress>>) -> Running<'a> {
        let steps = match &plan.rate {
            Rate::Steps(steps) => vec![Default::default(); steps.len()],
            _ => Vec::new(),
        };
        Running {
            plan,
            course,
            signals,
            progress,
            settling: Settling::default(),
            open: BTreeMap::new(),
            rows: Vec::new(),
            totals: Latencies::default(),
            counts: Counts::default(),
            all_counts: Counts::default(),
            steps,
            cpu_from: None,
            cpu_upto: None,
            lag: 0,
            ended: 0,
            cut: None,
            notes: Vec::new(),
            sent: BTreeMap::new(),
            verifier: Verifier::default(),
            consumed_seen: 0,
            consumed_at_ns: 0,
            is_drained: false,
        }
    }

    /// Once it is known when measuring begins.
    fn set_end(&mut self) {
        let from_ns = self.signals.measure_from_ns();
        if from_ns != u64::MAX {
            let length_ns = (self.course.duration.as_nanos() as u64).next_multiple_of(self.plan.interval_ns);
            self.signals.end_ns.store(from_ns.saturating_add(length_ns), Ordering::Relaxed);
        }
    }

    fn watch(&mut self, reports: &Receiver<Report>) {
        while self.ended < self.plan.threads {
            match reports.recv_timeout(LOOK) {
                Ok(Report::Interval { index, interval }) => self.on_interval(index, &interval),
                Ok(Report::Ended { last, sent, verifier }) => {
                    self.ended += 1;
                    self.totals.add(&last.measured);
                    self.all_counts.add(&last.counts);
                    self.sent.extend(sent);
                    self.verifier.join(*verifier);
                }
                Ok(Report::Failed(reason)) => self.cut_short(reason),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.decide(self.signals.clock.now_ns());
        }
    }

    fn cut_short(&mut self, reason: String) {
        self.cut.get_or_insert(reason);
        self.signals.end_ns.fetch_min(self.signals.clock.now_ns(), Ordering::Relaxed);
        self.signals.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the run is over.
    fn decide(&mut self, now_ns: u64) {
        if self.signals.stop.load(Ordering::Relaxed) {
            return;
        }
        if self.course.interrupted.load(Ordering::Relaxed) && self.cut.is_none() {
            self.cut = Some("interrupted".into());
            self.signals.end_ns.fetch_min(now_ns, Ordering::Relaxed);
        }
        let since = |progress: &Arc<Progress>| progress.unreachable_since_ns.load(Ordering::Relaxed);
        let unreachable_since_ns = self.progress.iter().map(since).max().unwrap_or(u64::MAX);
        if now_ns.saturating_sub(unreachable_since_ns) > UNREACHABLE_NS {
            let why = self.all_counts.errors.keys().find(|name| name.starts_with("broker ")).cloned();
            let why = why.map_or(String::new(), |why| format!(" ({why})"));
            return self.cut_short(format!("no broker could be reached for {} s{why}", UNREACHABLE_NS / 1_000_000_000));
        }
        let consumed: u64 = self.progress.iter().map(|one| one.consumed.load(Ordering::Relaxed)).sum();
        if consumed != self.consumed_seen {
            (self.consumed_seen, self.consumed_at_ns) = (consumed, now_ns);
        }
        let lag: u64 = self.progress.iter().map(|one| one.lag.load(Ordering::Relaxed)).sum();
        let is_quiet = now_ns.saturating_sub(self.consumed_at_ns) > QUIET_NS;
        if self.plan.producers == 0
            && consumed > 0
            && lag == 0
            && now_ns.saturating_sub(self.consumed_at_ns) > QUIET_NS / 6
        {
            self.is_drained = true;
            self.signals.end_ns.fetch_min(self.consumed_at_ns, Ordering::Relaxed);
        }
        let end_ns = self.signals.end_ns();
        if now_ns < end_ns {
            return;
        }
        let patience_ns = if self.cut.is_some() { HASTY_DRAIN_NS } else { DRAIN_NS };
        let is_late = now_ns - end_ns > patience_ns;
        let is_idle = self.progress.iter().all(|one| one.is_idle.load(Ordering::Acquire));
        let acknowledged: u64 = self.progress.iter().map(|one| one.acknowledged.load(Ordering::Relaxed)).sum();
        let is_waited_for = self.plan.consumers > 0
            && self.plan.producers > 0
            && self.plan.producer.acks != 0
            && (self.plan.consumer_rate.is_none() || self.plan.is_verified);
        let is_consumed = !is_waited_for || consumed >= acknowledged || is_quiet && now_ns - end_ns > QUIET_NS;
        // A record may come twice, and the second time after as many as were sent.
        let is_settled = !self.plan.is_verified || is_quiet;
        if is_idle && is_consumed && is_settled || is_late && (is_quiet || !self.plan.is_verified || self.cut.is_some())
        {
            self.signals.stop.store(true, Ordering::Relaxed);
        }
    }

    fn on_interval(&mut self, index: u64, interval: &Interval) {
        let (reported, sum) = self.open.entry(index).or_default();
        *reported += 1;
        sum.add(interval);
        if *reported == self.plan.threads {
            let (_, whole) = self.open.remove(&index).expect("just counted");
            self.on_whole_interval(index, whole);
        }
    }

    fn on_whole_interval(&mut self, index: u64, mut whole: Interval) {
        let interval_ns = self.plan.interval_ns;
        let (start_ns, end_ns) = (index * interval_ns, (index + 1) * interval_ns);
        let from_ns = self.signals.measure_from_ns();
        let is_measured = start_ns >= from_ns && end_ns <= self.signals.end_ns();
        self.all_counts.add(&whole.counts);
        self.totals.add(&whole.measured);
        // A throttled consumer asks seldom, and what the brokers told it last is old.
        whole.lag = match self.plan.producers {
            0 => whole.lag,
            _ => whole.lag.max(self.all_counts.acknowledged.saturating_sub(self.all_counts.consumed)),
        };
        if self.plan.consumers == 0 {
            whole.lag = 0;
        }
        self.lag = whole.lag;
        if end_ns >= from_ns {
            self.cpu_from.get_or_insert_with(cpu_s);
        }
        if end_ns <= self.signals.end_ns() {
            self.cpu_upto = Some(cpu_s());
        }
        if is_measured {
            self.counts.add(&whole.counts);
            let step = ((start_ns - from_ns) / self.plan.step_ns) as usize;
            if let Some((latencies, counts, lag)) = self.steps.get_mut(step) {
                latencies.add(&whole.measured);
                counts.add(&whole.counts);
                *lag = whole.lag;
            }
        }
        whole.measured.add(&whole.warm_up);
        let seconds = interval_ns as f64 / 1e9;
        let row = IntervalRow {
            at_s: end_ns as f64 / 1e9,
            length_s: seconds,
            is_measured,
            rate: whole.counts.acknowledged as f64 / seconds,
            bytes_per_s: whole.counts.acknowledged_bytes as f64 / seconds,
            consumed_rate: whole.counts.consumed as f64 / seconds,
            lag: whole.lag,
            failed: whole.counts.failed,
            disconnects: whole.counts.disconnects,
            blocked: whole.counts.blocked_ns as f64 / 1e9 / seconds / self.plan.producers.max(1) as f64,
            acknowledged: spread(&whole.measured.acknowledged),
            end_to_end: spread(&whole.measured.end_to_end),
        };
        (self.course.show)(&row);
        if from_ns == u64::MAX {
            let is_settled = self.settling.is_settled(&row);
            if is_settled || index + 1 >= WARM_UP_INTERVALS_MAX {
                if !is_settled {
                    self.notes.push(format!("the warm-up did not settle within {} s", row.at_s));
                }
                // Every worker hears of it before it begins.
                self.signals.measure_from_ns.store((index + 2) * interval_ns, Ordering::Relaxed);
                self.set_end();
            }
        }
        self.rows.push(row);
    }

    fn finish(mut self) -> Run {
        let measured = self.rows.iter().filter(|row| row.is_measured).count();
        let mut seconds = measured as f64 * self.plan.interval_ns as f64 / 1e9;
        if self.is_drained {
            // All of it is the measurement, however many intervals that was.
            seconds = self.consumed_at_ns as f64 / 1e9;
            self.counts = self.all_counts.clone();
        }
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let produces = self.plan.producers > 0;
        let target_rate = if produces { self.plan.rate.mean() } else { None };
        let warm_up_s = match self.signals.measure_from_ns() {
            u64::MAX => self.rows.last().map_or(0.0, |row| row.at_s),
            ns => ns as f64 / 1e9,
        };
        let cores = self.cpu_upto.zip(self.cpu_from).map_or(0.0, |(upto, from)| (upto - from) / seconds.max(1e-3));
        let mut run = Run {
            warm_up_s,
            measured_s: seconds,
            target_rate,
            rate: rate(if produces { self.counts.acknowledged } else { self.counts.consumed }),
            bytes_per_s: rate(if produces { self.counts.acknowledged_bytes } else { self.counts.consumed_bytes }),
            consumed_rate: rate(self.counts.consumed),
            consumed_bytes_per_s: rate(self.counts.consumed_bytes),
            records: if produces { self.counts.acknowledged } else { self.counts.consumed },
            batches: self.counts.batches,
            requests: self.counts.requests,
            blocked: rate(self.counts.blocked_ns) / 1e9 / self.plan.producers.max(1) as f64,
            blocked_out: self.all_counts.blocked_out,
            failed: self.all_counts.failed,
            disconnects: self.all_counts.disconnects,
            errors: std::mem::take(&mut self.all_counts.errors),
            lag: self.lag,
            generator_cores: cores.max(0.0),
            acknowledged: latency(&self.totals.acknowledged),
            acknowledged_actual: latency(&self.totals.acknowledged_actual),
            end_to_end: latency(&self.totals.end_to_end),
            end_to_end_actual: latency(&self.totals.end_to_end_actual),
            intervals: std::mem::take(&mut self.rows),
            steps: self.step_rows(),
            ..Run::default()
        };
        if self.plan.is_verified {
            let places: Vec<String> = self.plan.partitions.iter().map(|place| place.name()).collect();
            let verifier = std::mem::take(&mut self.verifier);
            run.verify = Some(verifier.finish(&self.sent, |place| places[place].clone()));
        }
        run.verdict = match self.cut.take() {
            Some(reason) => Verdict::Cut(reason),
            None => self.judge(&run),
        };
        self.annotate(&mut run);
        run
    }

    /// One that is a ramp is held up to where it breaks, which is what a ramp is for.
    fn judge(&self, run: &Run) -> Verdict {
        match &self.plan.rate {
            Rate::PerSecond(target) if self.plan.producers > 0 => {
                judge(run, *target, self.plan.arrivals, self.plan.threads)
            }
            _ => Verdict::Valid,
        }
    }

    fn step_rows(&self) -> Vec<Step> {
        let steps = self.plan.rate.steps().iter().zip(&self.steps);
        let seconds = self.plan.step_ns as f64 / 1e9;
        steps
            .filter(|(_, (latencies, ..))| !latencies.acknowledged.is_empty())
            .map(|(target, (latencies, counts, lag))| Step {
                target_rate: *target,
                rate: counts.acknowledged as f64 / seconds,
                lag: *lag,
                acknowledged: spread(&latencies.acknowledged),
                end_to_end: spread(&latencies.end_to_end),
            })
            .collect()
    }

    fn annotate(&mut self, run: &mut Run) {
        run.notes = std::mem::take(&mut self.notes);
        let is_early = self.signals.end_ns() <= self.signals.measure_from_ns();
        if let (Verdict::Cut(_), true, Some(last)) = (&run.verdict, is_early, run.intervals.last()) {
            let (acknowledged, consumed) = (self.all_counts.acknowledged, self.all_counts.consumed);
            let seen = if last.acknowledged.records > 0 { &last.acknowledged } else { &last.end_to_end };
            run.notes.push(format!(
                "the warm-up was not over, so nothing counted yet. In it {acknowledged} records were acknowledged and \
                 {consumed} consumed; its last interval: p50 {}, p99 {}",
                short_us(seen.p50_us),
                short_us(seen.p99_us)
            ));
        }
        let open = self.sent.values().flat_map(|sent| &sent.unacknowledged).map(|(_, records)| records).sum::<u64>();
        let open = open.saturating_sub(run.failed);
        if open > 0 && self.plan.producer.acks != 0 {
            run.notes.push(format!("{open} records were sent and never acknowledged; the latencies do not hold them"));
        }
        let given: u64 = self.sent.values().map(|sent| sent.records).sum();
        if let (Rate::PerSecond(rate), Arrivals::Fixed, true) =
            (&self.plan.rate, self.plan.arrivals, run.verdict != Verdict::Valid)
        {
            let due = (rate * self.signals.end_ns().min(self.signals.clock.now_ns()) as f64 / 1e9) as u64;
            let never = due.saturating_sub(given + run.blocked_out);
            if never > due / 1000 + 2 {
                run.notes.push(format!("{never} records were due and never sent; the latencies do not hold them"));
            }
        }
        if self.plan.consumers > self.plan.partitions.len() {
            let idle = self.plan.consumers - self.plan.partitions.len();
            run.notes
                .push(format!("{idle} of the consumers had no partition: there are {}", self.plan.partitions.len()));
        }
        if self.plan.rate == Rate::Max && self.plan.producers > 0 {
            run.notes.push(
                "at the maximum rate nothing is due: latency counts from when the client was given a record".into(),
            );
        }
        if run.generator_cores > 0.9 * self.plan.threads as f64 {
            run.notes.push(format!(
                "the generator used {:.2} cores on {} threads: the figures may be its own; give it more --threads",
                run.generator_cores, self.plan.threads
            ));
        }
        if self.plan.consumers > 0 && self.plan.producers > 0 && self.plan.sizes.smallest() < TIME_BYTES {
            run.notes
                .push(format!("values below {TIME_BYTES} bytes carry no time: their end-to-end latency is not known"));
        }
        let held = run.steps.iter().take_while(|step| step.rate >= step.target_rate * (1.0 - RATE_TOLERANCE)).last();
        if let Some(step) = held.filter(|_| !run.steps.is_empty()) {
            run.notes.push(format!("the rate was held up to {}/s", short(step.target_rate)));
        }
        let grew = run.intervals.iter().filter(|row| row.is_measured).map(|row| row.lag).collect::<Vec<_>>();
        if let (Some(first), Some(last)) = (grew.first(), grew.last())
            && *last > 2 * first + run.consumed_rate as u64
        {
            run.notes.push(format!("consumers did not keep up: the lag grew from {first} to {last} records"));
        }
    }
}

/// Whether the rate was held.
fn judge(run: &Run, target: f64, arrivals: Arrivals, threads: usize) -> Verdict {
    // Without a warm-up the first answers come a latency after the window began.
    let late_s = match run.warm_up_s {
        0.0 => (run.acknowledged.percentiles_us[0] / 1e6).min(0.05 * run.measured_s),
        _ => 0.0,
    };
    let expected = target * (run.measured_s - late_s);
    let chance = if arrivals == Arrivals::Poisson { 4.0 * expected.sqrt() } else { 0.0 };
    let missing = expected - run.records as f64;
    if missing <= RATE_TOLERANCE * expected + 2.0 + chance && run.measured_s > 0.0 {
        return Verdict::Valid;
    }
    let why = match run {
        _ if run.generator_cores > 0.9 * threads as f64 => {
            "; the generator's own threads were busy: give it more --threads"
        }
        _ if run.failed as f64 > missing / 2.0 => "; records were refused or given up, for the errors above",
        _ if run.blocked > 0.01 => "; buffer.memory was full: the brokers take less than this rate",
        _ => "",
    };
    Verdict::Invalid(format!(
        "{}/s were acknowledged where {}/s were asked for, {:.1} %{why}",
        short(run.rate),
        short(target),
        100.0 * run.rate / target
    ))
}

fn spread(histogram: &hdrhistogram::Histogram<u64>) -> Spread {
    if histogram.is_empty() {
        return Spread::default();
    }
    let us = |percentile| histogram.value_at_percentile(percentile).min(histogram.max()) as f64 / 1000.0;
    Spread { records: histogram.len(), p50_us: us(50.0), p99_us: us(99.0), p999_us: us(99.9), max_us: us(100.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(records: u64, warm_up_s: f64, p50_us: f64, arrivals: Arrivals) -> Verdict {
        let mut run = Run { records, warm_up_s, measured_s: 10.0, rate: records as f64 / 10.0, ..Run::default() };
        run.acknowledged.percentiles_us[0] = p50_us;
        judge(&run, 1000.0, arrivals, 1)
    }

    #[test]
    fn a_rate_missed_by_more_than_one_percent_makes_a_run_invalid() {
        assert_eq!(judged(9_900, 5.0, 0.0, Arrivals::Fixed), Verdict::Valid);
        assert_eq!(
            judged(9_850, 5.0, 0.0, Arrivals::Fixed),
            Verdict::Invalid("985/s were acknowledged where 1.00k/s were asked for, 98.5 %".into())
        );
    }

    #[test]
    fn without_a_warm_up_the_first_latency_is_not_held_against_the_rate() {
        assert_eq!(judged(9_800, 0.0, 150_000.0, Arrivals::Fixed), Verdict::Valid);
        // Which a broker at half the rate, with latencies of seconds, cannot hide behind.
        assert!(matches!(judged(5_000, 0.0, 2_500_000.0, Arrivals::Fixed), Verdict::Invalid(_)));
    }

    #[test]
    fn poisson_arrivals_may_be_fewer_by_chance() {
        assert_eq!(judged(9_600, 5.0, 0.0, Arrivals::Poisson), Verdict::Valid);
        assert!(matches!(judged(9_300, 5.0, 0.0, Arrivals::Poisson), Verdict::Invalid(_)));
    }
}
