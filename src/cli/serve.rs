//! `gannet serve`: reads the configuration, sets up the log, runs the broker.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::broker::{self, ServeOptions};
use crate::config::{BrokerConfig, Properties};

#[derive(Args)]
pub struct Serve {
    /// A server.properties file, with Kafka's keys and those under gannet. Without it: data in ./gannet-data, listening on
    /// PLAINTEXT://127.0.0.1:9092.
    #[arg(value_name = "FILE.properties")]
    file: Option<String>,
    /// Puts a setting over the file's. May be given several times.
    #[arg(long = "override", value_name = "KEY=VALUE", value_parser = key_and_value)]
    overrides: Vec<(String, String)>,
    /// For trying things out: allows data on /tmp or in memory, and creates topics on their first use.
    #[arg(long)]
    dev: bool,
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    log_format: LogFormat,
    /// The least important lines that are shown.
    #[arg(long, value_enum, default_value_t = LogLevel::Info)]
    log_level: LogLevel,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Human,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> LevelFilter {
        match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        }
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it has the form key=value")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

impl Serve {
    /// Until the broker has stopped.
    pub fn run(self) -> Result<(), String> {
        self.start_log();
        let properties = match &self.file {
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
                Properties::parse(file, &text).map_err(|error| error.to_string())?
            }
            None => Properties::default(),
        };
        let (config, warnings) =
            BrokerConfig::from_properties(&properties, &self.overrides, self.dev).map_err(|error| error.to_string())?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let options = ServeOptions { dev: self.dev, table: self.log_format == LogFormat::Human };
        broker::serve(config, &options).map_err(|problem| problem.0)
    }

    /// Lines go to standard error. Of the runtime under the background executor only warnings are of interest.
    fn start_log(&self) {
        let level = LevelFilter::from(self.log_level);
        let filter = EnvFilter::new(format!("{level},glommio={}", level.min(LevelFilter::WARN)));
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
        match self.log_format {
            LogFormat::Json => lines.json().flatten_event(true).init(),
            LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_is_a_key_and_a_value() {
        assert_eq!(key_and_value("a.b = c=d"), Ok(("a.b".into(), "c=d".into())));
        assert!(key_and_value("a.b").is_err());
    }
}
