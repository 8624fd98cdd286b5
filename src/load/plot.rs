//! Which plots a document has: latency over time, percentile curves, throughput, a ramp's steps, a sweep's heat map.

use std::fmt::Write;

use super::chart::{self, Axis, Chart, Scale, Series, escape};
use super::results::{Document, IntervalRow, Run, Spread};
use super::table;
use super::units::{short, short_us};

#[derive(Clone, Debug)]
pub struct Plot {
    /// For file names.
    pub name: String,
    /// The `<svg>` element.
    pub svg: String,
    /// The same for narrow screens, where it can be drawn so.
    pub narrow_svg: Option<String>,
}

impl Plot {
    pub fn of(name: &str, chart: &Chart) -> Plot {
        Plot { name: name.into(), svg: chart.svg(), narrow_svg: Some(chart.narrow_svg()) }
    }

    /// As a file of its own.
    pub fn standalone(&self) -> String {
        chart::standalone(&self.svg)
    }

    pub fn with_style(&self, style: &str) -> String {
        chart::with_style(&self.svg, style)
    }
}

const SECONDS: Axis = Axis { label: "seconds since the run began", scale: Scale::Linear, text: |s| format!("{s}") };
const LATENCY: Axis = Axis { label: "latency", scale: Scale::Log, text: short_us };
const PERCENT: Axis = Axis {
    label: "percentile",
    scale: Scale::Nines,
    text: |percent| format!("{:.5}", percent).trim_end_matches('0').trim_end_matches('.').to_owned() + " %",
};

pub fn plots(document: &Document) -> Vec<Plot> {
    match &document.runs[..] {
        [] => Vec::new(),
        [run] => of_run(run),
        runs => of_sweep(document, runs),
    }
}

fn of_run(run: &Run) -> Vec<Plot> {
    let mut plots = Vec::new();
    let has = |spread: fn(&IntervalRow) -> &Spread| run.intervals.iter().any(|row| spread(row).records > 0);
    if has(|row| &row.acknowledged) {
        let title = "Acknowledged: latency from the intended time";
        plots.push(Plot::of("acknowledged", &over_time(run, title, |row| &row.acknowledged)));
    }
    if has(|row| &row.end_to_end) {
        let title = "End to end: latency from the intended time";
        plots.push(Plot::of("end-to-end", &over_time(run, title, |row| &row.end_to_end)));
    }
    if !table::latencies(run).is_empty() {
        plots.push(Plot::of(
            "percentiles",
            &percentiles(
                &table::latencies(run)
                    .iter()
                    .map(|(name, latency)| (curve_name(name), latency.curve_us.clone(), name.ends_with("actual")))
                    .collect::<Vec<_>>(),
            ),
        ));
    }
    plots.push(Plot::of("throughput", &throughput(run)));
    if run.intervals.iter().any(|row| row.lag > 0) {
        let lag = run.intervals.iter().map(|row| (row.at_s, row.lag as f64)).collect();
        plots.push(Plot::of(
            "lag",
            &Chart {
                title: "Consumers' lag in records".into(),
                x: SECONDS,
                y: Axis { label: "records", scale: Scale::Linear, text: short },
                series: vec![Series { name: "lag".into(), points: lag, is_dashed: false }],
                shaded: not_measured(run),
            },
        ));
    }
    if !run.steps.is_empty() {
        plots.push(Plot::of("ramp", &ramp(run)));
    }
    plots
}

/// What a table has room for and a legend has not.
fn curve_name(name: &str) -> String {
    name.replace("acknowledged", "ack").replace(", from intended", "").replace(", from ", ", ")
}

fn not_measured(run: &Run) -> Vec<(f64, f64)> {
    let rows = run.intervals.iter().filter(|row| !row.is_measured);
    rows.map(|row| (row.at_s - row.length_s, row.at_s)).collect()
}

fn over_time(run: &Run, title: &str, spread: fn(&IntervalRow) -> &Spread) -> Chart {
    let line = |name: &str, value: fn(&Spread) -> f64| Series {
        name: name.into(),
        points: run.intervals.iter().map(|row| (row.at_s, value(spread(row)))).collect(),
        is_dashed: false,
    };
    Chart {
        title: title.into(),
        x: SECONDS,
        y: LATENCY,
        series: vec![
            line("p50", |spread| spread.p50_us),
            line("p99", |spread| spread.p99_us),
            line("p99.9", |spread| spread.p999_us),
            line("max", |spread| spread.max_us),
        ],
        shaded: not_measured(run),
    }
}

/// Name, points, and whether it is dashed.
pub type Curve = (String, Vec<(f64, f64)>, bool);

pub fn percentiles(curves: &[Curve]) -> Chart {
    let series = curves.iter().map(|(name, points, is_dashed)| Series {
        name: name.clone(),
        points: points.iter().copied().filter(|(percent, _)| *percent < 100.0).collect(),
        is_dashed: *is_dashed,
    });
    Chart { title: "Percentiles".into(), x: PERCENT, y: LATENCY, series: series.collect(), shaded: vec![] }
}

fn throughput(run: &Run) -> Chart {
    let line = |name: &str, value: fn(&IntervalRow) -> f64| Series {
        name: name.into(),
        points: run.intervals.iter().map(|row| (row.at_s, value(row))).collect(),
        is_dashed: false,
    };
    let all = [line("acknowledged", |row| row.rate), line("consumed", |row| row.consumed_rate)];
    let is_there = |series: &Series| series.points.iter().any(|point| point.1 > 0.0);
    Chart {
        title: "Records per second".into(),
        x: SECONDS,
        y: Axis { label: "records per second", scale: Scale::Linear, text: short },
        series: all.into_iter().filter(is_there).collect(),
        shaded: not_measured(run),
    }
}

fn ramp(run: &Run) -> Chart {
    let line = |name: &str, value: fn(&super::results::Step) -> f64| Series {
        name: name.into(),
        points: run.steps.iter().map(|step| (step.target_rate, value(step))).collect(),
        is_dashed: false,
    };
    Chart {
        title: "Latency at each rate of the ramp".into(),
        x: Axis { label: "records per second asked for", scale: Scale::Linear, text: short },
        y: LATENCY,
        series: vec![
            line("ack p50", |step| step.acknowledged.p50_us),
            line("ack p99", |step| step.acknowledged.p99_us),
            line("e2e p99", |step| step.end_to_end.p99_us),
        ],
        shaded: vec![],
    }
}

fn of_sweep(document: &Document, runs: &[Run]) -> Vec<Plot> {
    let heat = |name: &str, title: &str, value: &dyn Fn(&Run) -> f64, text| Plot {
        name: name.into(),
        svg: heat_map(document, title, value, text),
        narrow_svg: None,
    };
    let mut plots = vec![
        heat("heat-p99", "Acknowledged p99", &|run| run.acknowledged.percentile(99.0), short_us),
        heat("heat-p50", "Acknowledged p50", &|run| run.acknowledged.percentile(50.0), short_us),
        heat("heat-rate", "Records per second", &|run| run.rate, short),
    ];
    let reached = |most: fn(f64, f64) -> f64| runs.iter().map(|run| run.rate).reduce(most).unwrap_or(0.0);
    if reached(f64::max) > 1.05 * reached(f64::min) {
        plots.push(Plot::of("tradeoff", &tradeoff(runs)));
    }
    plots
}

/// Where throughput costs latency: one line for each value of the first key.
fn tradeoff(runs: &[Run]) -> Chart {
    let mut series: Vec<Series> = Vec::new();
    for run in runs.iter().filter(|run| run.acknowledged.records > 0) {
        let name = run.point.first().map_or(String::new(), |(key, value)| format!("{key}={value}"));
        let point = (run.rate, run.acknowledged.percentile(99.0));
        match series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => series.push(Series { name, points: vec![point], is_dashed: false }),
        }
    }
    series.iter_mut().for_each(|series| series.points.sort_by(|a, b| a.0.total_cmp(&b.0)));
    // A page has five colours.
    series.truncate(5);
    Chart {
        title: "Throughput and p99".into(),
        x: Axis { label: "records per second reached", scale: Scale::Linear, text: short },
        y: LATENCY,
        series,
        shaded: vec![],
    }
}

/// Rows are the values of the first key, columns the combinations of the others. The colour follows the logarithm.
fn heat_map(document: &Document, title: &str, value: &dyn Fn(&Run) -> f64, text: fn(f64) -> String) -> String {
    const CELL_HEIGHT: f64 = 34.0;
    const ROW_LABELS: f64 = 150.0;
    const LADDER_LEAST: f64 = 2.0;
    let rows: Vec<String> = document.sweep.first().map_or(vec![], |(_, values)| values.clone());
    let column =
        |run: &Run| run.point.iter().skip(1).map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
    let mut columns: Vec<String> = Vec::new();
    for run in &document.runs {
        let name = column(run);
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    let width = chart::WIDTH;
    let cell_width = (width - ROW_LABELS - 16.0) / columns.len().max(1) as f64;
    let height = 62.0 + rows.len() as f64 * CELL_HEIGHT;
    let values: Vec<f64> = document.runs.iter().map(value).filter(|value| *value > 0.0).collect();
    let (low, high) =
        values.iter().fold((f64::INFINITY, 0.0f64), |(low, high), value| (low.min(*value), high.max(*value)));
    // What differs by little looks alike.
    let high = high.max(low * LADDER_LEAST);
    let mut svg = format!(
        "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"{title}\"><text class=\"title\" x=\"16\" y=\"18\">{title}</text>"
    );
    for (at, name) in columns.iter().enumerate() {
        let x = ROW_LABELS + (at as f64 + 0.5) * cell_width;
        let _ =
            write!(svg, "<text class=\"muted\" x=\"{x:.1}\" y=\"44\" text-anchor=\"middle\">{}</text>", escape(name));
    }
    let key = document.sweep.first().map_or("", |(key, _)| key);
    for (at, row) in rows.iter().enumerate() {
        let y = 56.0 + at as f64 * CELL_HEIGHT;
        let label = escape(&format!("{key}={row}"));
        let x = ROW_LABELS - 10.0;
        let _ = write!(svg, "<text class=\"muted\" x=\"{x}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", y + 21.0);
    }
    for run in &document.runs {
        let row = rows.iter().position(|row| run.point.first().is_some_and(|(_, value)| value == row)).unwrap_or(0);
        let column = columns.iter().position(|name| *name == column(run)).unwrap_or(0);
        let (x, y) = (ROW_LABELS + column as f64 * cell_width, 56.0 + row as f64 * CELL_HEIGHT);
        let found = value(run);
        let heat = if high > low && found > 0.0 { (found / low).ln() / (high / low).ln() } else { 0.0 };
        let told = if found > 0.0 { text(found) } else { "–".into() };
        let _ = write!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"3\" fill=\"{}\"><title>{}: {told}</title>\
             </rect><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" style=\"fill:{}\">{told}</text>",
            x + 1.0,
            y + 1.0,
            cell_width - 2.0,
            CELL_HEIGHT - 2.0,
            colour(heat),
            escape(&table::point(&run.point)),
            x + cell_width / 2.0,
            y + 21.0,
            if heat > 0.6 { "#fff" } else { "#1f2933" }
        );
    }
    svg.push_str("</svg>");
    svg
}

/// From pale yellow over orange to dark red, as steps of one lightness ladder: also readable without colours.
fn colour(heat: f64) -> String {
    let ladder = [(254.0, 243.0, 199.0), (251.0, 176.0, 64.0), (205.0, 70.0, 40.0), (100.0, 16.0, 38.0)];
    let at = heat.clamp(0.0, 1.0) * 2.9999;
    let ((r0, g0, b0), (r1, g1, b1)) = (ladder[at as usize], ladder[at as usize + 1]);
    let part = at.fract();
    let mix = |from: f64, upto: f64| (from + (upto - from) * part).round() as u8;
    format!("rgb({},{},{})", mix(r0, r1), mix(g0, g1), mix(b0, b1))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::load::results::{Cluster, FORMAT, Latency, PERCENTILES};

    pub fn document(sweep: &[(&str, &[&str])]) -> Document {
        let latency = |base: f64| Latency {
            records: 100,
            max_us: base * 10.0,
            percentiles_us: PERCENTILES.map(|percentile| base * percentile / 50.0),
            curve_us: vec![(0.0, base), (99.0, base * 2.0), (100.0, base * 10.0)],
            ..Latency::default()
        };
        let mut points = vec![vec![]];
        for (key, values) in sweep {
            points = points
                .iter()
                .flat_map(|point: &Vec<(String, String)>| {
                    values.iter().map(move |value| [&point[..], &[(key.to_string(), value.to_string())]].concat())
                })
                .collect();
        }
        let runs = points.into_iter().enumerate().map(|(index, point)| Run {
            point,
            rate: 1000.0 * (index + 1) as f64,
            acknowledged: latency(500.0 * (index + 1) as f64),
            intervals: vec![IntervalRow { at_s: 1.0, length_s: 1.0, ..IntervalRow::default() }],
            ..Run::default()
        });
        Document {
            format: FORMAT.into(),
            gannet_version: "0".into(),
            command: vec!["load".into()],
            started_ms: 0,
            machine: Default::default(),
            cluster: Cluster::default(),
            floors: vec![],
            workload: Default::default(),
            producer: Default::default(),
            consumer: Default::default(),
            sweep: sweep
                .iter()
                .map(|(key, values)| (key.to_string(), values.iter().map(|value| value.to_string()).collect()))
                .collect(),
            runs: runs.collect(),
        }
    }

    #[test]
    fn a_sweep_has_a_cell_for_each_of_its_points() {
        let plots = plots(&document(&[("linger.ms", &["0", "5"]), ("batch.size", &["16k", "64k", "1m"])]));
        let heat = &plots[0].svg;
        assert_eq!(heat.matches("<rect").count(), 6);
        assert!(heat.contains("linger.ms=5 batch.size=1m: 5.94 ms"), "{heat}");
    }

    #[test]
    fn plots_stand_alone_as_files() {
        for plot in plots(&document(&[])) {
            let text = plot.standalone();
            assert!(
                text.starts_with("<svg") && text.contains("<style>") && text.ends_with("</svg>\n"),
                "{}",
                plot.name
            );
        }
    }
}
