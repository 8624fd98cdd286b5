//! Gives the space of deleted files back little by little. A file system that tells its device of freed blocks (mount option
//! `discard`) does so within the deletion, and the device answers nothing else meanwhile: 64 MiB at once held up every commit
//! for 17 to 110 ms. Names go at once; only the space comes later. A thread of its own, started by the first deletion; after
//! a crash the file system frees what is left.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Freed in one step. Smaller ones hold the device up for longer in all: a discard of 256 KiB took 3 ms, one of 4 MiB 9 ms.
const STEP_BYTES: u64 = 4 << 20;
/// Of a step's own time, so much is left to others before the next.
const PAUSE: u32 = 9;
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Files without a name that are held open; whoever deletes more waits.
const FILES_MAX: usize = 256;
/// While so many wait nothing pauses: deletion keeps up with what is written.
const FILES_PACED_MAX: usize = FILES_MAX / 2;

/// Where deleted files go.
#[derive(Clone)]
pub struct Removal {
    files: SyncSender<File>,
    /// Files given and not yet freed.
    waiting: Arc<AtomicUsize>,
}

impl Removal {
    pub fn start() -> io::Result<Removal> {
        let (sender, files) = sync_channel(FILES_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let theirs = waiting.clone();
        std::thread::Builder::new().name("gannet-remove".into()).spawn(move || work(&files, &theirs))?;
        Ok(Removal { files: sender, waiting })
    }

    /// The name is gone when this returns. A file that is not there is fine.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        // Refused, the space is freed with the name.
        let file = File::options().write(true).open(path);
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => {
                if let (Ok(()), Ok(file)) = (&outcome, file) {
                    self.waiting.fetch_add(1, Ordering::Relaxed);
                    let _ = self.files.send(file);
                }
                outcome
            }
        }
    }

    /// A directory of files, and what is in it.
    pub fn remove_directory(&self, path: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            } else {
                self.remove(&entry.path())?;
            }
        }
        std::fs::remove_dir(path)
    }
}

fn work(files: &Receiver<File>, waiting: &AtomicUsize) {
    while let Ok(file) = files.recv() {
        // Under another name, given by somebody else, it stays whole.
        let mut length = file.metadata().map_or(0, |metadata| if metadata.nlink() == 0 { metadata.len() } else { 0 });
        while length > STEP_BYTES {
            length -= STEP_BYTES;
            // Refused, closing it frees everything.
            if !step(waiting, || file.set_len(length).is_ok()) {
                break;
            }
        }
        step(waiting, || drop(file));
        waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn step<T>(waiting: &AtomicUsize, free: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let outcome = free();
    if waiting.load(Ordering::Relaxed) < FILES_PACED_MAX {
        sleep((began.elapsed() * PAUSE).clamp(PAUSE_MIN, PAUSE_MAX));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_file_shrinks_but_not_one_that_has_another_name() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let [kept, backup, shrunk] = ["0.log", "backup", "1.log"].map(|name| directory.path().join(name));
        let bytes = vec![1; 5 * STEP_BYTES as usize / 2];
        for path in [&kept, &shrunk] {
            std::fs::write(path, &bytes).expect("written");
        }
        std::fs::hard_link(&kept, &backup).expect("linked");
        let open = File::open(&shrunk).expect("there");
        let removal = Removal::start().expect("a thread");
        for path in [&kept, &shrunk] {
            removal.remove(path).expect("removed");
            assert!(!path.exists());
            removal.remove(path).expect("not being there is fine");
        }
        // The last piece goes with the last one who has it open.
        while open.metadata().expect("open").len() > STEP_BYTES {
            std::thread::yield_now();
        }
        assert!(std::fs::read(&backup).expect("its other name") == bytes);
    }

    #[test]
    fn a_directory_goes_with_all_that_is_in_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("orders-0.1-delete");
        std::fs::create_dir_all(path.join("left by somebody")).expect("made");
        for name in ["0.log", "0.index", "left by somebody/x"] {
            std::fs::write(path.join(name), name).expect("written");
        }
        let removal = Removal::start().expect("a thread");
        removal.remove_directory(&path).expect("removed");
        assert!(!path.exists());
        assert!(removal.remove_directory(&path).is_err());
    }
}
