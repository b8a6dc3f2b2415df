//! Counts what the current thread holds, so that a test can say how much an input may take.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static HELD_MOST: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes on to the system's allocator as it came; counting allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.get().wrapping_add(layout.size());
        HELD.set(held);
        // Memory that another thread allocated makes the count wrap below zero here.
        if held <= isize::MAX as usize && held > HELD_MOST.get() {
            HELD_MOST.set(held);
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What `work` returns, and the most that it held beyond what was held before, in bytes.
pub fn most_held<T>(work: impl FnOnce() -> T) -> (T, usize) {
    HELD.set(0);
    HELD_MOST.set(0);
    let done = work();
    (done, HELD_MOST.get())
}
