//! A durable write of 4 KiB by each commit method, through a whole reactor with a real journal, beside the plain system
//! calls that bound it from below. The files lie under `target/`, on whatever device that is.

mod rig;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use gannet::journal::{Journal, JournalEntry, JournalLayout, Run};
use gannet::reactor::{CommitMethod, JournalFile, pin_to};
use gannet::record::{BatchBuilder, RecordBatch};
use gannet::shard::{Effect, Event};
use gannet::types::{PartitionId, ShardId, Uuid};
use rig::{Player, Rig, Settings};

const FILE_BYTES: u64 = 16 << 20;
const FILES: u16 = 3;
const PAGE_BYTES: usize = 4096;

/// Appends one batch of 1 KiB after the other, each committed before the next.
struct Committing {
    journal: Journal,
    entry: JournalEntry,
}

impl Committing {
    fn new() -> Committing {
        let layout = JournalLayout {
            shard: ShardId(0),
            files: FILES,
            file_bytes: FILE_BYTES,
            block_bytes_max: 1 << 20,
            commits_in_flight_max: 1,
        };
        let mut builder = BatchBuilder::new();
        builder.push(0, None, Some(&[b'x'; 1024]));
        let batch = RecordBatch::parse(builder.build()).expect("built here");
        let partition = PartitionId { topic: Uuid::from_random(1), index: 0 };
        Committing {
            journal: Journal::new(layout, Run { first_generation: 1, salt: 1 }),
            entry: JournalEntry { partition, batch },
        }
    }
}

impl Player for Committing {
    fn begin(&mut self, effects: &mut Vec<Effect>) {
        self.journal.append(self.entry.clone());
        let (commit, block) = self.journal.take_commit().expect("there is room");
        effects.push(Effect::Commit { commit, block });
    }

    fn on_event(&mut self, event: Event, _effects: &mut Vec<Effect>) -> bool {
        let Event::Committed { commit } = event else { panic!("only commits are asked for: {event:?}") };
        self.journal.on_committed(commit);
        if let Some(upto) = self.journal.take_checkpoint() {
            self.journal.on_checkpoint(upto);
        }
        true
    }
}

/// Full of zeros and synced, so that writing into it changes its bytes and nothing else.
fn prepared(directory: &tempfile::TempDir, name: &str, flags: i32) -> File {
    let path = directory.path().join(name);
    let file = File::create(&path).expect("a new file");
    for at in (0..FILE_BYTES).step_by(1 << 20) {
        file.write_all_at(&vec![0; 1 << 20], at).expect("space for a few MiB");
    }
    file.sync_all().expect("synced");
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT | flags).open(path).expect("direct I/O")
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory under target/")
}

fn methods(criterion: &mut Criterion) {
    for method in CommitMethod::ALL {
        let directory = directory();
        let file = |index| {
            let name = format!("journal-0-{index}");
            JournalFile { file: Arc::new(prepared(&directory, &name, 0)), path: name.into() }
        };
        let settings = Settings { journal: (0..FILES).map(file).collect(), commit_method: method, spin_us: 0 };
        let rig = Rig::start(vec![Committing::new()], settings);
        criterion.bench_function(&format!("disk/durable 4KiB/commit by {method}"), |bencher| {
            bencher.iter_custom(|rounds| rig.play(rounds));
        });
    }
}

fn floors(criterion: &mut Criterion) {
    let directory = directory();
    pin_to(Some(0));
    // Direct I/O wants the buffer at a page boundary.
    let memory = vec![7; 2 * PAGE_BYTES];
    let start = memory.as_ptr().align_offset(PAGE_BYTES);
    let page = &memory[start..start + PAGE_BYTES];
    type Write = fn(&File, &[u8], u64);
    let plain: Write = |file, page, at| file.write_all_at(page, at).expect("written");
    let synced: Write = |file, page, at| {
        file.write_all_at(page, at).expect("written");
        file.sync_data().expect("synced");
    };
    let floors = [
        ("disk/durable 4KiB/floor O_DSYNC", libc::O_DSYNC, plain),
        ("disk/durable 4KiB/floor write + fdatasync", 0, synced),
        ("disk/4KiB not durable/floor O_DIRECT", 0, plain),
    ];
    for (index, (name, flags, write)) in floors.into_iter().enumerate() {
        let file = prepared(&directory, &index.to_string(), flags);
        let mut at = 0;
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                write(&file, page, at);
                at = (at + PAGE_BYTES as u64) % FILE_BYTES;
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    targets = methods, floors
}
criterion_main!(benches);
