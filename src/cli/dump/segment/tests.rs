//! What a reader meets that comes while the broker writes.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use super::*;
use crate::record::fixtures::plain_batch;

const ROOM_BYTES: usize = 4096;

/// A segment of one batch, a second one that is there up to `cut`, and room; with its file, and
/// what is missing of the second batch.
fn segment(cut: usize) -> (tempfile::NamedTempFile, Vec<u8>) {
    let (first, second) = (plain_batch(2), plain_batch(5));
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut bytes = first;
    bytes.extend(&second[..cut]);
    bytes.resize(bytes.len() + ROOM_BYTES, 0);
    std::fs::write(file.path(), &bytes).expect("a writable file");
    (file, second[cut..].to_vec())
}

fn batch(piece: io::Result<Piece>) -> RawBatch {
    match piece.expect("a readable file") {
        Piece::Batch(batch) => batch,
        Piece::Room { bytes } => panic!("{bytes} bytes of room"),
        Piece::Fault(why) => panic!("{why}"),
        Piece::End => panic!("the end"),
    }
}

#[test]
fn a_batch_that_is_just_being_written_is_waited_for() {
    let whole = plain_batch(5).len();
    // Behind the length, in the header behind it, at the records, and in them.
    for cut in [12, 30, BATCH_HEADER_BYTES, whole - 1] {
        let (file, missing) = segment(cut);
        let first = plain_batch(2).len();
        let at = (first + cut) as u64;
        let mut reader = SegmentFile::open(file.path()).expect("a segment");
        batch(reader.next_by(|| panic!("the first batch is whole")));
        let mut waits = 0;
        let second = batch(reader.next_by(|| {
            waits += 1;
            if waits == 3 {
                let writer = OpenOptions::new().write(true).open(file.path());
                let written = writer.and_then(|writer| writer.write_all_at(&missing, at));
                written.expect("a writable file");
            }
        }));
        assert_eq!(
            (waits, second.crc_valid, second.position),
            (3, true, first as u64),
            "cut at {cut}"
        );
        let room = reader.next_by(|| panic!("room is room")).expect("a file");
        assert!(matches!(room, Piece::Room { .. }), "cut at {cut}");
    }
}

#[test]
fn a_batch_that_stays_torn_is_damaged() {
    let (file, _) = segment(BATCH_HEADER_BYTES + 1);
    let mut reader = SegmentFile::open(file.path()).expect("a segment");
    batch(reader.next_by(|| panic!("the first batch is whole")));
    let mut waits = 0;
    let torn = batch(reader.next_by(|| waits += 1));
    assert_eq!((waits, torn.crc_valid), (LOOKS_MAX - 1, false));
}

#[test]
fn damage_before_other_batches_is_not_waited_for() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut bytes = plain_batch(5);
    *bytes.last_mut().expect("a byte") ^= 1;
    bytes.extend(plain_batch(2));
    std::fs::write(file.path(), &bytes).expect("a writable file");
    let mut reader = SegmentFile::open(file.path()).expect("a segment");
    let never = || panic!("another batch follows");
    assert!(!batch(reader.next_by(never)).crc_valid);
    assert!(batch(reader.next_by(never)).crc_valid);
}

#[test]
fn a_segment_that_is_cut_to_its_size_meanwhile_just_ends() {
    // Larger than what is read ahead.
    let (file, _) = segment(0);
    let writer = OpenOptions::new().write(true).open(file.path());
    let writer = writer.expect("a writable file");
    writer
        .set_len(4 * PIECE_BYTES as u64)
        .expect("a longer file");
    let mut reader = SegmentFile::open(file.path()).expect("a segment");
    let first = batch(reader.next_by(|| panic!("the first batch is whole")));
    writer
        .set_len(first.bytes.len() as u64)
        .expect("a shorter file");
    let end = reader.next_by(|| ()).expect("a readable file");
    assert!(matches!(end, Piece::End));
}
