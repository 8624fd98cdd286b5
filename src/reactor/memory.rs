//! Buffers that begin at a page boundary, as direct I/O wants them. Owned by whoever holds them; never shared while written.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// What every direct-I/O position, length and address is a multiple of.
pub const PAGE_BYTES: usize = 4096;

/// Rounds up to whole pages.
pub fn whole_pages(bytes: usize) -> usize {
    bytes.next_multiple_of(PAGE_BYTES)
}

/// Zeroed when new. Its address never changes, so the kernel may hold it while an operation is under way.
pub struct AlignedBuffer {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the buffer owns its memory alone; nothing in it is bound to a thread.
unsafe impl Send for AlignedBuffer {}
// SAFETY: a shared reference gives read access only.
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// At least `bytes` long, in whole pages.
    pub fn new(bytes: usize) -> AlignedBuffer {
        let length = whole_pages(bytes.max(1));
        let layout = AlignedBuffer::layout(length);
        // SAFETY: the layout is never empty.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        AlignedBuffer { start, length }
    }

    fn layout(length: usize) -> Layout {
        Layout::from_size_align(length, PAGE_BYTES).expect("a buffer is far smaller than the address space")
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout.
        unsafe { dealloc(self.start.as_ptr(), AlignedBuffer::layout(self.length)) }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `length` initialised bytes that this value owns.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: `length` initialised bytes that this value owns, borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Buffers that come back when their last reader, on whatever core, lets go: fresh memory would cost a page fault for every
/// page and a clearing.
#[derive(Clone, Default)]
pub struct BufferPool(Arc<Mutex<Vec<AlignedBuffer>>>);

impl BufferPool {
    const KEPT_MAX: usize = 32;
    const KEPT_BYTES_MAX: usize = 2 << 20;

    /// At least `bytes` long, and what is in it is old.
    pub fn take(&self, bytes: usize) -> PooledBuffer {
        let fits = |buffer: &AlignedBuffer| buffer.len() >= bytes && buffer.len() <= 4 * whole_pages(bytes);
        let kept = {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.iter().position(fits).map(|index| kept.swap_remove(index))
        };
        // A read of a round size that begins within a page wants a page more: it would get twice of what it needs from a
        // power of two.
        let fresh = || AlignedBuffer::new(bytes.next_multiple_of((bytes.next_power_of_two() / 8).max(PAGE_BYTES)));
        PooledBuffer { buffer: Some(kept.unwrap_or_else(fresh)), pool: self.clone() }
    }
}

/// One buffer of a pool, to which it returns when dropped.
pub struct PooledBuffer {
    buffer: Option<AlignedBuffer>,
    pool: BufferPool,
}

impl Deref for PooledBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.buffer.as_ref().expect("present until dropped")
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.buffer.as_mut().expect("present until dropped")
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let mut kept = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = self.buffer.take().filter(|buffer| buffer.len() <= BufferPool::KEPT_BYTES_MAX);
        if kept.len() < BufferPool::KEPT_MAX {
            kept.extend(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_zeroed_aligned_and_in_whole_pages() {
        for bytes in [0, 1, 4095, 4096, 4097, 300_000] {
            let buffer = AlignedBuffer::new(bytes);
            assert!(buffer.len() >= bytes && buffer.len().is_multiple_of(PAGE_BYTES) && !buffer.is_empty());
            assert!((buffer.as_ptr() as usize).is_multiple_of(PAGE_BYTES));
            assert!(buffer.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_buffer_returns_to_its_pool_from_any_thread_and_a_huge_one_does_not() {
        let pool = BufferPool::default();
        let first = pool.take(100_000);
        let address = first.as_ptr() as usize;
        assert!(first.len() >= 100_000);
        std::thread::spawn(move || drop(first)).join().expect("no panic");
        assert_eq!(pool.take(90_000).as_ptr() as usize, address);
        assert_ne!(pool.take(100).as_ptr() as usize, address, "far larger than asked for");
        drop(pool.take(BufferPool::KEPT_BYTES_MAX + 1));
        assert!(pool.0.lock().expect("no panic").iter().all(|buffer| buffer.len() <= BufferPool::KEPT_BYTES_MAX));
    }
}
