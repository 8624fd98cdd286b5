//! What a run found, as text: one line per interval while it runs, a summary, the grid of a sweep, two runs side by side.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::results::{Document, IntervalRow, Latency, PERCENTILES, Run, Verdict};
use super::units::{short, short_mib, short_us};
use super::verify::Faults;
use crate::error_code::ErrorCode;

fn cell(records: u64, us: f64) -> String {
    if records == 0 { "–".into() } else { short_us(us) }
}

/// What is going on.
pub fn live(row: &IntervalRow) -> String {
    let (ack, all) = (&row.acknowledged, &row.end_to_end);
    let mut line = format!("{:>6.1} s", row.at_s);
    if row.acknowledged.records > 0 || row.rate > 0.0 {
        let _ = write!(
            line,
            "  {:>6}/s {:>10}  ack p50 {:>8} p99 {:>8}",
            short(row.rate),
            short_mib(row.bytes_per_s),
            cell(ack.records, ack.p50_us),
            cell(ack.records, ack.p99_us)
        );
    }
    if all.records > 0 || row.consumed_rate > 0.0 {
        let _ = write!(
            line,
            "  out {:>6}/s  end to end p50 {:>8} p99 {:>8}  lag {}",
            short(row.consumed_rate),
            cell(all.records, all.p50_us),
            cell(all.records, all.p99_us),
            row.lag
        );
    }
    if line.len() < 12 {
        line.push_str("  nothing is acknowledged or consumed");
    }
    if row.disconnects > 0 {
        let _ = write!(line, "  {} connections lost or refused", row.disconnects);
    }
    if row.failed > 0 {
        let _ = write!(line, "  {} failed", row.failed);
    }
    if row.blocked > 0.005 {
        let _ = write!(line, "  blocked {:.0} %", row.blocked * 100.0);
    }
    if !row.is_measured {
        line.push_str("  (not measured)");
    }
    line
}

/// Of what stands behind the names.
const PREFACE_WIDTH: usize = 120;

/// The settings before a run begins.
pub fn preface(document: &Document) -> String {
    let mut text = String::new();
    let list = |map: &std::collections::BTreeMap<String, String>| {
        map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    };
    let mut line = |name: &str, value: String| {
        let mut length = 0;
        let _ = write!(text, "{name:<10}");
        for word in value.split(' ') {
            if length > 0 && length + word.chars().count() > PREFACE_WIDTH {
                length = 0;
                let _ = write!(text, "\n{:<10}", "");
            }
            length += 1 + word.chars().count();
            let _ = write!(text, " {word}");
        }
        text.push('\n');
    };
    line("cluster", format!("{}, brokers {}", document.cluster.id, document.cluster.brokers.join(", ")));
    line("workload", list(&document.workload));
    if document.workload.get("producers").is_some_and(|producers| producers != "0") {
        line("producer", list(&document.producer));
    }
    if document.workload.get("consumers").is_some_and(|consumers| consumers != "0") {
        line("consumer", list(&document.consumer));
    }
    for floor in &document.floors {
        let write =
            floor.durable_write_us.map_or(String::new(), |us| format!(", durable 4 KiB write {}", short_us(us)));
        let round_trip = short_us(floor.loopback_round_trip_us);
        line("floor", format!("loopback round trip {round_trip}{write}, load average {}", floor.load_average));
    }
    text
}

pub fn summary(run: &Run) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    if !run.point.is_empty() {
        line(point(&run.point));
    }
    let of_target =
        run.target_rate.filter(|target| *target > 0.0 && run.steps.is_empty()).map_or(String::new(), |target| {
            format!(" of {}/s asked for ({:.1} %)", short(target), 100.0 * run.rate / target)
        });
    line(format!(
        "{} records in {:.1} s after {:.1} s of warm-up: {}/s{of_target}, {}",
        run.records,
        run.measured_s,
        run.warm_up_s,
        short(run.rate),
        short_mib(run.bytes_per_s)
    ));
    if run.batches > 0 {
        line(format!(
            "{} batches in {} requests: {:.1} records a batch, {:.1} batches a request",
            run.batches,
            run.requests,
            run.records as f64 / run.batches as f64,
            run.batches as f64 / run.requests.max(1) as f64
        ));
    }
    if run.consumed_rate > 0.0 && run.batches > 0 {
        line(format!(
            "consumed {}/s, {}, lag at the end {}",
            short(run.consumed_rate),
            short_mib(run.consumed_bytes_per_s),
            run.lag
        ));
    }
    let blocked = match run.batches {
        0 => String::new(),
        _ => format!("blocked on buffer.memory {:.1} % of the time; ", run.blocked * 100.0),
    };
    line(format!("{blocked}generator used {:.2} cores", run.generator_cores));
    latency_rows(run, &mut line);
    steps(run, &mut line);
    let mut explained = Vec::new();
    for (name, count) in &errors(run) {
        // What Kafka calls it, and once what that means.
        let code = ErrorCode::ALL.iter().find(|code| name.rsplit(": ").next() == Some(code.name()));
        let meaning = code.filter(|code| !explained.contains(code)).map_or("", |code| code.message());
        explained.extend(code);
        line(format!("error: {name}: {count}{}{meaning}", if meaning.is_empty() { "" } else { ". " }));
    }
    if run.failed > 0 {
        line(format!("{} records failed", run.failed));
    }
    if let Some(faults) = &run.verify {
        verified(faults, &mut line);
    }
    for note in &run.notes {
        line(format!("note: {note}"));
    }
    match &run.verdict {
        Verdict::Valid => {}
        Verdict::Invalid(why) => line(format!("INVALID: {why}. These are not the figures of that rate.")),
        Verdict::Cut(why) => line(format!("CUT SHORT: {why}. The figures above are what was measured until then.")),
    }
    text
}

fn latency_rows(run: &Run, line: &mut impl FnMut(String)) {
    let rows = latencies(run);
    if rows.is_empty() {
        return;
    }
    line(String::new());
    let heads: String = PERCENTILES.iter().map(|percentile| format!("{:>10}", format!("p{percentile}"))).collect();
    line(format!("{:<32}{heads}{:>10}{:>10}", "latency", "max", "mean"));
    for (name, latency) in rows {
        let cells: String = latency.percentiles_us.iter().map(|us| format!("{:>10}", short_us(*us))).collect();
        line(format!("{name:<32}{cells}{:>10}{:>10}", short_us(latency.max_us), short_us(latency.mean_us)));
    }
}

fn steps(run: &Run, line: &mut impl FnMut(String)) {
    if run.steps.is_empty() {
        return;
    }
    line(String::new());
    line(format!("{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}", "asked", "reached", "ack p50", "ack p99", "e2e p99", "lag"));
    for step in &run.steps {
        line(format!(
            "{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
            format!("{}/s", short(step.target_rate)),
            format!("{}/s", short(step.rate)),
            cell(step.acknowledged.records, step.acknowledged.p50_us),
            cell(step.acknowledged.records, step.acknowledged.p99_us),
            cell(step.end_to_end.records, step.end_to_end.p99_us),
            step.lag
        ));
    }
}

fn verified(faults: &Faults, line: &mut impl FnMut(String)) {
    let unacknowledged = match faults.unacknowledged {
        0 => String::new(),
        count => format!(", {count} unacknowledged"),
    };
    line(format!(
        "verified {} records: {} lost, {} duplicated, {} reordered, {} corrupt{unacknowledged}",
        faults.checked, faults.lost, faults.duplicated, faults.reordered, faults.corrupt
    ));
    faults.named.iter().for_each(|named| line(format!("  {named}")));
    if faults.foreign > 0 {
        line(format!("  {} records were not this run's", faults.foreign));
    }
}

pub fn latencies(run: &Run) -> Vec<(&'static str, &Latency)> {
    let all = [
        ("acknowledged, from intended", &run.acknowledged),
        ("acknowledged, from actual", &run.acknowledged_actual),
        ("end to end, from intended", &run.end_to_end),
        ("end to end, from actual", &run.end_to_end_actual),
    ];
    all.into_iter().filter(|(_, latency)| latency.records > 0).collect()
}

/// How often each went wrong; partitions that all say the same are one line.
pub fn errors(run: &Run) -> Vec<(String, u64)> {
    let of_partition = |name: &str| name.strip_prefix("fetch of ").and_then(|rest| rest.split_once(": ")).map(owned);
    let mut folded: Vec<(String, u64)> = Vec::new();
    let mut codes: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    for (name, count) in &run.errors {
        match of_partition(name) {
            Some((partition, code)) => codes.entry(code).or_default().push((partition, *count)),
            None => folded.push((name.clone(), *count)),
        }
    }
    for (code, partitions) in codes {
        let others = match partitions.len() {
            1 => String::new(),
            2 => " and another partition".into(),
            count => format!(" and {} other partitions", count - 1),
        };
        let times = partitions.iter().map(|(_, count)| count).sum();
        folded.push((format!("fetch of {}{others}: {code}", partitions[0].0), times));
    }
    folded
}

fn owned((a, b): (&str, &str)) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

/// `linger.ms=5 batch.size=64k`
pub fn point(point: &[(String, String)]) -> String {
    point.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

/// One line for each point of a sweep.
pub fn grid(document: &Document) -> String {
    let mut text = String::new();
    let heads: String =
        document.sweep.iter().map(|(key, _)| format!("{key:>width$}", width = key.len().max(10) + 2)).collect();
    let _ = writeln!(
        text,
        "{heads}{:>12}{:>14}{:>11}{:>11}{:>11}{:>11}{:>12}",
        "rate", "throughput", "ack p50", "ack p99", "e2e p50", "e2e p99", "batch"
    );
    for run in &document.runs {
        let values = run.point.iter().map(|(key, value)| format!("{value:>width$}", width = key.len().max(10) + 2));
        let (ack, all) = (&run.acknowledged, &run.end_to_end);
        let verdict = match run.verdict {
            Verdict::Valid => "",
            Verdict::Invalid(_) => "  invalid",
            Verdict::Cut(_) => "  cut short",
        };
        let _ = writeln!(
            text,
            "{}{:>12}{:>14}{:>11}{:>11}{:>11}{:>11}{:>12}{verdict}",
            values.collect::<String>(),
            format!("{}/s", short(run.rate)),
            short_mib(run.bytes_per_s),
            cell(ack.records, ack.percentile(50.0)),
            cell(ack.records, ack.percentile(99.0)),
            cell(all.records, all.percentile(50.0)),
            cell(all.records, all.percentile(99.0)),
            format!("{:.1}", run.records as f64 / run.batches.max(1) as f64)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_in_plain_sight_that_a_run_is_invalid() {
        let run =
            Run { verdict: Verdict::Invalid("half".into()), target_rate: Some(100.0), rate: 50.0, ..Run::default() };
        let text = summary(&run);
        assert!(text.contains("50.0/s of 100/s asked for (50.0 %)"), "{text}");
        assert!(text.contains("INVALID: half."), "{text}");
    }

    #[test]
    fn partitions_that_say_the_same_are_one_line() {
        let named =
            [("fetch of t-0: NOT_LEADER", 1), ("fetch of t-1: NOT_LEADER", 2), ("other", 4), ("fetch of t-9: X", 1)];
        let run = Run { errors: named.map(|(name, count)| (name.into(), count)).into(), ..Run::default() };
        let told: Vec<String> = errors(&run).into_iter().map(|(name, count)| format!("{name}: {count}")).collect();
        assert_eq!(told, ["other: 4", "fetch of t-0 and another partition: NOT_LEADER: 3", "fetch of t-9: X: 1"]);
    }

    #[test]
    fn verification_is_told_with_names() {
        let faults =
            Faults { lost: 2, checked: 8, named: vec!["lost: t-0 records 1 to 2".into()], ..Faults::default() };
        let text = summary(&Run { verify: Some(faults), ..Run::default() });
        assert!(
            text.contains("verified 8 records: 2 lost, 0 duplicated, 0 reordered, 0 corrupt\n  lost: t-0"),
            "{text}"
        );
    }
}
