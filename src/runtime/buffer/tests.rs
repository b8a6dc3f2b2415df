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
        drop(buffers);
        ARENA.with_borrow(|arena| {
            let whole = arena.small.0[WHOLE].len();
            let free: usize = arena.small.0.iter().map(BTreeSet::len).sum();
            assert_eq!((whole, free), (2, 2), "600 blocks take two chunks");
            assert_eq!(arena.small_chunks.len(), 2);
        });
    };
    std::thread::spawn(run).join().expect("no panic");
}

#[test]
fn chunks_are_huge_pages_in_a_hurry_only() {
    let run = || {
        let small = || ARENA.with_borrow(|arena| arena.small_chunks.len());
        let last_turns = |at: Option<Instant>| {
            let at = at.expect("the clock goes back as far");
            ARENA.with_borrow_mut(|arena| arena.turns = [at; TURNS].into());
        };
        let first = DmaBuffer::new(CHUNK_BYTES);
        let half = DmaBuffer::new(CHUNK_BYTES / 2);
        assert_eq!(small(), 2, "a few at once");
        last_turns(Instant::now().checked_sub(HURRY));
        let over_time = DmaBuffer::new(CHUNK_BYTES);
        assert_eq!(small(), 3, "the last of many over some time");
        last_turns(Some(Instant::now() + HURRY));
        let huge = DmaBuffer::new(CHUNK_BYTES);
        assert_eq!(small(), 3, "the last of many at once");
        drop(first);
        assert_eq!(small(), 2, "a small one that is free in a hurry is gone");
        let other_half = DmaBuffer::new(CHUNK_BYTES / 2);
        let is_beside =
            other_half.as_ptr() as usize / CHUNK_BYTES == half.as_ptr() as usize / CHUNK_BYTES;
        assert!(!is_beside, "nothing is cut from small pages in a hurry");
        drop(half);
        assert_eq!(small(), 1, "so they become whole");
        last_turns(Instant::now().checked_sub(HURRY));
        drop((over_time, huge, other_half));
        let kept = DmaBuffer::new(CHUNK_BYTES);
        let kept_too = DmaBuffer::new(CHUNK_BYTES);
        assert_eq!(small(), 0, "huge ones that are there are taken first");
        drop((kept, kept_too));
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
