//! The broker's settings: read from a file and the command line, checked one by one and then against each other.

use std::collections::BTreeMap;
use std::fmt;

use super::gannet::GannetConfig;
use super::group::GroupConfig;
use super::ignored::ignored;
use super::key::Valid::{Any, AtLeast, NotEmpty};
use super::key::{ConfigError, Key, nearest, same};
use super::listeners::{self, Listener};
use super::properties::Properties;
use super::settings::settings;
use super::topic::TopicConfig;
use crate::types::ShardId;

settings! {
    /// All that one broker is told at its start.
    pub struct BrokerConfig {
        /// This broker's number in its cluster.
        node_id: i32 = "node.id" Int, Some("1"), AtLeast(0), High, [same("broker.id")];
        /// Where this broker stands; replicas are spread over racks.
        broker_rack: Option<String> = "broker.rack" String, None, Any, Medium, [];
        /// Directories for data, best on a device each. Never on /tmp or in memory, except with --dev.
        log_dirs: Vec<String> = "log.dirs" List, Some("./gannet-data"), NotEmpty, High, [same("log.dir")];
        /// Addresses to listen on, NAME://host:port; an empty host is every interface.
        listeners: Vec<Listener> = "listeners" List, Some("PLAINTEXT://127.0.0.1:9092"), NotEmpty, High, [];
        /// Addresses that clients are told; the listeners themselves if unset.
        advertised_listeners: Vec<Listener> = "advertised.listeners" List, None, NotEmpty, High, [];
        /// What each listener speaks, NAME:PROTOCOL; only PLAINTEXT is offered.
        listener_security_protocol_map: Vec<String> = "listener.security.protocol.map" List, Some("PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL"), Any, Low, [];
        /// Listeners meant for Kafka's controllers; they are not opened, the quorum needs none of its own.
        controller_listener_names: Vec<String> = "controller.listener.names" List, Some(""), Any, Low, [];
        /// Partitions of a topic that is created without saying how many.
        num_partitions: i32 = "num.partitions" Int, Some("1"), AtLeast(1), Medium, [];
        /// Replicas of a topic that is created without saying how many.
        default_replication_factor: i32 = "default.replication.factor" Int, Some("1"), AtLeast(1), Medium, [];
        /// Lets a client's first word about a topic create it; one wrong letter makes a topic. On with --dev.
        auto_create_topics_enable: bool = "auto.create.topics.enable" Boolean, Some("false"), Any, High, [];
        /// Lets clients delete topics.
        delete_topic_enable: bool = "delete.topic.enable" Boolean, Some("true"), Any, High, [];
        /// Size of the largest request; a larger one closes its connection before memory is spent on it.
        socket_request_max_bytes: u32 = "socket.request.max.bytes" Int, Some("104857600"), AtLeast(1024), High, [];
        /// Send buffer of a socket in the kernel; -1 leaves it to the kernel.
        socket_send_buffer_bytes: i32 = "socket.send.buffer.bytes" Int, Some("-1"), AtLeast(-1), High, [];
        /// Receive buffer of a socket in the kernel; -1 leaves it to the kernel.
        socket_receive_buffer_bytes: i32 = "socket.receive.buffer.bytes" Int, Some("-1"), AtLeast(-1), High, [];
        /// Connections that may wait to be accepted.
        socket_listen_backlog_size: i32 = "socket.listen.backlog.size" Int, Some("1024"), AtLeast(1), Medium, [];
        /// A connection without a request for this long is closed.
        connections_max_idle_ms: i64 = "connections.max.idle.ms" Long, Some("600000"), Any, Medium, [];
        /// Connections of this broker.
        max_connections: u32 = "max.connections" Int, Some("2147483647"), AtLeast(0), Medium, [];
        /// Connections from one address.
        max_connections_per_ip: u32 = "max.connections.per.ip" Int, Some("2147483647"), AtLeast(0), Medium, [];
        /// Size of the largest fetch response, whatever the client asks for.
        fetch_max_bytes: u32 = "fetch.max.bytes" Int, Some("57671680"), AtLeast(1024), Medium, [];
        /// Fetch sessions kept (KIP-227); beyond them clients fetch without.
        max_incremental_fetch_session_cache_slots: u32 = "max.incremental.fetch.session.cache.slots" Int, Some("1000"), AtLeast(0), Medium, [];
        /// Partitions that one DescribeTopicPartitions response lists.
        max_request_partition_size_limit: i32 = "max.request.partition.size.limit" Int, Some("2000"), AtLeast(1), Medium, [];
        /// How long an idle producer's sequences are remembered, for telling a repeated batch from a new one.
        producer_id_expiration_ms: i32 = "producer.id.expiration.ms" Int, Some("86400000"), AtLeast(1), Low, [];
        /// How often segments past their retention are looked for.
        log_retention_check_interval_ms: i64 = "log.retention.check.interval.ms" Long, Some("300000"), AtLeast(1), Medium, [];
        /// How long compaction waits before it looks again when no log was dirty enough.
        log_cleaner_backoff_ms: u64 = "log.cleaner.backoff.ms" Long, Some("15000"), AtLeast(0), Medium, [];
        /// Memory for the keys of logs that are being compacted, shared out among the cores; at most an eighth of a core's memory.
        log_cleaner_dedupe_buffer_size: u64 = "log.cleaner.dedupe.buffer.size" Long, Some("134217728"), AtLeast(4096), Medium, [];
        /// What compaction reads and writes at most, over all cores, so that clients keep their latency.
        log_cleaner_io_max_bytes_per_second: f64 = "log.cleaner.io.max.bytes.per.second" Double, Some("67108864.0"), Any, Medium, [];
        /// Samples over which the rate of a client with a quota is measured; the last is still being filled.
        quota_window_num: u32 = "quota.window.num" Int, Some("11"), AtLeast(1), Low, [];
        /// Length of such a sample, and the longest that a client is held back for time or connections it took.
        quota_window_size_seconds: u32 = "quota.window.size.seconds" Int, Some("1"), AtLeast(1), Low, [];
    }
    besides {
        /// What topics get that do not say otherwise: from `log.…` and the like.
        topic: TopicConfig,
        gannet: GannetConfig,
        group: GroupConfig,
        /// What was set and where, for DescribeConfigs.
        configured: BTreeMap<&'static str, String>,
        /// What was set for all brokers while they ran.
        dynamic_default: BTreeMap<String, String>,
        /// What was set for this broker while it ran.
        dynamic: BTreeMap<String, String>,
    }
}

/// A setting that was read and will not do what its writer expects; one line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub key: String,
    pub place: String,
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.key, self.place, self.message)
    }
}

/// Every text that was given for a key, the last one each, and where.
struct Given<'a> {
    texts: BTreeMap<&'a str, (&'a str, String)>,
}

impl Given<'_> {
    fn place(&self, name: &str) -> Option<String> {
        self.texts.get(name).map(|(_, place)| place.clone())
    }
}

impl BrokerConfig {
    /// Reads a file and what the command line puts over it. `dev` turns the creation of topics by their first use on,
    /// unless it was set. Unknown keys and keys without meaning here are warnings; wrong values are errors.
    pub fn from_properties(
        file: &Properties,
        overrides: &[(String, String)],
        dev: bool,
    ) -> Result<(BrokerConfig, Vec<Warning>), ConfigError> {
        let mut given = Given { texts: BTreeMap::new() };
        for property in &file.entries {
            given.texts.insert(&property.key, (&property.value, format!("{}:{}", file.file, property.line)));
        }
        for (key, value) in overrides {
            given.texts.insert(key, (value, "command line".to_string()));
        }
        let mut config = BrokerConfig { auto_create_topics_enable: dev, ..BrokerConfig::default() };
        let mut warnings = Vec::new();
        for (name, (text, place)) in &given.texts {
            if let Some(known) = known(name) {
                config.configured.insert(known, text.to_string());
            } else {
                let message = not_used(name);
                warnings.push(Warning { key: name.to_string(), place: place.clone(), message });
            }
        }
        let applied = config.apply(&given).and_then(|()| config.check(&mut warnings, &given));
        applied.map_err(|error| ConfigError { place: given.place(&error.key), ..error })?;
        Ok((config, warnings))
    }

    /// The settings of a topic with its own in place of the broker's, within the broker's limits.
    pub fn topic_config(&self, overrides: &BTreeMap<String, String>) -> Result<TopicConfig, ConfigError> {
        let config = self.topic.with_overrides(overrides)?;
        let limit = self.batch_bytes_max();
        if config.max_message_bytes as u64 > limit {
            let problem = format!("it must be at most {limit}: {}", Self::BATCH_LIMIT_REASON);
            return Err(ConfigError::problem("max.message.bytes", &config.max_message_bytes.to_string(), problem));
        }
        Ok(config)
    }

    /// Size of the largest batch this broker can take at all: it must fit a request and a file of the journal.
    pub fn batch_bytes_max(&self) -> u64 {
        // A block of the journal has a header and a table before the batch.
        let of_the_journal = self.gannet.journal_file_bytes() - 8192;
        u64::from(self.socket_request_max_bytes).min(of_the_journal)
    }

    /// Size of the largest record of __consumer_offsets: its batch must fit as any other.
    pub fn group_record_bytes_max(&self) -> usize {
        usize::try_from(self.batch_bytes_max()).unwrap_or(usize::MAX) - 4096
    }

    const BATCH_LIMIT_REASON: &str = "a batch must fit a request (socket.request.max.bytes) and a file of the journal \
        (gannet.journal.bytes / gannet.journal.files)";

    /// Checks what depends on how many cores there turn out to be.
    pub fn check_cores(&self, cores: u16) -> Result<(), ConfigError> {
        let share = self.gannet.memory_per_core_bytes(cores);
        let needed = self.memory_needed_per_core_bytes();
        if share < needed {
            let total = needed * u64::from(cores);
            let text = self.gannet.text("gannet.memory.bytes").unwrap_or_else(|| "unset".to_string());
            let problem = format!(
                "each of {cores} cores gets {share} bytes and needs {needed}, to hold the largest request \
                 (socket.request.max.bytes) beside the data: set it to {total} or more, or use fewer cores (gannet.cores)"
            );
            return Err(ConfigError::problem("gannet.memory.bytes", &text, problem));
        }
        if self.gannet.listener_per_core {
            self.check_nodes(cores)?;
        }
        Ok(())
    }

    /// Each core is a node of its own, with a port for each listener.
    fn check_nodes(&self, cores: u16) -> Result<(), ConfigError> {
        let (step, most) = (ShardId::NODE_ID_STEP, ShardId::NODES_MAX);
        if self.node_id >= step {
            let problem =
                format!("with gannet.listener.per.core it must be below {step}: core 1 is node {step} + node.id");
            return Err(ConfigError::problem("node.id", &self.node_id.to_string(), problem));
        }
        if cores > most {
            let problem = format!("{cores} cores cannot be nodes of their own: at most {most} (gannet.cores)");
            return Err(ConfigError::problem("gannet.listener.per.core", "true", problem));
        }
        listeners::check_ranges("listeners", &self.listeners, cores)?;
        listeners::check_ranges("advertised.listeners", &self.advertised_listeners, cores)
    }

    /// A shard with less could never admit the largest request.
    fn memory_needed_per_core_bytes(&self) -> u64 {
        2 * u64::from(self.socket_request_max_bytes)
    }

    fn apply(&mut self, given: &Given) -> Result<(), ConfigError> {
        for key in BrokerConfig::KEYS {
            for name in key.synonyms.iter().rev().map(|synonym| synonym.name).chain([key.name]) {
                if let Some((text, _)) = given.texts.get(name) {
                    self.set(key.name, text).map_err(|error| ConfigError { key: name.to_string(), ..error })?;
                }
            }
        }
        for key in GannetConfig::KEYS {
            if let Some((text, _)) = given.texts.get(key.name) {
                self.gannet.set(key.name, text)?;
            }
        }
        for key in GroupConfig::KEYS {
            if let Some((text, _)) = given.texts.get(key.name) {
                self.group.set(key.name, text)?;
            }
        }
        for key in TopicConfig::KEYS {
            // From the weakest to the strongest: milliseconds beat minutes beat hours.
            for synonym in key.synonyms.iter().rev() {
                if let Some((text, _)) = given.texts.get(synonym.name) {
                    let set = self.topic.set(key.name, &synonym.to_key(text));
                    set.map_err(|error| ConfigError {
                        key: synonym.name.to_string(),
                        value: Some(text.to_string()),
                        ..error
                    })?;
                }
            }
        }
        Ok(())
    }

    /// The settings against each other: every limit that another one rests on.
    fn check(&mut self, warnings: &mut Vec<Warning>, given: &Given) -> Result<(), ConfigError> {
        let warn = |key: &str, message: String| Warning {
            key: key.to_string(),
            place: given.place(key).unwrap_or_else(|| "default".to_string()),
            message,
        };
        if let (Some((node, _)), Some((broker, _))) = (given.texts.get("node.id"), given.texts.get("broker.id"))
            && node.trim() != broker.trim()
        {
            return Err(ConfigError::problem("broker.id", broker, format!("node.id is {node}; leave broker.id out")));
        }
        let endpoints = listeners::resolve(
            &self.listeners,
            &self.advertised_listeners,
            &self.listener_security_protocol_map,
            &self.controller_listener_names,
        )?;
        for controller in endpoints.controllers {
            let message = format!("{controller} is not opened: the metadata quorum needs no listener of its own");
            warnings.push(warn("controller.listener.names", message));
        }
        self.listeners = endpoints.listeners;
        self.advertised_listeners = endpoints.advertised;
        self.group.check()?;
        self.topic.check().map_err(|error| self.under_the_brokers_name(error, given))?;
        let limit = self.batch_bytes_max();
        if self.topic.max_message_bytes as u64 > limit {
            let problem = format!("it must be at most {limit}: {}", Self::BATCH_LIMIT_REASON);
            return Err(ConfigError::problem("message.max.bytes", &self.topic.max_message_bytes.to_string(), problem));
        }
        let responses = self.gannet.connection_response_bytes;
        if u64::from(self.fetch_max_bytes) > responses {
            let problem = format!(
                "one response must fit what may wait for a connection: at most {responses} (gannet.connection.response.bytes)"
            );
            return Err(ConfigError::problem("fetch.max.bytes", &self.fetch_max_bytes.to_string(), problem));
        }
        let journal_file = self.gannet.journal_file_bytes();
        if self.gannet.commit_bytes > journal_file {
            let problem = format!("a commit must fit a file of the journal: at most {journal_file}");
            return Err(ConfigError::problem("gannet.commit.bytes", &self.gannet.commit_bytes.to_string(), problem));
        }
        if let Some(memory) = self.gannet.memory_bytes
            && memory < self.memory_needed_per_core_bytes()
        {
            self.check_cores(1)?;
        }
        if self.topic.flush_messages > 1 {
            let message = "acknowledged records of topics that do not say otherwise are in memory only until they are \
                           written soon after: a crash may lose them; 1 is the safe value";
            warnings.push(warn("log.flush.interval.messages", message.to_string()));
        }
        Ok(())
    }

    /// The error of a topic's setting, said of the broker's key that set it.
    fn under_the_brokers_name(&self, error: ConfigError, given: &Given) -> ConfigError {
        let synonyms = TopicConfig::key(&error.key).map_or(&[][..], |key| key.synonyms);
        let set = synonyms.iter().find(|synonym| given.texts.contains_key(synonym.name)).or(synonyms.first());
        let key = set.map_or(error.key, |synonym| synonym.name.to_string());
        ConfigError { key, ..error }
    }
}

/// Every table's row that `name` stands for on the side of the broker.
pub(super) fn known_names() -> impl Iterator<Item = &'static str> {
    let own = BrokerConfig::KEYS.iter().chain(GroupConfig::KEYS).chain(GannetConfig::KEYS).map(|key| key.name);
    let others = BrokerConfig::KEYS.iter().chain(TopicConfig::KEYS).flat_map(|key: &Key| key.synonyms);
    own.chain(others.map(|synonym| synonym.name))
}

pub(super) fn known(name: &str) -> Option<&'static str> {
    known_names().find(|known| *known == name)
}

/// Why a key has no effect.
fn not_used(name: &str) -> String {
    if let Some(note) = ignored(name) {
        return format!("has no effect: {note}");
    }
    if TopicConfig::key(name).is_some() {
        return "is a topic's setting; it has no effect here".to_string();
    }
    match nearest(name, known_names().chain(super::ignored::names())) {
        Some(nearest) => format!("is unknown, did you mean {nearest}?"),
        None => "is unknown and has no effect".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CommitMethod, Cores};

    fn read(text: &str) -> Result<(BrokerConfig, Vec<Warning>), ConfigError> {
        BrokerConfig::from_properties(&Properties::parse("server.properties", text).unwrap(), &[], false)
    }

    fn config(text: &str) -> BrokerConfig {
        read(text).unwrap().0
    }

    fn refused(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn nothing_given_is_a_safe_broker_on_loopback() {
        let (config, warnings) = read("").unwrap();
        assert_eq!(warnings, []);
        assert_eq!(config.log_dirs, ["./gannet-data"]);
        assert_eq!(config.listeners[0].to_string(), "PLAINTEXT://127.0.0.1:9092");
        assert_eq!(config.advertised_listeners, config.listeners);
        assert!(!config.auto_create_topics_enable && config.delete_topic_enable);
        assert_eq!((config.node_id, config.gannet.cores), (1, Cores::All));
        assert_eq!(config.topic, TopicConfig::default());
        for key in BrokerConfig::KEYS {
            let default = BrokerConfig::default();
            assert_eq!(default.text(key.name).as_deref(), key.default, "{}", key.name);
        }
    }

    #[test]
    fn dev_creates_topics_unless_told_otherwise() {
        let dev = |text| {
            BrokerConfig::from_properties(&Properties::parse("f", text).unwrap(), &[], true)
                .unwrap()
                .0
                .auto_create_topics_enable
        };
        assert!(dev(""));
        assert!(!dev("auto.create.topics.enable=false"));
    }

    #[test]
    fn milliseconds_beat_minutes_beat_hours() {
        let retention = |text| config(text).topic.retention_ms;
        assert_eq!(retention("log.retention.hours=2"), 7_200_000);
        assert_eq!(retention("log.retention.minutes=3\nlog.retention.hours=2"), 180_000);
        assert_eq!(retention("log.retention.ms=5\nlog.retention.minutes=3\nlog.retention.hours=2"), 5);
        assert_eq!(retention("log.retention.hours=-1"), -1);
        assert_eq!(config("log.roll.hours=1").topic.segment_ms, 3_600_000);
        assert_eq!(config("message.max.bytes=5000").topic.max_message_bytes, 5000);
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let file = Properties::parse("f", "num.partitions=3").unwrap();
        let overrides = [("num.partitions".to_string(), "5".to_string())];
        assert_eq!(BrokerConfig::from_properties(&file, &overrides, false).unwrap().0.num_partitions, 5);
        let bad = [("num.partitions".to_string(), "0".to_string())];
        let error = BrokerConfig::from_properties(&file, &bad, false).unwrap_err().to_string();
        assert!(error.contains("num.partitions (command line)"), "{error}");
    }

    #[test]
    fn a_wrong_value_says_where_and_what_is_allowed() {
        assert_eq!(
            refused("num.partitions=2\nlog.segment.bytes=12k"),
            "Invalid value 12k for configuration log.segment.bytes (server.properties:2): it must be a whole number of up to \
             32 bits, at least 1048576"
        );
        assert!(refused("log.retention.hours=soon").contains("value soon for configuration log.retention.hours"));
        assert!(refused("broker.id=x").contains("configuration broker.id"));
        assert!(refused("gannet.commit.method=magic").contains("auto, thread, ring-dsync, ring-fsync"));
        assert!(refused("gannet.cores=0").contains("gannet.cores"));
        assert!(refused("listeners=localhost:9092").contains("listeners (server.properties:1)"));
        assert!(refused("log.dirs=").contains("not empty"));
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        assert!(refused("message.max.bytes=200000000").contains("must fit a request"));
        assert!(
            refused("log.cleaner.min.compaction.lag.ms=9\nlog.cleaner.max.compaction.lag.ms=8")
                .contains("server.properties:1")
        );
        assert!(refused("fetch.max.bytes=1073741824").contains("gannet.connection.response.bytes"));
        assert!(refused("gannet.commit.bytes=1073741824").contains("file of the journal"));
        assert!(refused("gannet.memory.bytes=67108864").contains("209715200"));
        assert!(refused("node.id=1\nbroker.id=2").contains("node.id is 1"));
        assert_eq!(config("node.id=4\nbroker.id=4").node_id, 4);
        assert_eq!(config("broker.id=6").node_id, 6);
    }

    #[test]
    fn memory_must_suffice_for_every_core() {
        let config = config("gannet.memory.bytes=536870912");
        assert_eq!(config.check_cores(2), Ok(()));
        assert!(config.check_cores(3).unwrap_err().to_string().contains("629145600"));
        assert_eq!(self::config("").check_cores(512), Ok(()));
    }

    #[test]
    fn a_topic_stays_within_the_brokers_limits() {
        let config = config("");
        let own = |bytes: u64| BTreeMap::from([("max.message.bytes".to_string(), bytes.to_string())]);
        assert!(config.topic_config(&own(config.batch_bytes_max())).is_ok());
        let error = config.topic_config(&own(config.batch_bytes_max() + 1)).unwrap_err();
        assert!(error.to_string().contains("file of the journal"), "{error}");
    }

    #[test]
    fn keys_without_effect_warn_once_each_with_the_way_out() {
        let (config, warnings) = read(
            "zookeeper.connect=localhost:2181\nnum.io.threads=8\nnum.partition=4\nretention.ms=5\nxyzzy=1\n\
             zookeeper.connect=again:2181\n",
        )
        .unwrap();
        assert_eq!(config.num_partitions, 1);
        let lines: Vec<String> = warnings.iter().map(Warning::to_string).collect();
        assert_eq!(lines.len(), 5, "{lines:?}");
        let of = |key: &str| lines.iter().find(|line| line.starts_with(key)).unwrap().as_str();
        assert!(of("zookeeper.connect").contains("server.properties:6"));
        assert!(of("num.io.threads").contains("gannet.cores"));
        assert!(of("num.partition (").contains("did you mean num.partitions?"));
        assert!(of("retention.ms").contains("topic's setting"));
        assert!(of("xyzzy").contains("is unknown and has no effect"));
    }

    #[test]
    fn a_weaker_promise_is_said_aloud() {
        let (config, warnings) = read("log.flush.interval.messages=10000").unwrap();
        assert_eq!(config.topic.flush_messages, 10000);
        assert!(warnings[0].to_string().contains("a crash may lose them"));
    }

    #[test]
    fn the_server_properties_that_kafka_ships_start_this_broker() {
        let (config, warnings) = read(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.bootstrap.servers=localhost:9093\n\
             listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ninter.broker.listener.name=PLAINTEXT\n\
             advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL\n\
             num.network.threads=3\nnum.io.threads=8\nsocket.send.buffer.bytes=102400\nsocket.receive.buffer.bytes=102400\n\
             socket.request.max.bytes=104857600\nlog.dirs=/data/kraft-combined-logs\nnum.partitions=1\n\
             num.recovery.threads.per.data.dir=1\noffsets.topic.replication.factor=1\n\
             share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\nlog.retention.hours=168\n\
             log.segment.bytes=1073741824\nlog.retention.check.interval.ms=300000\ngannet.commit.method=thread\n",
        )
        .unwrap();
        assert_eq!(config.listeners.len(), 1);
        assert_eq!(config.advertised_listeners[0].to_string(), "PLAINTEXT://localhost:9092");
        assert_eq!(config.topic.retention_ms, 168 * 3_600_000);
        assert_eq!(config.gannet.commit_method, CommitMethod::Thread);
        assert!(warnings.iter().all(|warning| !warning.message.contains("unknown")), "{warnings:?}");
    }

    #[test]
    fn no_name_stands_twice() {
        let mut names: Vec<_> = known_names().chain(super::super::ignored::names()).collect();
        names.sort_unstable();
        let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }

    #[test]
    fn cores_are_nodes_only_where_their_ids_clash_with_no_other_brokers() {
        let per_core = |text: &str| config(&format!("gannet.listener.per.core=true\n{text}"));
        assert_eq!(per_core("node.id=99999").check_cores(4), Ok(()));
        let problem = per_core("node.id=100000").check_cores(4).expect_err("core 1 of broker 0 has this id");
        assert!(problem.to_string().contains("below 100000"), "{problem}");
        assert!(per_core("listeners=PLAINTEXT://:65535").check_cores(2).is_err());
        assert!(per_core("advertised.listeners=PLAINTEXT://a:65535").check_cores(2).is_err());
        assert_eq!(config("node.id=100000\nlisteners=PLAINTEXT://:65535").check_cores(2), Ok(()));
    }
}
