//! What the broker says of itself when it has started.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use super::Bound;
use super::directories::{LogDir, LogDirs};
use crate::config::{BrokerConfig, Listener};
use crate::reactor::{CommitMethod, CommitProbe, mount_of};
use crate::types::ShardId;

pub struct Facts<'a> {
    pub config: &'a BrokerConfig,
    pub cluster_id: &'a str,
    pub cores: &'a [usize],
    pub dirs: &'a LogDirs,
    pub commit_method: CommitMethod,
    pub probe: Option<CommitProbe>,
    pub bound: &'a [Bound],
    pub advertised: &'a [Listener],
    pub partitions: usize,
    pub replayed_bytes: u64,
    pub after_crash: bool,
    pub took: Duration,
}

impl Facts<'_> {
    /// On standard output, or as one event of the log.
    pub fn tell(&self, table: bool) {
        if table {
            // Nobody has to listen.
            let _ = std::io::stdout().write_all(self.lines().as_bytes());
            return;
        }
        let fact =
            |name: &str| self.rows().into_iter().filter(|(n, _)| *n == name).map(|(_, text)| text).collect::<Vec<_>>();
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            node_id = self.config.node_id,
            cluster_id = self.cluster_id,
            cores = ?self.cores,
            data = ?fact("data"),
            commit = %self.commit(),
            listeners = ?fact("listener"),
            partitions = self.partitions,
            "started in {} ms",
            self.took.as_millis()
        );
    }

    fn lines(&self) -> String {
        let mut lines = format!("gannet {}\n", env!("CARGO_PKG_VERSION"));
        let mut before = "";
        for (name, text) in self.rows() {
            let shown = if name == before { "" } else { name };
            writeln!(lines, "  {shown:<9} {text}").expect("a String takes everything");
            before = name;
        }
        lines
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows =
            vec![("node", format!("{} of cluster {}", self.config.node_id, self.cluster_id)), ("cores", self.shards())];
        rows.extend(self.dirs.online.iter().map(|dir| ("data", data(dir))));
        rows.extend(self.dirs.offline.iter().map(|dir| ("offline", format!("{}: {}", dir.path, dir.reason))));
        rows.push(("commit", self.commit()));
        let per_core = self.config.gannet.memory_per_core_bytes(self.cores.len() as u16);
        let memory = format!("{} ({} a core)", size(per_core * self.cores.len() as u64), size(per_core));
        rows.push(("memory", memory));
        for (listener, bound) in self.config.listeners.iter().zip(self.bound) {
            let mut advertised = self.advertised.iter().filter(|advertised| advertised.name == listener.name);
            for (core, at) in bound.iter().enumerate() {
                let node = match self.config.gannet.listener_per_core {
                    true => format!(", node {}", ShardId(core as u16).node_of(self.config.node_id)),
                    false => String::new(),
                };
                let told = advertised.next().map_or("not advertised".into(), |told| format!("advertised as {told}"));
                rows.push(("listener", format!("{}://{at}{node}, {told}", listener.name)));
            }
        }
        let before = match (self.after_crash, self.replayed_bytes) {
            (false, 0) => "nothing to recover".into(),
            (true, bytes) => format!("recovered after a crash, {} out of the journals", size(bytes)),
            (false, bytes) => format!("{} out of the journals", size(bytes)),
        };
        let started = format!("{} partitions, {before}, ready after {} ms", self.partitions, self.took.as_millis());
        rows.push(("started", started));
        rows
    }

    fn shards(&self) -> String {
        let cores: Vec<String> = self.cores.iter().enumerate().map(|(shard, core)| format!("{shard}→{core}")).collect();
        format!("{} shards, shard→core {}", cores.len(), cores.join(" "))
    }

    fn commit(&self) -> String {
        match self.probe {
            Some(CommitProbe { method, worst_us, idle_us }) => {
                format!("{method}: a durable 4 KiB write takes {idle_us} µs, with a busy core {worst_us} µs")
            }
            None => format!("{}, as gannet.commit.method says", self.commit_method),
        }
    }
}

fn data(dir: &LogDir) -> String {
    let mut text = dir.path.clone();
    if let Some((kind, device, _)) = mount_of(&dir.path) {
        write!(text, ", {kind} on {device}").expect("a String takes everything");
    }
    if let Ok(stat) = nix::sys::statvfs::statvfs(dir.path.as_str()) {
        let free = stat.blocks_available() * stat.fragment_size();
        write!(text, ", {} free", size(free)).expect("a String takes everything");
    }
    text
}

fn size(bytes: u64) -> String {
    match bytes {
        ..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        1_073_741_824.. => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_reads_best() {
        let told = [0, 1023, 1024, 5 << 20, 3 << 29].map(size);
        assert_eq!(told, ["0 B", "1023 B", "1 KiB", "5 MiB", "1.5 GiB"]);
    }

    #[test]
    fn the_table_names_what_an_operator_asks_first() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = BrokerConfig::default();
        let dirs = LogDirs::take(&[directory.path().to_string_lossy().into_owned()], |_| Ok(())).expect("free");
        let facts = Facts {
            config: &config,
            cluster_id: "abc",
            cores: &[0, 3],
            dirs: &dirs,
            commit_method: CommitMethod::Thread,
            probe: None,
            bound: &[vec!["127.0.0.1:9092".parse().expect("an address")]],
            advertised: &config.listeners,
            partitions: 5,
            replayed_bytes: 2048,
            after_crash: true,
            took: Duration::from_millis(12),
        };
        let lines = facts.lines();
        for part in [
            "1 of cluster abc",
            "0→0 1→3",
            &dirs.first().path,
            "thread, as",
            "PLAINTEXT://127.0.0.1:9092",
            "2 KiB out of",
        ] {
            assert!(lines.contains(part), "{part} is not in\n{lines}");
        }
    }
}
