//! Slow work on files, on a glommio executor of its own thread on the reactor's core: write-back, creation, deletion, syncs.
//! The reactor never waits for it; outcomes come back through a ring and the doorbell. Nothing in it may panic.
//! Only here glommio is known.

mod removal;
mod work;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock, mpsc};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use glommio::{LocalExecutorBuilder, Placement, PoolPlacement};
use rtrb::{Consumer, Producer, RingBuffer};

use super::doorbell::Doorbell;
use super::mesh::Outbox;
use crate::shard::{FileChange, FileError, FileName, OperationId};
use crate::types::{Deadline, Time};
use work::Files;

/// Operations between the reactor and the executor at one time; more wait at the reactor.
const OPERATIONS_MAX: usize = 4096;
/// Buffers registered with the kernel, per executor.
const REGISTERED_BYTES: usize = 2 << 20;
/// Practically never. glommio takes a full task queue for an empty one, and sleeps, where this timer fires between its being
/// armed and the first look at the tasks: on a busy core 2 ms did so within minutes. There is one queue, and its tasks wait
/// for the disk after a few steps, so nothing needs the timer.
const PREEMPT_TIMER: Duration = Duration::from_secs(3600);
/// The same happens where a wake-up comes late. An executor that reports nothing for this long is woken again.
const WAKE_AGAIN_MS: u64 = 50;
const BLOCKING_THREADS: usize = 4;
/// Whoever waits for a commit does not wait behind a write-back's time slice: on one core this halves the p99 under load.
const NICENESS: i32 = 10;

type Outcome = (OperationId, Result<(), FileError>);

enum Work {
    Write { file: FileName, position: u64, bytes: Vec<Bytes> },
    Change(FileChange),
}

/// The reactor's end.
pub struct Background {
    orders: Producer<(OperationId, Work)>,
    waiting: VecDeque<(OperationId, Work)>,
    outcomes: Consumer<Outcome>,
    bell: Arc<Bell>,
    /// Given to the executor and not reported back.
    outstanding: usize,
    touched: bool,
    /// Something was reported since the last `flush`.
    progressed: bool,
    wake_again_at: Deadline,
}

/// Wakes the executor when it has nothing to do.
struct Bell {
    asleep: AtomicBool,
    /// Never dropped: glommio's wakers, dropped on another thread after their executor is gone, call themselves for ever.
    waker: OnceLock<ManuallyDrop<Waker>>,
}

impl Background {
    /// Starts the executor's thread. glommio refuses with a panic where io_uring is refused: probe before.
    pub fn start(core: Option<usize>, open_files_max: usize, doorbell: Doorbell) -> io::Result<Background> {
        let (orders, inbox) = RingBuffer::new(OPERATIONS_MAX);
        let (results, outcomes) = Outbox::new(OPERATIONS_MAX, doorbell);
        let bell = Arc::new(Bell { asleep: AtomicBool::new(false), waker: OnceLock::new() });
        let theirs = bell.clone();
        let (started, start) = mpsc::channel();
        let placement = core.map_or(Placement::Unbound, Placement::Fixed);
        std::thread::Builder::new().name("gannet-files".into()).spawn(move || {
            yield_to_others();
            let executor = LocalExecutorBuilder::new(placement)
                .io_memory(REGISTERED_BYTES)
                .preempt_timer(PREEMPT_TIMER)
                .blocking_thread_pool_placement(PoolPlacement::Unbound(BLOCKING_THREADS))
                .make();
            let executor = match executor {
                Ok(executor) => executor,
                Err(error) => return drop(started.send(Err(io::Error::other(error.to_string())))),
            };
            let _ = started.send(Ok(()));
            executor.run(async move {
                // A spawned task keeps one waker for life; the root future does not.
                glommio::spawn_local(serve(inbox, theirs, Files::new(results, open_files_max))).await;
            });
        })?;
        start.recv().map_err(|_| io::Error::other("the background executor did not start"))??;
        Ok(Background {
            orders,
            waiting: VecDeque::new(),
            outcomes,
            bell,
            outstanding: 0,
            touched: false,
            progressed: false,
            wake_again_at: 0,
        })
    }

    pub fn write(&mut self, operation: OperationId, file: FileName, position: u64, bytes: Vec<Bytes>) {
        self.waiting.push_back((operation, Work::Write { file, position, bytes }));
    }

    pub fn change(&mut self, operation: OperationId, change: FileChange) {
        self.waiting.push_back((operation, Work::Change(change)));
    }

    /// When `flush` has something to do although nothing happened.
    pub fn next_deadline(&self) -> Option<Deadline> {
        (self.outstanding > 0).then_some(self.wake_again_at)
    }

    /// Hands over what may be handed over and wakes the executor once.
    pub fn flush(&mut self, now: Time) {
        while self.outstanding < OPERATIONS_MAX
            && let Some(order) = self.waiting.pop_front()
        {
            self.outstanding += 1;
            self.touched = true;
            assert!(self.orders.push(order).is_ok(), "the ring holds all that may be outstanding");
        }
        let is_late = self.outstanding > 0 && !self.progressed && now.monotonic_us >= self.wake_again_at;
        if self.touched || self.progressed || is_late {
            self.wake_again_at = now.after_ms(WAKE_AGAIN_MS);
        }
        self.progressed = false;
        if !std::mem::take(&mut self.touched) && !is_late {
            return;
        }
        fence(Ordering::SeqCst);
        if (self.bell.asleep.swap(false, Ordering::Relaxed) || is_late)
            && let Some(waker) = self.bell.waker.get()
        {
            waker.wake_by_ref();
        }
    }

    pub fn take_outcome(&mut self) -> Option<Outcome> {
        let outcome = self.outcomes.pop().ok()?;
        self.outstanding -= 1;
        self.progressed = true;
        Some(outcome)
    }

    pub fn has_outcomes(&self) -> bool {
        !self.outcomes.is_empty()
    }

    pub fn is_quiet(&self) -> bool {
        self.outstanding == 0 && self.waiting.is_empty()
    }
}

/// The threads that this one starts, and those that the kernel starts for its ring, take after it. Refused, it is as before.
fn yield_to_others() {
    // SAFETY: plain numbers go in; on Linux it concerns the calling thread alone.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
}

async fn serve(mut inbox: Consumer<(OperationId, Work)>, bell: Arc<Bell>, files: Rc<Files>) {
    while let Some((operation, work)) = next(&mut inbox, &bell).await {
        files.accept(operation, work);
    }
}

/// The next order; none once the reactor is gone.
async fn next<T>(inbox: &mut Consumer<T>, bell: &Bell) -> Option<T> {
    poll_fn(|context| {
        if let Ok(item) = inbox.pop() {
            return Poll::Ready(Some(item));
        }
        if inbox.is_abandoned() {
            return Poll::Ready(None);
        }
        bell.waker.get_or_init(|| ManuallyDrop::new(context.waker().clone()));
        bell.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        match inbox.pop() {
            Ok(item) => {
                bell.asleep.store(false, Ordering::Relaxed);
                Poll::Ready(Some(item))
            }
            Err(_) => Poll::Pending,
        }
    })
    .await
}

impl Drop for Background {
    fn drop(&mut self) {
        // The executor notices at its next look that nobody is left, and its thread ends.
        let (orders, _) = RingBuffer::new(1);
        drop(std::mem::replace(&mut self.orders, orders));
        if let Some(waker) = self.bell.waker.get() {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::clock::Clock;
    use crate::shard::FileKind;
    use crate::types::Uuid;

    struct Bench {
        directory: tempfile::TempDir,
        background: Background,
        clock: Clock,
        next: u64,
    }

    impl Bench {
        fn new(open_files_max: usize) -> Bench {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let background = Background::start(None, open_files_max, Doorbell::new().expect("an eventfd"));
            Bench {
                directory,
                background: background.expect("io_uring is allowed here"),
                clock: Clock::start(),
                next: 0,
            }
        }

        fn partition(&self, name: &str) -> Arc<str> {
            format!("{}/{name}", self.directory.path().display()).into()
        }

        fn segment(&self, name: &str) -> FileName {
            FileName { directory: self.partition(name), base_offset: 0, kind: FileKind::Log }
        }

        fn id(&mut self) -> OperationId {
            self.next += 1;
            OperationId(self.next)
        }

        fn change(&mut self, change: FileChange) -> OperationId {
            let id = self.id();
            self.background.change(id, change);
            id
        }

        fn create(&mut self, name: &str) -> OperationId {
            let directory = self.partition(name);
            self.change(FileChange::CreateDirectory { directory, topic: Uuid::from_random(7) })
        }

        fn write(&mut self, name: &str, position: u64, bytes: Vec<Bytes>) -> OperationId {
            let (id, file) = (self.id(), self.segment(name));
            self.background.write(id, file, position, bytes);
            id
        }

        fn finish(&mut self) -> Vec<Outcome> {
            let mut outcomes = Vec::new();
            while !self.background.is_quiet() {
                self.background.flush(self.clock.now());
                assert!(!self.background.outcomes.is_abandoned(), "the executor died");
                outcomes.extend(std::iter::from_fn(|| self.background.take_outcome()));
                std::thread::yield_now();
            }
            outcomes
        }
    }

    fn pattern(length: usize, seed: usize) -> Bytes {
        (0..length).map(|i| ((i + seed) % 251) as u8).collect::<Vec<_>>().into()
    }

    #[test]
    fn writes_of_any_length_make_one_file_without_a_gap() {
        for open_files_max in [1, 8] {
            let mut bench = Bench::new(open_files_max);
            let mut expected = Vec::new();
            bench.create("a-0");
            let room = 2 << 20;
            bench.change(FileChange::Preallocate { file: bench.segment("a-0"), length: room });
            assert!(bench.finish().iter().all(|(_, outcome)| outcome.is_ok()));
            assert_eq!(std::fs::metadata(bench.segment("a-0").to_string()).expect("the file").len(), room);
            bench.create("b-0");
            for (seed, length) in [1, 4095, 4096, 5000, 100, 700_000, 3].into_iter().enumerate() {
                let bytes = pattern(length, seed);
                let parts = vec![bytes.slice(..length / 3), bytes.slice(length / 3..)];
                bench.write("a-0", expected.len() as u64, parts);
                // With one open file the page of the last end has to be read again.
                bench.write("b-0", 0, vec![Bytes::from_static(b"elsewhere")]);
                expected.extend_from_slice(&bytes);
                let outcomes = bench.finish();
                assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{outcomes:?}");
            }
            let file = bench.segment("a-0");
            bench.change(FileChange::Truncate { file: file.clone(), length: expected.len() as u64 });
            bench.change(FileChange::Sync { files: vec![file.clone()] });
            assert!(bench.finish().iter().all(|(_, outcome)| outcome.is_ok()));
            assert!(std::fs::read(file.to_string()).expect("the file") == expected);
            let metadata = std::fs::read_to_string(format!("{}/partition.metadata", file.directory)).expect("written");
            assert_eq!(metadata, format!("version: 0\ntopic_id: {}\n", Uuid::from_random(7)));
        }
    }

    #[test]
    fn changes_of_one_directory_keep_their_order_and_a_sync_comes_after_all_before_it() {
        let mut bench = Bench::new(4);
        let mut order = Vec::new();
        for name in ["a-0", "b-0"] {
            order.push(bench.create(name));
            order.push(bench.write(name, 0, vec![pattern(10_000, 1)]));
        }
        let files = vec![bench.segment("a-0"), bench.segment("b-0")];
        let sync = bench.change(FileChange::Sync { files });
        let directory = bench.partition("a-0");
        let delete = bench.change(FileChange::DeleteDirectory { directory: directory.clone() });
        let again = bench.create("a-0");
        let outcomes = bench.finish();
        assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{outcomes:?}");
        let place = |id| outcomes.iter().position(|(other, _)| *other == id).expect("reported once");
        assert!(order.iter().all(|id| place(*id) < place(sync)));
        assert!(place(order[1]) < place(delete) && place(delete) < place(again));
        let left: Vec<_> = std::fs::read_dir(&*directory).expect("created again").collect();
        assert_eq!(left.len(), 1, "only partition.metadata");
        assert_eq!(
            std::fs::read_dir(bench.directory.path()).expect("the parent").count(),
            2,
            "nothing set aside is left"
        );
    }

    #[test]
    fn deleting_what_is_not_there_is_fine_and_writing_where_no_directory_is_tells_so() {
        let mut bench = Bench::new(4);
        let file = bench.segment("a-0");
        bench.change(FileChange::Delete { file: file.clone() });
        let directory = file.directory.clone();
        bench.change(FileChange::DeleteDirectory { directory });
        bench.change(FileChange::Sync { files: vec![file] });
        assert!(bench.finish().iter().all(|(_, outcome)| outcome.is_ok()));
        bench.write("a-0", 0, vec![pattern(10, 0)]);
        assert_eq!(bench.finish()[0].1, Err(FileError::NotFound));
        bench.create("a-0");
        bench.write("a-0", 8192, vec![pattern(10, 0)]);
        bench.write("a-0", 100, vec![pattern(10, 0)]);
        let outcomes = bench.finish();
        assert!(matches!(&outcomes[2].1, Ok(()) | Err(FileError::Failed(_))), "{outcomes:?}");
    }

    #[test]
    fn many_files_are_synced_at_once_and_more_operations_than_the_ring_holds_all_end() {
        let mut bench = Bench::new(16);
        let names: Vec<String> = (0..100).map(|i| format!("t-{i}")).collect();
        for name in &names {
            bench.create(name);
            for i in 0..60 {
                bench.write(name, i * 8, vec![pattern(8, i as usize)]);
            }
        }
        let files = names.iter().map(|name| bench.segment(name)).collect();
        bench.change(FileChange::Sync { files });
        let outcomes = bench.finish();
        assert_eq!(outcomes.len(), 100 * 61 + 1);
        assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()));
    }

    #[test]
    fn an_executor_whose_wake_up_was_lost_is_woken_again() {
        let mut bench = Bench::new(4);
        bench.create("a-0");
        bench.finish();
        while !bench.background.bell.asleep.swap(false, Ordering::Relaxed) {
            std::thread::yield_now();
        }
        // It sleeps, and nobody knows: this order alone does not ring.
        bench.write("a-0", 0, vec![pattern(10, 0)]);
        assert_eq!(bench.finish()[0].1, Ok(()));
    }

    #[test]
    fn a_small_file_is_replaced_whole() {
        let mut bench = Bench::new(1);
        let path = bench.partition("checkpoint-0");
        for content in ["first", "the second"] {
            bench.change(FileChange::Replace { path: path.clone(), bytes: Bytes::from_static(content.as_bytes()) });
            assert!(bench.finish()[0].1.is_ok());
            assert_eq!(std::fs::read_to_string(&*path).expect("there"), content);
        }
        assert_eq!(std::fs::read_dir(bench.directory.path()).expect("the parent").count(), 1);
    }
}
