//! `last.json`: the last figures of every reading, with the machine and the time they were taken. Readings that a run did not
//! take stay as they are, so that they can be taken on different days.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::machine;
use crate::report::{Reading, Report, Row, median};

#[derive(Deserialize, Default)]
struct Kept {
    readings: Vec<KeptReading>,
}

#[derive(Deserialize)]
struct KeptReading {
    reading: String,
    question: String,
    taken: String,
    machine: BTreeMap<String, String>,
    #[serde(default)]
    rows: Vec<KeptRow>,
    #[serde(flatten)]
    curve: Option<KeptCurve>,
}

#[derive(Serialize, Deserialize)]
struct KeptRow {
    what: String,
    unit: String,
    median: Option<f64>,
    rounds: Vec<Option<f64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    floor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    floor_rounds: Option<Vec<Option<f64>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

#[derive(Deserialize)]
struct KeptCurve {
    along: String,
    points: Vec<Option<f64>>,
    lines: Vec<KeptLine>,
}

/// A value for each of the points.
#[derive(Serialize, Deserialize)]
struct KeptLine {
    what: String,
    unit: String,
    line: String,
    values: Vec<Option<f64>>,
}

/// Adds what was read to what the file keeps, in this order of names. What could not be read leaves the old figures.
pub fn keep(path: &Path, report: &Report, order: &[&str]) -> io::Result<()> {
    let mut kept: Kept = match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| {
            io::Error::other(format!("{} is not as it was written ({error}): remove it", path.display()))
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::default(),
        Err(error) => return Err(error),
    };
    let taken = machine::date()?;
    for (name, outcome) in &report.readings {
        let Ok((reading, _)) = outcome else { continue };
        kept.readings.retain(|kept| kept.reading != *name);
        kept.readings.push(KeptReading::of(name, reading, &taken, report));
    }
    kept.readings.sort_by_key(|kept| order.iter().position(|name| *name == kept.reading));
    fs::write(path, kept.text())
}

impl Kept {
    /// A row or a line of a curve on each line, so that a difference is read at a glance.
    fn text(&self) -> String {
        let readings: Vec<String> = self.readings.iter().map(KeptReading::text).collect();
        format!("{{\"readings\": [\n{}\n]}}\n", readings.join(",\n"))
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain values")
}

fn lines<T: Serialize>(values: &[T]) -> String {
    let values: Vec<String> = values.iter().map(json).collect();
    format!("[\n    {}\n  ]", values.join(",\n    "))
}

impl KeptReading {
    fn text(&self) -> String {
        let mut fields = vec![
            ("reading", json(&self.reading)),
            ("question", json(&self.question)),
            ("taken", json(&self.taken)),
            ("machine", json(&self.machine)),
        ];
        if !self.rows.is_empty() {
            fields.push(("rows", lines(&self.rows)));
        }
        if let Some(curve) = &self.curve {
            fields.push(("along", json(&curve.along)));
            fields.push(("points", json(&curve.points)));
            fields.push(("lines", lines(&curve.lines)));
        }
        let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        format!("{{ {}\n}}", fields.join(",\n  "))
    }

    fn of(name: &str, reading: &Reading, taken: &str, report: &Report) -> KeptReading {
        let curve = reading.curve.as_ref().map(|curve| {
            let lines = curve.panels.iter().flat_map(|panel| panel.lines.iter().map(move |line| (panel, line)));
            let line = |(panel, line): (&crate::curve::Panel, &crate::curve::Line)| KeptLine {
                what: panel.title.into(),
                unit: panel.unit.into(),
                line: line.name.clone(),
                values: numbers(&line.values),
            };
            KeptCurve { along: curve.along.into(), points: numbers(&curve.points), lines: lines.map(line).collect() }
        });
        KeptReading {
            reading: name.into(),
            question: reading.question.into(),
            taken: taken.into(),
            machine: report.facts.iter().map(|(name, fact)| (name.to_string(), fact.clone())).collect(),
            rows: reading.rows.iter().map(KeptRow::of).collect(),
            curve,
        }
    }
}

impl KeptRow {
    fn of(row: &Row) -> KeptRow {
        KeptRow {
            what: row.what.clone(),
            unit: row.unit.into(),
            median: number(median(&row.values)),
            rounds: numbers(&row.values),
            floor: row.floor.as_ref().map(|(name, _)| name.clone()),
            floor_rounds: row.floor.as_ref().map(|(_, values)| numbers(values)),
            ratio: row.ratios().and_then(|ratios| number(median(&ratios))),
            target: row.target.map(|target| target.text()),
        }
    }
}

/// JSON knows no infinities, and nobody reads more than four digits behind the point.
fn number(value: f64) -> Option<f64> {
    value.is_finite().then(|| (value * 1e4).round() / 1e4)
}

fn numbers(values: &[f64]) -> Vec<Option<f64>> {
    values.iter().map(|value| number(*value)).collect()
}
