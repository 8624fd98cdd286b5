//! Clients' settings under Kafka's names, and the defaults of the clients that people use. Names and values are data here;
//! nothing else of this room reads a text.

use std::collections::BTreeSet;

use clap::ValueEnum;

use super::units;
use crate::client::{FetcherConfig, ProducerConfig};
use crate::config::nearest;
use crate::record::Compression;

/// What one batch of records may be, decompressed.
const DECOMPRESSED_BYTES_MAX: usize = 512 << 20;
/// No limit; printed as `unlimited`.
const UNLIMITED: usize = usize::MAX;

/// Whose defaults hold where nothing is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Profile {
    /// Kafka's own producer and consumer, 4.x
    Java,
    /// librdkafka 2.x, under confluent-kafka and many others
    Librdkafka,
    /// franz-go 1.22
    FranzGo,
    /// What tutorials teach: Kafka's defaults before 4.0, without linger
    Seed,
}

impl Profile {
    pub fn name(self) -> &'static str {
        match self {
            Profile::Java => "java",
            Profile::Librdkafka => "librdkafka",
            Profile::FranzGo => "franz-go",
            Profile::Seed => "seed",
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct ProducerSettings {
    pub acks: i16,
    pub batch_size: usize,
    pub linger_ms: u64,
    pub buffer_memory: usize,
    /// `queue.buffering.max.messages`: records that may wait, where the client counts those.
    pub buffer_records: usize,
    pub max_block_ms: u64,
    pub max_request_size: usize,
    pub max_in_flight: usize,
    pub compression: Option<Compression>,
    pub enable_idempotence: bool,
    pub retries: u32,
    pub retry_backoff_ms: u64,
    pub request_timeout_ms: u64,
    pub delivery_timeout_ms: u64,
    /// Keys that were set and not left to the profile.
    said: BTreeSet<&'static str>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct ConsumerSettings {
    pub fetch_min_bytes: i32,
    pub fetch_max_wait_ms: i32,
    pub max_partition_fetch_bytes: i32,
    pub fetch_max_bytes: i32,
    pub max_poll_records: usize,
    pub retry_backoff_ms: u64,
}

pub const PRODUCER_KEYS: &[&str] = &[
    "acks",
    "batch.size",
    "linger.ms",
    "buffer.memory",
    "queue.buffering.max.messages",
    "max.block.ms",
    "max.request.size",
    "max.in.flight.requests.per.connection",
    "compression.type",
    "enable.idempotence",
    "retries",
    "retry.backoff.ms",
    "request.timeout.ms",
    "delivery.timeout.ms",
];

pub const CONSUMER_KEYS: &[&str] = &[
    "fetch.min.bytes",
    "fetch.max.wait.ms",
    "max.partition.fetch.bytes",
    "fetch.max.bytes",
    "max.poll.records",
    "retry.backoff.ms",
];

/// The row of the table, or which name is near.
fn known(key: &str, keys: &[&'static str], kind: &str) -> Result<&'static str, String> {
    if let Some(known) = keys.iter().find(|known| **known == key) {
        return Ok(known);
    }
    let hint = match nearest(key, keys.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("known are {}", keys.join(", ")),
    };
    Err(format!("{key} is no setting of this {kind}; {hint}"))
}

fn number<T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy>(
    key: &str,
    text: &str,
    min: T,
    max: T,
) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("{key}={text}: it is a number from {min} to {max}"))
}

fn size(key: &str, text: &str, max: usize) -> Result<usize, String> {
    let size = units::bytes(text).map_err(|reason| format!("{key}: {reason}"))?;
    if (1..=max).contains(&size) { Ok(size) } else { Err(format!("{key}={text}: it is 1 to {max} bytes")) }
}

impl ProducerSettings {
    pub fn of(profile: Profile) -> ProducerSettings {
        let java = ProducerSettings {
            acks: -1,
            batch_size: 16_384,
            linger_ms: 5,
            buffer_memory: 32 << 20,
            buffer_records: UNLIMITED,
            max_block_ms: 60_000,
            max_request_size: 1 << 20,
            max_in_flight: 5,
            compression: None,
            enable_idempotence: true,
            retries: i32::MAX as u32,
            retry_backoff_ms: 100,
            request_timeout_ms: 30_000,
            delivery_timeout_ms: 120_000,
            said: BTreeSet::new(),
        };
        match profile {
            Profile::Java => java,
            Profile::Seed => ProducerSettings { linger_ms: 0, ..java },
            Profile::Librdkafka => ProducerSettings {
                batch_size: 1_000_000,
                buffer_memory: 1 << 30,
                buffer_records: 100_000,
                max_request_size: 1_000_000,
                max_in_flight: 1_000_000,
                enable_idempotence: false,
                delivery_timeout_ms: 300_000,
                ..java
            },
            Profile::FranzGo => ProducerSettings {
                batch_size: 1_000_012,
                linger_ms: 10,
                buffer_memory: UNLIMITED,
                buffer_records: 50_000,
                max_request_size: 100 << 20,
                compression: Some(Compression::Snappy),
                request_timeout_ms: 10_000,
                delivery_timeout_ms: i32::MAX as u64,
                ..java
            },
        }
    }

    pub fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        let key = known(key, PRODUCER_KEYS, "producer")?;
        let ms = |text: &str| number(key, text, 0, i32::MAX as u64);
        match key {
            "acks" => {
                self.acks = match text {
                    "all" | "-1" => -1,
                    "1" => 1,
                    "0" => 0,
                    _ => return Err(format!("acks={text}: it is 0, 1 or all")),
                }
            }
            "batch.size" => self.batch_size = size(key, text, 1 << 30)?,
            "linger.ms" => self.linger_ms = ms(text)?,
            "buffer.memory" => self.buffer_memory = size(key, text, usize::MAX >> 1)?,
            "queue.buffering.max.messages" => {
                self.buffer_records = match number(key, text, 0, usize::MAX)? {
                    0 => UNLIMITED,
                    records => records,
                }
            }
            "max.block.ms" => self.max_block_ms = ms(text)?,
            "max.request.size" => self.max_request_size = size(key, text, 1 << 30)?,
            "max.in.flight.requests.per.connection" => self.max_in_flight = number(key, text, 1, 1_000_000)?,
            "compression.type" => {
                self.compression = match text {
                    "none" => None,
                    codec => {
                        Some(codec.parse().map_err(|reason| format!("compression.type={text}: {reason}, or none"))?)
                    }
                }
            }
            "enable.idempotence" => {
                self.enable_idempotence =
                    text.parse().map_err(|_| format!("enable.idempotence={text}: it is true or false"))?
            }
            "retries" => self.retries = number(key, text, 0, i32::MAX as u32)?,
            "retry.backoff.ms" => self.retry_backoff_ms = ms(text)?,
            "request.timeout.ms" => self.request_timeout_ms = number(key, text, 1, i32::MAX as u64)?,
            "delivery.timeout.ms" => self.delivery_timeout_ms = number(key, text, 1, i32::MAX as u64)?,
            _ => unreachable!("{key} stands in the table"),
        }
        self.said.insert(key);
        Ok(())
    }

    /// Once all is set. What excludes idempotence switches it off where nobody asked for it, as Kafka's own producer does.
    pub fn settle(&mut self) -> Result<(), String> {
        let excluding = match self {
            _ if self.acks != -1 => Some(format!("acks=all, not acks={}", self.acks)),
            _ if self.max_in_flight > 5 => {
                Some(format!("max.in.flight.requests.per.connection of at most 5, not {}", self.max_in_flight))
            }
            _ if self.retries == 0 => Some("retries above 0".to_owned()),
            _ => None,
        };
        if let Some(needed) = excluding.filter(|_| self.enable_idempotence) {
            if self.said.contains("enable.idempotence") {
                return Err(format!("enable.idempotence=true needs {needed}; leave one of the two out"));
            }
            self.enable_idempotence = false;
        }
        Ok(())
    }

    pub fn entries(&self) -> Vec<(&'static str, String)> {
        let unlimited = |size: usize, text: String| if size == UNLIMITED { "unlimited".to_owned() } else { text };
        let value = |key: &str| match key {
            "acks" if self.acks == -1 => "all".into(),
            "acks" => self.acks.to_string(),
            "batch.size" => self.batch_size.to_string(),
            "linger.ms" => self.linger_ms.to_string(),
            "buffer.memory" => unlimited(self.buffer_memory, self.buffer_memory.to_string()),
            "queue.buffering.max.messages" => unlimited(self.buffer_records, self.buffer_records.to_string()),
            "max.block.ms" => self.max_block_ms.to_string(),
            "max.request.size" => self.max_request_size.to_string(),
            "max.in.flight.requests.per.connection" => self.max_in_flight.to_string(),
            "compression.type" => self.compression.map_or("none", Compression::name).into(),
            "enable.idempotence" => self.enable_idempotence.to_string(),
            "retries" => self.retries.to_string(),
            "retry.backoff.ms" => self.retry_backoff_ms.to_string(),
            "request.timeout.ms" => self.request_timeout_ms.to_string(),
            _ => self.delivery_timeout_ms.to_string(),
        };
        PRODUCER_KEYS.iter().map(|key| (*key, value(key))).collect()
    }

    /// `32m × 16k`: how many batches the buffer holds, and a request.
    pub fn arithmetic(&self) -> String {
        let batches = |bytes: usize| (bytes / self.batch_size).max(1);
        let request = format!(
            "max.request.size {} / batch.size {} = {} batches a request",
            units::size(self.max_request_size),
            units::size(self.batch_size),
            batches(self.max_request_size)
        );
        match self.buffer_memory {
            UNLIMITED => format!("buffer.memory is unlimited, {} records may wait; {request}", self.buffer_records),
            bytes => format!(
                "buffer.memory {} / batch.size {} = {} batches; {request}",
                units::size(bytes),
                units::size(self.batch_size),
                batches(bytes)
            ),
        }
    }

    pub fn config(&self) -> ProducerConfig {
        ProducerConfig {
            acks: self.acks,
            compression: self.compression,
            linger_ms: self.linger_ms,
            batch_bytes_max: self.batch_size,
            request_bytes_max: self.max_request_size,
            requests_in_flight_max: self.max_in_flight,
            request_timeout_ms: self.request_timeout_ms,
            delivery_timeout_ms: self.delivery_timeout_ms,
            retries: self.retries,
            retry_backoff_ms: self.retry_backoff_ms,
        }
    }
}

impl ConsumerSettings {
    /// The clients agree but for how long they let a fetch wait.
    pub fn of(profile: Profile) -> ConsumerSettings {
        ConsumerSettings {
            fetch_min_bytes: 1,
            fetch_max_wait_ms: if profile == Profile::FranzGo { 5000 } else { 500 },
            max_partition_fetch_bytes: 1 << 20,
            fetch_max_bytes: 50 << 20,
            max_poll_records: 500,
            retry_backoff_ms: 100,
        }
    }

    pub fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        let key = known(key, CONSUMER_KEYS, "consumer")?;
        let bytes = |text: &str| size(key, text, i32::MAX as usize).map(|size| size as i32);
        match key {
            "fetch.min.bytes" => self.fetch_min_bytes = bytes(text)?,
            "fetch.max.wait.ms" => self.fetch_max_wait_ms = number(key, text, 0, i32::MAX)?,
            "max.partition.fetch.bytes" => self.max_partition_fetch_bytes = bytes(text)?,
            "fetch.max.bytes" => self.fetch_max_bytes = bytes(text)?,
            "max.poll.records" => self.max_poll_records = number(key, text, 1, i32::MAX as usize)?,
            "retry.backoff.ms" => self.retry_backoff_ms = number(key, text, 0, i32::MAX as u64)?,
            _ => unreachable!("{key} stands in the table"),
        }
        Ok(())
    }

    pub fn entries(&self) -> Vec<(&'static str, String)> {
        vec![
            ("fetch.min.bytes", self.fetch_min_bytes.to_string()),
            ("fetch.max.wait.ms", self.fetch_max_wait_ms.to_string()),
            ("max.partition.fetch.bytes", self.max_partition_fetch_bytes.to_string()),
            ("fetch.max.bytes", self.fetch_max_bytes.to_string()),
            ("max.poll.records", self.max_poll_records.to_string()),
            ("retry.backoff.ms", self.retry_backoff_ms.to_string()),
        ]
    }

    pub fn config(&self) -> FetcherConfig {
        FetcherConfig {
            max_wait_ms: self.fetch_max_wait_ms,
            min_bytes: self.fetch_min_bytes,
            max_bytes: self.fetch_max_bytes,
            partition_max_bytes: self.max_partition_fetch_bytes,
            retry_backoff_ms: self.retry_backoff_ms,
            decompressed_bytes_max: DECOMPRESSED_BYTES_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_prints_the_arithmetic_of_its_defaults() {
        let java = ProducerSettings::of(Profile::Java);
        assert_eq!(
            java.arithmetic(),
            "buffer.memory 32m / batch.size 16k = 2048 batches; max.request.size 1m / batch.size 16k = 64 batches a request"
        );
        assert_eq!(ProducerSettings::of(Profile::Seed).linger_ms, 0);
        assert_eq!(ProducerSettings::of(Profile::FranzGo).compression, Some(Compression::Snappy));
    }

    #[test]
    fn every_setting_reads_back_what_it_prints() {
        for profile in [Profile::Java, Profile::Librdkafka, Profile::Seed] {
            let printed = ProducerSettings::of(profile);
            let mut read = ProducerSettings::of(Profile::FranzGo);
            for (key, value) in printed.entries().iter().filter(|(_, value)| value != "unlimited") {
                read.set(key, value).unwrap();
            }
            let differing: Vec<_> = printed.entries().into_iter().zip(read.entries()).filter(|(a, b)| a != b).collect();
            assert!(differing.iter().all(|(a, _)| a.1 == "unlimited"), "{differing:?}");
        }
        let mut consumer = ConsumerSettings::of(Profile::Java);
        for (key, value) in ConsumerSettings::of(Profile::FranzGo).entries() {
            consumer.set(key, &value).unwrap();
        }
        assert_eq!(consumer, ConsumerSettings::of(Profile::FranzGo));
    }

    #[test]
    fn what_excludes_idempotence_switches_it_off_unless_it_was_asked_for() {
        let mut settings = ProducerSettings::of(Profile::Java);
        settings.set("acks", "1").unwrap();
        assert_eq!((settings.settle(), settings.enable_idempotence), (Ok(()), false));
        let mut settings = ProducerSettings::of(Profile::Java);
        settings.set("enable.idempotence", "true").unwrap();
        settings.set("max.in.flight.requests.per.connection", "6").unwrap();
        assert!(settings.settle().unwrap_err().contains("at most 5, not 6"));
    }

    #[test]
    fn a_wrong_name_or_value_says_what_is_right() {
        let mut settings = ProducerSettings::of(Profile::Java);
        assert!(settings.set("batch.sise", "1").unwrap_err().contains("did you mean batch.size?"));
        for (key, wrong) in [("acks", "2"), ("batch.size", "0"), ("linger.ms", "-1"), ("compression.type", "rar")] {
            assert!(settings.set(key, wrong).unwrap_err().contains(wrong), "{key}");
        }
    }
}
