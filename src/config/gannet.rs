//! The keys of our own, under `gannet.`: cores, memory, the journal, and the limits Kafka has no name for.

use super::key::Valid::{Any, AtLeast, Between, OneOf};
use super::key::list;
use super::settings::{Setting, settings, words};

settings! {
    /// The settings under `gannet.`.
    pub struct GannetConfig {
        /// Cluster id of a new cluster, 22 characters of base64url; drawn at the first start if unset.
        cluster_id: Option<String> = "gannet.cluster.id" String, None, Any, Medium, [];
        /// Cores to run on, one shard each: all, a count, or a list such as 0,1,4-7.
        cores: Cores = "gannet.cores" String, Some("all"), Any, High, [];
        /// Each core is a node of its own for clients, at the listener's port plus its number counted from 0: they connect to the core that has the data.
        listener_per_core: bool = "gannet.listener.per.core" Boolean, Some("false"), Any, Medium, [];
        /// Memory for data over all cores: received requests, the tail that readers share, what is not yet written back. Unset: 512 MiB a core.
        memory_bytes: Option<u64> = "gannet.memory.bytes" Long, None, AtLeast(64 << 20), High, [];
        /// Size of each core's journal, written once at the first start and then used in a circle.
        journal_bytes: u64 = "gannet.journal.bytes" Long, Some("268435456"), Between(16 << 20, 64 << 30), Medium, [];
        /// Number of files a core's journal is made of. One is free again once everything in it is in its segments.
        journal_files: u16 = "gannet.journal.files" Int, Some("4"), Between(3, 64), Low, [];
        /// How the journal is made durable: auto measures at the start and takes the fastest.
        commit_method: CommitMethod = "gannet.commit.method" String, Some("auto"), OneOf(CommitMethod::WORDS), Medium, [];
        /// Journal commits of a core that may be under way at once.
        commits_in_flight: u16 = "gannet.commit.in.flight" Int, Some("2"), Between(1, 16), Low, [];
        /// Size of the largest journal commit, unless a single batch is larger; what does not fit goes with the next.
        commit_bytes: u64 = "gannet.commit.bytes" Long, Some("4194304"), AtLeast(1 << 16), Low, [];
        /// How long a core looks for work before it sleeps, in microseconds. Worth it on cores that serve nothing else.
        spin_us: u32 = "gannet.spin.us" Int, Some("0"), Between(0, 1_000_000), Low, [];
        /// Requests of one connection under way at once; beyond them its socket is not read.
        connection_requests_max: u32 = "gannet.connection.requests.max" Int, Some("128"), Between(1, 65_536), Medium, [];
        /// Bytes of responses that may wait for one connection to take them; beyond them its requests wait.
        connection_response_bytes: u64 = "gannet.connection.response.bytes" Long, Some("67108864"), AtLeast(1 << 20), Medium, [];
        /// A connection that takes none of its responses for this long is closed.
        connection_stall_ms: u64 = "gannet.connection.stall.ms" Long, Some("30000"), AtLeast(100), Medium, [];
        /// Bytes of a partition that gather before they are written to its segment.
        writeback_bytes: u64 = "gannet.writeback.bytes" Long, Some("1048576"), AtLeast(4096), Low, [];
        /// The longest that a partition's bytes stay in the journal alone.
        writeback_interval_ms: u64 = "gannet.writeback.interval.ms" Long, Some("30000"), AtLeast(10), Low, [];
        /// Partitions this broker takes on.
        partitions_max: u32 = "gannet.partitions.max" Int, Some("100000"), Between(1, 4_000_000), Medium, [];
        /// How long a stop may take to finish what is under way and write back; what remains is in the journal.
        stop_timeout_ms: u64 = "gannet.stop.timeout.ms" Long, Some("10000"), AtLeast(0), Low, [];
    }
}

words! {
    /// `gannet.commit.method`
    pub enum CommitMethod {
        /// The fastest of the others, measured at the start.
        Auto = "auto",
        /// A thread on the shard's core with a blocking durable write.
        Thread = "thread",
        /// A durable write on the ring (RWF_DSYNC).
        RingDsync = "ring-dsync",
        /// A write linked to an fdatasync on the ring.
        RingFsync = "ring-fsync",
    }
}

/// `gannet.cores`
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cores {
    /// Every core this process may run on.
    All,
    /// This many of them.
    Count(u16),
    /// These, by the system's numbers, in this order.
    List(Vec<u16>),
}

/// The system's own limit on the number of a core.
const CORE_MAX: u16 = 8191;

impl Setting for Cores {
    fn read(text: &str) -> Option<Cores> {
        let text = text.trim();
        if text == "all" {
            return Some(Cores::All);
        }
        if let Ok(count) = text.parse() {
            return (1..=CORE_MAX).contains(&count).then_some(Cores::Count(count));
        }
        let mut cores = Vec::new();
        for part in list(text) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            if first > last || last > CORE_MAX {
                return None;
            }
            for core in first..=last {
                if cores.contains(&core) {
                    return None;
                }
                cores.push(core);
            }
        }
        (!cores.is_empty()).then_some(Cores::List(cores))
    }

    fn text(&self) -> Option<String> {
        Some(match self {
            Cores::All => "all".to_string(),
            Cores::Count(count) => count.to_string(),
            // A trailing comma keeps a list of one from reading as a count.
            Cores::List(cores) if cores.len() == 1 => format!("{},", cores[0]),
            Cores::List(cores) => cores.iter().map(u16::to_string).collect::<Vec<_>>().join(","),
        })
    }
}

const MEMORY_PER_CORE_BYTES: u64 = 512 << 20;

impl GannetConfig {
    /// One shard's share of the memory budget.
    pub fn memory_per_core_bytes(&self, cores: u16) -> u64 {
        assert!(cores > 0);
        self.memory_bytes.map_or(MEMORY_PER_CORE_BYTES, |bytes| bytes / u64::from(cores))
    }

    /// Besides, a quarter as much: what responses may hold at sockets that do not take them.
    pub fn unsent_bytes_max(&self, cores: u16) -> u64 {
        self.memory_per_core_bytes(cores) / 4
    }

    /// Besides, an eighth as much: what is read of segments before a reader asks for it.
    pub fn read_ahead_bytes_max(&self, cores: u16) -> u64 {
        self.memory_per_core_bytes(cores) / 8
    }

    /// Size of one journal file, in whole blocks of 4 KiB.
    pub fn journal_file_bytes(&self) -> u64 {
        (self.journal_bytes / u64::from(self.journal_files)) & !4095
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_all_a_count_or_a_list() {
        assert_eq!(Cores::read("all"), Some(Cores::All));
        assert_eq!(Cores::read(" 3 "), Some(Cores::Count(3)));
        assert_eq!(Cores::read("0,2,4-6"), Some(Cores::List(vec![0, 2, 4, 5, 6])));
        for bad in ["", "0", "none", "1,1", "3-1", "0-99999", "1,x", "2-"] {
            assert_eq!(Cores::read(bad), None, "{bad}");
        }
        for cores in [Cores::All, Cores::Count(2), Cores::List(vec![7]), Cores::List(vec![1, 0])] {
            assert_eq!(Cores::read(&cores.text().unwrap()), Some(cores));
        }
    }

    #[test]
    fn a_journal_is_made_of_whole_blocks() {
        let config = GannetConfig { journal_bytes: 100 << 20, journal_files: 3, ..Default::default() };
        assert_eq!(config.journal_file_bytes() % 4096, 0);
        assert!(config.journal_file_bytes() * 3 <= 100 << 20);
        assert_eq!(GannetConfig::default().journal_file_bytes(), 64 << 20);
    }
}
