//! How far a segment's blocks are written ahead of its appends. Its log's alone; pure.
//!
//! A write into blocks that were preallocated and never written has the file system change what it
//! knows of them, which costs a flush more, a worker of the kernel, and about as much time again.
//! So a small write that comes to such blocks writes zeros behind itself in the same request, and
//! those that follow find written blocks: `kernel-notes/preallocation.md`. To recovery the zeros
//! are what preallocated space reads as in any case.

use crate::base::limits::BLOCK_BYTES;

/// Larger writes take so long that what the file system does no longer matters.
const WRITE_BYTES_MAX: u64 = 128 << 10;
/// So many writes like the one before find written blocks.
const WRITES_AHEAD: u64 = 8;
/// The most zeros that a write takes along.
pub const ZEROS_BYTES_MAX: usize = 512 << 10;

/// Which blocks of the active segment have been written.
#[derive(Clone, Copy, Debug)]
pub struct Ahead {
    /// Where the appends began.
    opened_at: u64,
    /// All blocks below it are written.
    written_to: u64,
}

impl Ahead {
    /// Of a file that was opened with so many bytes in it.
    pub fn new(size: u64) -> Self {
        Self {
            opened_at: size,
            written_to: size.next_multiple_of(BLOCK_BYTES),
        }
    }

    /// How many bytes of zeros go along with a write of `bytes`, whole blocks, at `position` of a
    /// file that is preallocated to `allocated`. Never more than was appended to it since it was
    /// opened: so zeros at most double what is written.
    pub fn zeros(&mut self, position: u64, bytes: u64, allocated: u64) -> usize {
        let end = position + bytes;
        if end <= self.written_to {
            return 0;
        }
        let mut zeros = 0;
        if bytes <= WRITE_BYTES_MAX {
            let wanted = (bytes * WRITES_AHEAD).min(ZEROS_BYTES_MAX as u64);
            let earned = end - self.opened_at.min(end);
            let room = allocated.saturating_sub(end);
            zeros = wanted.min(earned).min(room) / BLOCK_BYTES * BLOCK_BYTES;
        }
        self.written_to = end + zeros;
        zeros as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn small_writes_find_written_blocks_most_of_the_time() {
        for (bytes, at_most) in [(4096, 200), (64 << 10, 140)] {
            let mut ahead = Ahead::new(100);
            let (mut position, mut zeros, mut fresh) = (0, 0, 0);
            for _ in 0..1000 {
                let written_to = ahead.written_to;
                zeros += ahead.zeros(position, bytes, 1000 * MIB) as u64;
                fresh += u64::from(ahead.written_to > written_to);
                position += bytes;
            }
            assert!(zeros <= position, "{bytes}");
            assert!(fresh <= at_most, "{bytes}: {fresh}");
        }
    }

    #[test]
    fn zeros_stay_in_the_room_and_spare_large_writes_and_idle_logs() {
        let mut ahead = Ahead::new(0);
        assert_eq!(ahead.zeros(0, 4096, MIB), 4096, "as much as it has");
        assert_eq!(ahead.zeros(4096, 4096, MIB), 0, "written already");
        assert_eq!(ahead.zeros(8192, 4096, 12 << 10), 0, "no room");
        assert_eq!(ahead.zeros(12 << 10, 256 << 10, MIB), 0, "large");
        assert_eq!(ahead.zeros(268 << 10, 4096, MIB), 32 << 10);
        let mut reopened = Ahead::new(MIB + 1);
        assert_eq!(reopened.zeros(MIB, 4096, 2 * MIB), 0, "its own block");
        assert_eq!(reopened.zeros(MIB + 4096, 4096, 2 * MIB), 4096);
    }
}
