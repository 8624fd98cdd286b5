//! A global allocator that counts what a thread allocates, and on demand tells where in our code.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::{AddAssign, Sub};

struct Counting;

thread_local! {
    static MADE: Cell<Allocations> = const { Cell::new(Allocations { count: 0, bytes: 0 }) };
    /// Places are noted; off while one is being noted, which allocates too.
    static NOTING: Cell<bool> = const { Cell::new(false) };
    static PLACES: RefCell<BTreeMap<String, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// New memory, and memory that grew.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allocations {
    pub count: u64,
    pub bytes: u64,
}

impl Allocations {
    /// Of this thread since it began.
    pub fn made() -> Allocations {
        MADE.get()
    }
}

impl Sub for Allocations {
    type Output = Allocations;

    fn sub(self, before: Allocations) -> Allocations {
        Allocations { count: self.count - before.count, bytes: self.bytes - before.bytes }
    }
}

impl AddAssign for Allocations {
    fn add_assign(&mut self, more: Allocations) {
        (self.count, self.bytes) = (self.count + more.count, self.bytes + more.bytes);
    }
}

fn count(bytes: usize) {
    // The thread may already be ending; then nobody measures.
    let _ = MADE.try_with(|made| {
        let Allocations { count, bytes: before } = made.get();
        made.set(Allocations { count: count + 1, bytes: before + bytes as u64 });
    });
    if NOTING.try_with(|noting| noting.replace(false)).unwrap_or(false) {
        let place = place(&Backtrace::force_capture().to_string());
        PLACES.with_borrow_mut(|places| *places.entry(place).or_default() += 1);
        NOTING.set(true);
    }
}

/// The innermost lines of `src/` that led to an allocation.
fn place(trace: &str) -> String {
    const LINES: usize = 3;
    let ours = trace.lines().filter_map(|line| line.trim().strip_prefix("at ./src/"));
    let lines: Vec<&str> = ours.map(|line| line.rsplit_once(':').map_or(line, |(line, _)| line)).collect();
    lines.iter().take(LINES).copied().collect::<Vec<_>>().join(" < ")
}

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Whether places are noted from here on.
pub fn note_places(on: bool) {
    NOTING.set(on);
}

/// What was noted, as lines to read.
pub fn take_places() -> String {
    PLACES.take().into_iter().map(|(place, count)| format!("{count:>6}  {place}\n")).collect()
}

#[test]
fn new_and_grown_memory_counts_and_freed_memory_does_not() {
    let before = Allocations::made();
    let mut bytes: Vec<u8> = std::hint::black_box(Vec::with_capacity(100));
    bytes.reserve_exact(200);
    drop(std::hint::black_box(bytes));
    assert_eq!(Allocations::made() - before, Allocations { count: 2, bytes: 300 });
}
