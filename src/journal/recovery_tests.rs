//! Recovery against a disk of plain vectors: what a crash leaves is what these tests write there.

use proptest::prelude::*;

use super::*;
use crate::journal::block::tests::entry;
use crate::journal::{Journal, JournalBlock, JournalLayout};
use crate::types::Map;

const FILE_BYTES: usize = 32 * 1024;
const SECTOR_BYTES: usize = 512;

/// The journal directory of one shard and what was promised of it.
struct Disk {
    files: Vec<Vec<u8>>,
    start_table: Option<Checkpoint>,
    table: Option<Checkpoint>,
}

impl Disk {
    fn new(files: u16) -> Disk {
        Disk { files: vec![vec![0; FILE_BYTES]; files.into()], start_table: None, table: None }
    }

    /// Starts the next run as the broker does: with a table that says that all before is in the segments.
    fn start(&mut self, in_flight: u16) -> Journal {
        let first_generation = self.recover().expect("undamaged").next_generation;
        let run = Run { first_generation, salt: first_generation * 1000 };
        let layout = JournalLayout {
            shard: ShardId(0),
            files: self.files.len() as u16,
            file_bytes: FILE_BYTES as u64,
            block_bytes_max: 16384,
            commits_in_flight_max: in_flight,
        };
        let journal = Journal::new(layout, run);
        self.start_table = Some(table(0, run, first_generation, CommitId(0)));
        journal
    }

    fn checkpoint(&mut self, journal: &Journal, next_commit: CommitId) {
        self.table = Some(table(0, journal.run(), journal.next_generation(), next_commit));
    }

    fn write(&mut self, block: &JournalBlock) {
        let mut bytes = vec![0; block.length()];
        block.encode_into(&mut bytes);
        let position = block.position as usize;
        self.files[block.file as usize][position..position + bytes.len()].copy_from_slice(&bytes);
    }

    /// Writes only those sectors of the block that `lands` names.
    fn write_torn(&mut self, block: &JournalBlock, mut lands: impl FnMut(usize) -> bool) {
        let mut bytes = vec![0; block.length()];
        block.encode_into(&mut bytes);
        for (sector, chunk) in bytes.chunks(SECTOR_BYTES).enumerate().filter(|(sector, _)| lands(*sector)) {
            let position = block.position as usize + sector * SECTOR_BYTES;
            self.files[block.file as usize][position..position + SECTOR_BYTES].copy_from_slice(chunk);
        }
    }

    fn recover(&self) -> Result<Recovered, JournalError> {
        let named = self.files.iter().enumerate().map(|(index, bytes)| {
            let name = JournalFileName { shard: ShardId(0), index: index as u16 };
            (name, Bytes::copy_from_slice(bytes))
        });
        let tables: Vec<Checkpoint> = self.table.iter().chain(&self.start_table).cloned().collect();
        recover(&named.collect::<Vec<_>>(), &tables)
    }

    /// Base offsets of what recovery gives back.
    fn offsets(&self) -> Vec<i64> {
        self.recover().expect("undamaged").entries.iter().map(base_offset).collect()
    }
}

fn table(shard: u16, run: Run, generation: u64, next_commit: CommitId) -> Checkpoint {
    Checkpoint { shard: ShardId(shard), shards: 3, run, generation, next_commit, partitions: Vec::new() }
}

fn base_offset(entry: &JournalEntry) -> i64 {
    entry.batch.header().base_offset
}

/// Appends one batch with this base offset and takes its commit.
fn take(journal: &mut Journal, offset: i64, payload_bytes: usize) -> JournalBlock {
    journal.append(entry(0, offset, payload_bytes));
    journal.take_commit().expect("room").1
}

/// Takes, writes and acknowledges one commit; goes through a checkpoint when the journal is full.
fn commit(disk: &mut Disk, journal: &mut Journal, offset: i64, payload_bytes: usize) {
    journal.append(entry(0, offset, payload_bytes));
    if journal.is_full() {
        let upto = journal.take_checkpoint().expect("sealed files");
        disk.checkpoint(journal, upto.next());
        journal.on_checkpoint(upto);
    }
    let (commit, block) = journal.take_commit().expect("room");
    disk.write(&block);
    journal.on_committed(commit);
}

#[test]
fn files_that_were_never_written_hold_nothing() {
    let recovered = Disk::new(2).recover().expect("zeros are no damage");
    assert_eq!((recovered.entries.len(), recovered.next_generation), (0, 1));
    assert_eq!(recover(&[], &[]).expect("no files").next_generation, 1);
}

#[test]
fn a_commit_torn_at_any_sector_is_left_out_and_those_before_it_are_kept() {
    for sectors in 0..17 {
        let mut disk = Disk::new(2);
        let mut journal = disk.start(1);
        commit(&mut disk, &mut journal, 0, 100);
        let last = take(&mut journal, 1, 8000);
        assert_eq!(last.length() / SECTOR_BYTES, 16);
        disk.write_torn(&last, |sector| sector < sectors);
        let whole = sectors >= 16;
        assert_eq!(disk.offsets(), if whole { vec![0, 1] } else { vec![0] }, "{sectors} sectors");
    }
}

#[test]
fn a_whole_commit_behind_a_torn_one_in_flight_is_left_out_too() {
    let mut disk = Disk::new(2);
    let mut journal = disk.start(2);
    commit(&mut disk, &mut journal, 0, 100);
    let torn = take(&mut journal, 1, 100);
    let whole = take(&mut journal, 2, 100);
    disk.write_torn(&torn, |_| false);
    disk.write(&whole);
    assert_eq!(disk.offsets(), [0]);
}

#[test]
fn damage_to_an_acknowledged_commit_is_reported_with_its_place() {
    let mut disk = Disk::new(2);
    let mut journal = disk.start(2);
    for offset in 0..4 {
        commit(&mut disk, &mut journal, offset, 100);
    }
    disk.files[0][4096 + 150] ^= 1;
    let file = JournalFileName { shard: ShardId(0), index: 0 };
    let damaged = JournalError::Damaged { file, position: 4096, commit: CommitId(1), newest: CommitId(3) };
    assert_eq!(disk.recover().err(), Some(damaged));
}

#[test]
fn damage_to_the_first_block_of_a_file_is_reported_too() {
    for damaged_file in 0..2u16 {
        let mut disk = Disk::new(3);
        let mut journal = disk.start(2);
        for offset in 0..12 {
            commit(&mut disk, &mut journal, offset, 100);
        }
        disk.files[damaged_file as usize][20] ^= 1;
        let file = JournalFileName { shard: ShardId(0), index: damaged_file };
        let commit = CommitId(u64::from(damaged_file) * 8);
        assert_eq!(
            disk.recover().err(),
            Some(JournalError::Damaged { file, position: 0, commit, newest: CommitId(11) })
        );
    }
}

#[test]
fn a_file_that_is_missing_from_the_row_is_reported() {
    let mut disk = Disk::new(4);
    let mut journal = disk.start(2);
    for offset in 0..20 {
        commit(&mut disk, &mut journal, offset, 100);
    }
    disk.files[1].fill(0);
    assert!(matches!(disk.recover(), Err(JournalError::Damaged { commit: CommitId(8), .. })));
}

#[test]
fn stale_blocks_of_a_recycled_file_never_pass() {
    let mut disk = Disk::new(2);
    let mut journal = disk.start(2);
    // Three rounds over both files, then one commit into a file full of well-formed older ones.
    for offset in 0..49 {
        commit(&mut disk, &mut journal, offset, 100);
    }
    assert_eq!(disk.offsets(), (40..49).collect::<Vec<_>>());
    let torn = take(&mut journal, 49, 100);
    disk.write_torn(&torn, |sector| sector > 0);
    assert_eq!(disk.offsets(), (40..49).collect::<Vec<_>>());
}

#[test]
fn blocks_of_an_earlier_run_never_pass() {
    let mut disk = Disk::new(2);
    let mut journal = disk.start(2);
    for offset in 0..6 {
        commit(&mut disk, &mut journal, offset, 100);
    }
    let mut journal = disk.start(2);
    assert_eq!(
        disk.offsets(),
        [0i64; 0],
        "every shard of the new run has its table: the earlier data are in the segments"
    );
    commit(&mut disk, &mut journal, 6, 100);
    assert_eq!(disk.offsets(), [6]);
}

#[test]
fn the_first_commit_of_a_run_torn_over_a_needed_looking_file_is_no_damage() {
    let mut disk = Disk::new(2);
    let mut journal = disk.start(1);
    for offset in 0..12 {
        commit(&mut disk, &mut journal, offset, 100);
    }
    let mut journal = disk.start(1);
    let torn = take(&mut journal, 12, 100);
    disk.write_torn(&torn, |_| false);
    disk.files[0][..SECTOR_BYTES].fill(0xee);
    assert_eq!(disk.offsets(), [0i64; 0]);
}

#[test]
fn until_its_tables_stand_a_new_run_changes_nothing() {
    let mut disk = Disk::new(2);
    let mut journal = disk.start(1);
    for offset in 0..30 {
        commit(&mut disk, &mut journal, offset, 100);
    }
    let needed = disk.offsets();
    assert_eq!(needed.last(), Some(&29));
    let former = disk.start_table.clone();
    disk.start(1);
    assert_eq!(disk.offsets(), [0i64; 0]);
    disk.start_table = former;
    assert_eq!(disk.offsets(), needed);
}

#[test]
fn a_first_block_that_never_landed_over_a_file_of_stale_ones_is_no_damage() {
    // Commit 3 went to file 0, over commit 0, and did not land; commit 4 went to file 1, over 1 and 2, and did.
    let mut disk = Disk::new(2);
    let mut journal = disk.start(2);
    commit(&mut disk, &mut journal, 0, 20_000);
    commit(&mut disk, &mut journal, 1, 12_200);
    commit(&mut disk, &mut journal, 2, 12_200);
    journal.append(entry(0, 3, 12_200));
    journal.append(entry(0, 4, 20_000));
    for upto in [CommitId(0), CommitId(2)] {
        assert_eq!(journal.take_checkpoint(), Some(upto));
        disk.checkpoint(&journal, upto.next());
        journal.on_checkpoint(upto);
        let (_, block) = journal.take_commit().expect("a file is free");
        assert_eq!(block.position, 0);
        if upto == CommitId(2) {
            disk.write(&block);
        }
    }
    assert_eq!(disk.offsets(), [0i64; 0]);
}

#[test]
fn commits_below_the_table_are_not_replayed() {
    let mut disk = Disk::new(2);
    let mut journal = disk.start(1);
    for offset in 0..5 {
        commit(&mut disk, &mut journal, offset, 100);
    }
    disk.checkpoint(&journal, CommitId(3));
    assert_eq!(disk.offsets(), [3, 4]);
    disk.checkpoint(&journal, CommitId(5));
    assert_eq!(disk.offsets(), [0i64; 0], "a clean stop leaves nothing to replay");
}

#[test]
fn damage_below_the_table_does_not_matter() {
    let mut disk = Disk::new(2);
    let mut journal = disk.start(1);
    for offset in 0..5 {
        commit(&mut disk, &mut journal, offset, 100);
    }
    disk.checkpoint(&journal, CommitId(3));
    disk.files[0][4096 + 20] ^= 1;
    assert_eq!(disk.offsets(), [3, 4]);
}

#[test]
fn a_whole_block_in_the_place_of_another_is_damage() {
    let mut disk = Disk::new(2);
    let mut journal = disk.start(1);
    for offset in 0..4 {
        commit(&mut disk, &mut journal, offset, 100);
    }
    disk.files[0].copy_within(8192..12288, 4096);
    assert!(matches!(disk.recover(), Err(JournalError::Damaged { commit: CommitId(1), .. })));
}

#[test]
fn a_record_that_imitates_a_block_is_not_believed() {
    let mut disk = Disk::new(2);
    let mut journal = disk.start(1);
    commit(&mut disk, &mut journal, 0, 100);
    // What a client could do at best: a block right in form, at the right place, with the numbers guessed.
    let mut forged = Disk::new(2);
    let mut forger = forged.start(1);
    let run = Run { salt: forger.run().salt + 1, ..forger.run() };
    let layout = JournalLayout {
        shard: ShardId(0),
        files: 2,
        file_bytes: FILE_BYTES as u64,
        block_bytes_max: 16384,
        commits_in_flight_max: 1,
    };
    forger = Journal::new(layout, run);
    for offset in 0..3 {
        commit(&mut forged, &mut forger, offset, 100);
    }
    disk.files[0][4096..12288].copy_from_slice(&forged.files[0][4096..12288]);
    assert_eq!(disk.offsets(), [0]);
}

#[test]
fn all_shards_are_recovered_and_each_keeps_its_order() {
    let mut files = Vec::new();
    let mut checkpoints = Vec::new();
    let run = Run { first_generation: 1, salt: 3 };
    for shard in 0..3 {
        let layout = JournalLayout {
            shard: ShardId(shard),
            files: 2,
            file_bytes: FILE_BYTES as u64,
            block_bytes_max: 16384,
            commits_in_flight_max: 1,
        };
        let mut journal = Journal::new(layout, run);
        let mut disk = Disk::new(2);
        for offset in 0..10 {
            commit(&mut disk, &mut journal, i64::from(shard) * 100 + offset, 100);
        }
        for (index, bytes) in disk.files.into_iter().enumerate() {
            files.push((JournalFileName { shard: ShardId(shard), index: index as u16 }, Bytes::from(bytes)));
        }
        checkpoints.push(table(shard, run, 1, CommitId(0)));
        checkpoints.extend(disk.table.map(|table| Checkpoint { shard: ShardId(shard), ..table }));
    }
    let recovered = recover(&files, &checkpoints).expect("undamaged");
    let offsets: Vec<i64> = recovered.entries.iter().map(base_offset).collect();
    assert_eq!(offsets, (0..3).flat_map(|shard| shard * 100..shard * 100 + 10).collect::<Vec<_>>());
}

#[test]
fn a_file_of_another_format_version_is_refused_and_says_so() {
    let mut disk = Disk::new(2);
    let mut journal = disk.start(1);
    commit(&mut disk, &mut journal, 0, 100);
    disk.files[0][8] = 2;
    let error = disk.recover().expect_err("another version");
    assert!(error.to_string().contains("journal-0-0 was written in journal format 2"), "{error}");
}

#[derive(Clone, Debug)]
enum Step {
    Append { partition: i32, payload_bytes: usize },
    Commit,
    Land,
    Checkpoint,
    Crash { seed: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3i32, prop_oneof![Just(0usize), 1..3000usize, 6000..30000usize])
            .prop_map(|(partition, payload_bytes)| Step::Append { partition, payload_bytes }),
        5 => Just(Step::Commit),
        5 => Just(Step::Land),
        2 => Just(Step::Checkpoint),
        1 => any::<u64>().prop_map(|seed| Step::Crash { seed }),
    ];
    proptest::collection::vec(step, 1..200)
}

/// What the model knows of the present run: every commit's entries, and how far they are promised or in the segments.
#[derive(Default)]
struct Model {
    commits: Vec<Vec<JournalEntry>>,
    acknowledged: usize,
    in_segments: usize,
}

impl Model {
    /// Recovery must give back the commits from the last table on, all acknowledged ones, and nothing out of its row.
    fn check(&self, recovered: &[JournalEntry]) {
        let mut rest = recovered;
        for (commit, entries) in self.commits.iter().enumerate().skip(self.in_segments) {
            match rest.strip_prefix(&entries[..]) {
                Some(after) => rest = after,
                None => {
                    assert!(commit >= self.acknowledged, "commit {commit} was acknowledged and is gone");
                    break;
                }
            }
        }
        assert!(rest.is_empty(), "more came back than was appended");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_crash_acknowledged_batches_come_back_in_order_and_no_others(
        steps in steps(), in_flight in 1..4u16, files in 2..5u16,
    ) {
        let mut disk = Disk::new(files);
        let mut journal = disk.start(in_flight);
        let mut model = Model::default();
        let mut flying: Vec<(CommitId, JournalBlock)> = Vec::new();
        let mut offsets: Map<i32, i64> = Map::default();
        for step in steps.into_iter().chain([Step::Crash { seed: 7 }]) {
            match step {
                Step::Append { partition, payload_bytes } => {
                    let offset = offsets.entry(partition).or_default();
                    journal.append(entry(partition, *offset, payload_bytes));
                    *offset += 1;
                }
                Step::Commit => {
                    if let Some((commit, block)) = journal.take_commit() {
                        model.commits.push(block.entries().to_vec());
                        flying.push((commit, block));
                    }
                }
                Step::Land if !flying.is_empty() => {
                    let (commit, block) = flying.remove(0);
                    disk.write(&block);
                    journal.on_committed(commit);
                    model.acknowledged = commit.0 as usize + 1;
                }
                Step::Land => {}
                Step::Checkpoint => {
                    if let Some(upto) = journal.take_checkpoint() {
                        disk.checkpoint(&journal, upto.next());
                        model.in_segments = upto.0 as usize + 1;
                        journal.on_checkpoint(upto);
                    }
                }
                Step::Crash { mut seed } => {
                    for (_, block) in flying.drain(..) {
                        let torn = seed % 3 == 0;
                        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407).rotate_left(17);
                        let mut bits = seed;
                        match seed % 3 {
                            0 => disk.write(&block),
                            1 if !torn => {}
                            _ => disk.write_torn(&block, |_| {
                                bits = bits.rotate_left(1);
                                bits & 1 == 1
                            }),
                        }
                    }
                    let recovered = disk.recover().expect("a crash is no damage");
                    model.check(&recovered.entries);
                    journal = disk.start(in_flight);
                    model = Model::default();
                }
            }
        }
    }
}
