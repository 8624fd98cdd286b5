//! A growth curve: figures at each of some points along what grows, as plots beside each other in one SVG file.

use std::path::Path;
use std::time::Duration;
use std::{io, thread};

use gannet::load::chart::{Axis, Chart, Scale, Series, sheet, standalone};

use crate::Bench;
use crate::broker::Broker;
use crate::load::{self, Load};
use crate::machine::Mount;
use crate::report::short;

pub struct Curve {
    /// What grows, in words.
    pub along: &'static str,
    pub text: fn(f64) -> String,
    pub points: Vec<f64>,
    pub panels: Vec<Panel>,
}

/// Lines that share an axis.
pub struct Panel {
    pub title: &'static str,
    pub unit: &'static str,
    pub scale: Scale,
    pub lines: Vec<Line>,
}

pub struct Line {
    pub name: String,
    /// One value per point; not a number where nothing was measured.
    pub values: Vec<f64>,
}

/// What one of the lines shows of each point.
pub type Shown<'a, P> = (&'a str, fn(&P) -> f64);

impl Panel {
    pub fn of<P>(title: &'static str, unit: &'static str, points: &[P], lines: &[Shown<P>]) -> Panel {
        let line =
            |(name, value): &Shown<P>| Line { name: name.to_string(), values: points.iter().map(value).collect() };
        Panel::new(title, unit, lines.iter().map(line).collect())
    }

    pub fn new(title: &'static str, unit: &'static str, lines: Vec<Line>) -> Panel {
        Panel { title, unit, scale: Scale::Linear, lines }
    }

    /// Where values differ by orders of magnitude.
    pub fn log(self) -> Panel {
        Panel { scale: Scale::Log, ..self }
    }

    fn chart(&self, curve: &Curve) -> Chart {
        let series = |line: &Line| Series {
            name: line.name.clone(),
            points: curve
                .points
                .iter()
                .copied()
                .zip(line.values.iter().copied())
                .filter(|(_, y)| y.is_finite())
                .collect(),
            is_dashed: false,
        };
        Chart {
            title: format!("{}, {}", self.title, self.unit),
            x: Axis { label: curve.along, scale: Scale::Each, text: curve.text },
            y: Axis { label: self.title, scale: self.scale, text: short },
            series: self.lines.iter().map(series).collect(),
            shaded: Vec::new(),
        }
    }
}

impl Curve {
    pub fn draw(&self, path: &Path) -> io::Result<()> {
        let drawings: Vec<String> = self.panels.iter().map(|panel| panel.chart(self).narrow_svg()).collect();
        std::fs::write(path, standalone(&sheet(&drawings)))
    }
}

pub fn count(value: f64) -> String {
    match value {
        1000.0.. => format!("{:.0}k", value / 1000.0),
        _ => format!("{value:.0}"),
    }
}

/// What an open-loop load found.
#[derive(Clone, Copy)]
pub struct Found {
    pub p50_us: f64,
    pub p99_us: f64,
    pub cpu_us: f64,
    /// Bytes that the device wrote per byte of payload.
    pub written: f64,
    /// Of the device, by whomever, per 1000 messages.
    pub flushes: f64,
}

/// What a broker of its own makes of loads, one after the other.
pub struct Trial<'a> {
    pub overrides: &'a [&'a str],
    pub partitions: i32,
    pub configs: &'a [(&'a str, &'a str)],
    pub loads: &'a [Load],
    /// How long the first load goes on before, and how long it rests then, so that what is done once per partition is done.
    pub first: Option<(Duration, Duration)>,
}

impl Trial<'_> {
    pub fn run(&self, bench: &Bench) -> io::Result<Vec<Found>> {
        let broker = Broker::start(bench, self.overrides)?;
        let topic = broker.create_topic(self.partitions, self.configs)?;
        if let Some((lasts, rests)) = self.first {
            load::run(bench, &broker, topic, Load { lasts, ..self.loads[0] })?;
            thread::sleep(rests);
        }
        let mount = Mount::of(bench.directory.path());
        let found = |load: &Load| {
            let (used, flushed) = (broker.usage(), mount.device_flushes());
            let outcome = load::run(bench, &broker, topic, *load)?;
            let (used, flushed) = (broker.usage().since(used), mount.device_flushes() - flushed);
            let messages = outcome.messages as f64;
            Ok(Found {
                p50_us: outcome.end_to_end_us(0.5),
                p99_us: outcome.end_to_end_us(0.99),
                cpu_us: used.cpu_ns as f64 / 1000.0 / messages,
                written: used.write_bytes as f64 / (messages * load.message_bytes as f64),
                flushes: flushed as f64 / messages * 1000.0,
            })
        };
        self.loads.iter().map(found).collect()
    }
}
