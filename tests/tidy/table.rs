//! The house as data: its rooms and walls, what may not be said above the line, and what may stand where.

pub struct Room {
    pub name: &'static str,
    /// Rooms it may import besides itself and the words.
    pub imports: &'static [&'static str],
    /// Above the line: a plain value that neither waits nor touches the machine.
    pub deciding: bool,
}

/// What everyone may say; words import each other only.
pub const WORDS: &[&str] = &["types", "error_code", "config", "metrics"];

const fn deciding(name: &'static str, imports: &'static [&'static str]) -> Room {
    Room { name, imports, deciding: true }
}

const fn acting(name: &'static str, imports: &'static [&'static str]) -> Room {
    Room { name, imports, deciding: false }
}

const ABOVE_THE_LINE: &[&str] =
    &["protocol", "record", "journal", "log", "metadata", "client", "quorum", "partition", "coordinator"];

pub const ROOMS: &[Room] = &[
    deciding("types", &[]),
    deciding("error_code", &[]),
    deciding("config", &[]),
    deciding("metrics", &[]),
    deciding("protocol", &[]),
    deciding("record", &[]),
    deciding("journal", &["record"]),
    deciding("log", &["record"]),
    deciding("metadata", &["protocol", "record"]),
    deciding("client", &["protocol", "record"]),
    deciding("quorum", &["protocol"]),
    deciding("partition", &["log", "record"]),
    deciding("coordinator", &["metadata", "protocol", "record"]),
    deciding("shard", ABOVE_THE_LINE),
    acting("reactor", &["shard", "protocol"]),
    acting("broker", &["coordinator", "journal", "log", "metadata", "reactor", "shard"]),
    acting("http", &["reactor", "shard"]),
    acting("load", &["client", "protocol", "record"]),
    acting(
        "cli",
        &["broker", "client", "http", "journal", "load", "log", "metadata", "protocol", "reactor", "record", "shard"],
    ),
];

/// Names and paths that a deciding room never says.
pub const DECIDING_WORDS: &[&str] = &[
    "glommio",
    "tokio",
    "async",
    "await",
    "Instant",
    "SystemTime",
    "Mutex",
    "RwLock",
    "Condvar",
    "HashMap",
    "HashSet",
    "RandomState",
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
];

pub const TOP_LEVEL: &[&str] =
    &["Cargo.toml", "Cargo.lock", "src", "benches", "tuning", "tests", "README.md", "LICENSE", "rust-toolchain.toml"];

pub const FILE_LINES_MAX: usize = 600;
pub const FUNCTION_LINES_MAX: usize = 80;

/// Something longer than it should be, and how long it is now.
pub struct Ratchet {
    pub name: &'static str,
    pub lines: usize,
}

/// Golden frames are data: long, and read one at a time.
pub const LONG_FILES: &[Ratchet] = &[Ratchet { name: "tests/wire/golden/data.rs", lines: 700 }];

pub const LONG_FUNCTIONS: &[Ratchet] = &[
    Ratchet { name: "tests/wire/golden/data.rs: fn fetch_requests", lines: 116 },
    Ratchet { name: "tests/wire/golden/data.rs: fn metadata_responses", lines: 81 },
];
