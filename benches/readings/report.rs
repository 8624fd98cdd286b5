//! Figures, their floors and ratios, and growth curves, as a table for people.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use crate::curve::Curve;

/// What one question brought to light.
pub struct Reading {
    pub question: &'static str,
    pub rows: Vec<Row>,
    pub curve: Option<Curve>,
}

/// One figure over all rounds.
pub struct Row {
    pub what: String,
    pub unit: &'static str,
    /// One value per round.
    pub values: Vec<f64>,
    /// What it is measured against, one value per round.
    pub floor: Option<(String, Vec<f64>)>,
    /// Of value to floor: what `data-path` asks for, and what it hopes for.
    pub target: Option<Target>,
}

#[derive(Clone, Copy)]
pub enum Target {
    AtMost(f64, Option<f64>),
    AtLeast(f64, Option<f64>),
}

impl Row {
    pub fn new(what: impl Into<String>, unit: &'static str, values: Vec<f64>) -> Row {
        Row { what: what.into(), unit, values, floor: None, target: None }
    }

    pub fn against(mut self, floor: impl Into<String>, values: Vec<f64>) -> Row {
        self.floor = Some((floor.into(), values));
        self
    }

    pub fn target(mut self, target: Target) -> Row {
        self.target = Some(target);
        self
    }

    /// Round by round, so that what slows both down cancels out.
    pub fn ratios(&self) -> Option<Vec<f64>> {
        let (_, floor) = self.floor.as_ref()?;
        Some(self.values.iter().zip(floor).map(|(value, floor)| value / floor).collect())
    }
}

impl Target {
    pub fn text(self) -> String {
        let (sign, bound, stretch) = match self {
            Target::AtMost(bound, stretch) => ("≤", bound, stretch),
            Target::AtLeast(bound, stretch) => ("≥", bound, stretch),
        };
        stretch.map_or(format!("{sign} {bound}"), |stretch| format!("{sign} {bound} ({stretch})"))
    }

    fn is_met(self, ratio: f64) -> bool {
        match self {
            Target::AtMost(bound, _) => ratio <= bound,
            Target::AtLeast(bound, _) => ratio >= bound,
        }
    }
}

/// Facts of the machine and everything that was read.
pub struct Report {
    pub facts: Vec<(&'static str, String)>,
    pub readings: Vec<(&'static str, Result<(Reading, Duration), String>)>,
}

impl Report {
    pub fn new(facts: Vec<(&'static str, String)>) -> Report {
        Report { facts, readings: Vec::new() }
    }

    pub fn add(&mut self, name: &'static str, reading: Reading, took: Duration) {
        self.readings.push((name, Ok((reading, took))));
    }

    pub fn fail(&mut self, name: &'static str, error: &io::Error) {
        self.readings.push((name, Err(error.to_string())));
    }

    pub fn finish(&mut self, load_average: String) {
        self.facts.push(("load average at the end", load_average));
    }

    pub fn table(&self) -> String {
        let mut lines = String::new();
        let mut line = |text: String| {
            lines.push_str(text.trim_end());
            lines.push('\n');
        };
        for (name, fact) in &self.facts {
            line(format!("{name}: {fact}"));
        }
        for (name, outcome) in &self.readings {
            line(String::new());
            let (reading, took) = match outcome {
                Ok(outcome) => outcome,
                Err(error) => {
                    line(format!("{name}: not read: {error}"));
                    continue;
                }
            };
            line(format!("{name}  {}  [{:.0} s]", reading.question, took.as_secs_f64()));
            if let Some(curve) = &reading.curve {
                let points: String =
                    curve.points.iter().map(|point| format!(" {:>10}", (curve.text)(*point))).collect();
                line(format!("  {:<56}{points}", curve.along));
                for panel in &curve.panels {
                    for one in &panel.lines {
                        let values: String = one.values.iter().map(|value| format!(" {:>10}", short(*value))).collect();
                        line(format!("  {:<56}{values}", format!("{}, {}: {}", panel.title, panel.unit, one.name)));
                    }
                }
            }
            if !reading.rows.is_empty() {
                line(format!(
                    "  {:<56} {:>10} {:>23} {:>10} {:>7}  {:<13} floor",
                    "", "median", "min – max", "floor", "ratio", "target"
                ));
            }
            for row in &reading.rows {
                line(told(row));
            }
        }
        lines
    }
}

fn told(row: &Row) -> String {
    let (low, high) = range(&row.values);
    let what = format!("{}, {}", row.what, row.unit);
    let mut text =
        format!("  {what:<56} {:>10} {:>23}", short(median(&row.values)), format!("{} – {}", short(low), short(high)));
    if let (Some((name, floor)), Some(ratios)) = (&row.floor, row.ratios()) {
        let ratio = median(&ratios);
        let target = row.target.map_or(String::new(), |target| {
            format!("{} {}", target.text(), if target.is_met(ratio) { "✓" } else { "✗" })
        });
        write!(text, " {:>10} {ratio:>7.2}  {target:<13} {name}", short(median(floor)))
            .expect("a String takes everything");
    }
    text
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

fn range(values: &[f64]) -> (f64, f64) {
    (values.iter().copied().fold(f64::NAN, f64::min), values.iter().copied().fold(f64::NAN, f64::max))
}

/// Three digits that mean something.
pub fn short(value: f64) -> String {
    match value.abs() {
        unknown if unknown.is_nan() => "?".into(),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
