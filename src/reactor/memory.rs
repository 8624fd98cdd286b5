//! Buffers that begin at a page boundary, as direct I/O wants them. Owned by whoever holds them; never shared while written.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

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
}
