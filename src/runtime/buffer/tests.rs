//! The cutting of chunks, and which of them are huge.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

#[test]
fn halves_become_whole_again() {
    let run = || {
        let buffers: Vec<_> = (0..600).map(|_| DmaBuffer::new(4096)).collect();
        let places: HashSet<_> = buffers
            .iter()
            .map(|buffer| buffer.as_ptr() as usize)
            .collect();
        assert_eq!(places.len(), 600);
        // Small pages would go back to the kernel, if all is over in a moment.
        ARENA.with_borrow_mut(|arena| arena.small.clear());
        drop(buffers);
        ARENA.with_borrow(|arena| {
            let whole = arena.free[order(CHUNK_BYTES)].len();
            let free: usize = arena.free.iter().map(BTreeSet::len).sum();
            assert_eq!((whole, free), (2, 2), "600 blocks take two chunks");
        });
    };
    std::thread::spawn(run).join().expect("no panic");
}

#[test]
fn chunks_are_huge_pages_in_a_hurry_only() {
    let run = || {
        let small = || ARENA.with_borrow(|arena| arena.small.len());
        let last_turns = |at: Option<Instant>| {
            let at = at.expect("the clock goes back as far");
            ARENA.with_borrow_mut(|arena| arena.turned = [at; TURNS].into());
        };
        let first = DmaBuffer::new(CHUNK_BYTES);
        let second = DmaBuffer::new(CHUNK_BYTES);
        assert_eq!(small(), 2, "a few chunks at once");
        last_turns(Some(Instant::now()));
        let third = DmaBuffer::new(CHUNK_BYTES);
        assert_eq!(small(), 2, "the last of many at once");
        last_turns(Instant::now().checked_sub(HURRY));
        let fourth = DmaBuffer::new(CHUNK_BYTES);
        assert_eq!(small(), 3, "the last of many over some time");
        last_turns(Instant::now().checked_sub(HURRY));
        drop(first);
        assert_eq!(small(), 3, "one that is free after some time");
        last_turns(Some(Instant::now() + HURRY));
        drop(second);
        assert_eq!(small(), 2, "one that is free in a hurry");
        drop((third, fourth));
    };
    std::thread::spawn(run).join().expect("no panic");
}

proptest! {
    #[test]
    fn buffers_never_overlap(
        steps in prop::collection::vec((0_usize..64, 0_usize..300_000), 1..200)
    ) {
        let mut live: Vec<DmaBuffer> = Vec::new();
        for (at, length) in steps {
            if at < live.len() {
                live.swap_remove(at);
            } else {
                live.push(DmaBuffer::new(length));
            }
            let mut spans: Vec<_> = live
                .iter()
                .map(|buffer| (buffer.as_ptr() as usize, buffer.capacity))
                .collect();
            spans.sort_unstable();
            for pair in spans.windows(2) {
                prop_assert!(pair[0].0 + pair[0].1 <= pair[1].0);
            }
            prop_assert!(spans.iter().all(|(at, bytes)| at % bytes == 0));
        }
    }
}
