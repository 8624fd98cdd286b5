//! What a run of groups found, as text: a line while it runs, and a table of the phases.

use std::fmt::Write;

use super::super::results::Latency;
use super::super::units::{short, short_us};
use super::results::{GroupsDocument, Phase};

/// A column: its head, and what a phase has there.
type Column = (&'static str, fn(&Phase) -> String);

const COLUMNS: &[Column] = &[
    ("phase", |phase| phase.name.clone()),
    ("time", |phase| short_us(phase.seconds * 1e6)),
    ("stable p50", |phase| at(&phase.stable, 50.0)),
    ("p99", |phase| at(&phase.stable, 99.0)),
    ("max", |phase| most(&phase.stable)),
    ("without: its own", |phase| most(&phase.without_consumption)),
    ("others", |phase| most(&phase.without_consumption_others)),
    ("heartbeat p50", |phase| at(&phase.heartbeat, 50.0)),
    ("p99", |phase| at(&phase.heartbeat, 99.0)),
    ("commit p50", |phase| at(&phase.commit, 50.0)),
    ("p99", |phase| at(&phase.commit, 99.0)),
    ("record p50", |phase| at(&phase.end_to_end, 50.0)),
    ("p99", |phase| at(&phase.end_to_end, 99.0)),
    ("broker cpu", |phase| phase.broker_cpu_s.map_or("–".into(), |seconds| short_us(seconds * 1e6))),
];

fn at(latency: &Latency, percentile: f64) -> String {
    short_us(latency.percentile(percentile))
}

fn most(latency: &Latency) -> String {
    if latency.records == 0 { "–".into() } else { short_us(latency.max_us) }
}

pub fn preface(document: &GroupsDocument) -> String {
    let mut text = String::new();
    let workload: Vec<_> = document.workload.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let _ =
        writeln!(text, "{:<10} {}, brokers {}", "cluster", document.cluster.id, document.cluster.brokers.join(", "));
    let _ = writeln!(text, "{:<10} {}\n", "workload", workload.join(" "));
    text
}

pub fn summary(document: &GroupsDocument) -> String {
    let mut rows = vec![COLUMNS.iter().map(|(head, _)| (*head).to_owned()).collect::<Vec<_>>()];
    rows.extend(document.phases.iter().map(|phase| COLUMNS.iter().map(|(_, cell)| cell(phase)).collect()));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    for phase in &document.phases {
        if phase.unstable > 0 {
            let _ = writeln!(text, "{}: {} groups were not stable in time", phase.name, phase.unstable);
        }
        for (name, count) in &phase.errors {
            let _ = writeln!(text, "{}: {name}: {}", phase.name, short(*count as f64));
        }
    }
    if let Some(reason) = &document.cut {
        let _ = writeln!(text, "CUT SHORT: {reason}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_a_line_and_what_was_not_measured_a_dash() {
        let stable = Latency { records: 3, max_us: 3.2e6, ..Latency::default() };
        let phase = Phase { name: "death".into(), seconds: 7.0, stable, unstable: 2, ..Phase::default() };
        let document = GroupsDocument {
            format: String::new(),
            gannet_version: String::new(),
            command: vec![],
            started_ms: 0,
            machine: Default::default(),
            cluster: Default::default(),
            floors: vec![],
            workload: Default::default(),
            phases: vec![phase],
            cut: Some("interrupted".into()),
        };
        let text = summary(&document);
        let line: Vec<_> = text.lines().nth(1).unwrap().split("  ").filter(|cell| !cell.is_empty()).collect();
        assert_eq!((line[0], line[1].trim(), line[4].trim(), line[5].trim()), ("death", "7.00 s", "3.20 s", "–"));
        assert!(text.contains("death: 2 groups were not stable") && text.contains("CUT SHORT: interrupted"), "{text}");
    }
}
