//! What a walk finds in segments that were damaged in every way there is.

use super::*;
use crate::record::builder::{BatchBuilder, RecordToWrite};
use crate::record::compression::Codec;
use crate::record::header::{
    BATCH_LENGTH_AT, CRC_AT, LAST_OFFSET_DELTA_AT, crc_of, set_base_offset,
};

const BASE: i64 = 1000;
const BATCHES: usize = 12;

/// A segment of batches of different sizes, of two offsets each.
fn segment() -> (Vec<u8>, Vec<u64>) {
    let (mut bytes, mut positions) = (Vec::new(), Vec::new());
    for number in 0..BATCHES {
        positions.push(bytes.len() as u64);
        bytes.extend(batch(number));
    }
    (bytes, positions)
}

fn batch(number: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    let value: Vec<_> = (0..number * 90).map(|at| (at * 7 + number) as u8).collect();
    for _ in 0..2 {
        let record = RecordToWrite {
            value: Some(&value),
            ..RecordToWrite::default()
        };
        builder.append(&record).expect("a record that fits");
    }
    let mut batch = builder.build().expect("a batch");
    set_base_offset(&mut batch, offset(number));
    batch
}

fn offset(number: usize) -> Offset {
    Offset(BASE + 2 * number as i64)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    sound: Vec<u64>,
    damages: Vec<Damage>,
}

/// Walks through `bytes` in pieces of a size that begin at multiples of 16.
fn walk(bytes: &[u8], bounds: Bounds, piece: usize) -> Found {
    let mut found = Found::default();
    let mut walk = SegmentWalk::new(bounds);
    while let Some(wanted) = walk.wants() {
        let start = (wanted - wanted % 16) as usize;
        let end = (start + piece).min(bytes.len());
        if end == bytes.len() && walk.limit() > end as u64 {
            walk.ends_at(end as u64);
            continue;
        }
        let sound = &mut found.sound;
        let mut sound = |at, header: &BatchHeader| {
            assert_eq!(header.next_offset(), header.base_offset.plus(2), "{at}");
            sound.push(at);
        };
        let damage = walk.take(start as u64, &bytes[start..end], &mut sound);
        found.damages.extend(damage);
    }
    found.damages.extend(walk.finish());
    assert_eq!(walk.finish(), None, "told once");
    found
}

fn bounds(limit: u64, end: Option<Offset>) -> Bounds {
    Bounds {
        base: Offset(BASE),
        limit,
        end,
    }
}

/// Walks in pieces of several sizes, with the segment's end known and not, and checks that no way
/// finds anything else.
fn walk_all(bytes: &[u8], limit: u64) -> Found {
    let all = bounds(limit, Some(offset(BATCHES)));
    let found = walk(bytes, all, 1 << 20);
    for piece in [80, 128, 1000] {
        assert_eq!(walk(bytes, all, piece), found, "in pieces of {piece}");
    }
    found
}

#[test]
fn a_sound_segment_is_sound() {
    let (bytes, positions) = segment();
    let found = walk_all(&bytes, bytes.len() as u64);
    assert_eq!((found.sound, found.damages), (positions, vec![]));
    let found = walk(&[], bounds(0, Some(Offset(BASE))), 100);
    assert_eq!(found, Found::default());
    assert_eq!(walk(&[], bounds(0, None), 100), Found::default());
}

type Change = fn(&mut Vec<u8>, usize);
type IsExpected = fn(&Fault) -> bool;

/// What is done at the position of a batch, and what is to be told of it.
const CHANGES: [(&str, Change, IsExpected); 9] = [
    (
        "a record",
        |bytes, at| bytes[at + 65] ^= 1,
        |fault| matches!(fault, Fault::Crc { .. }),
    ),
    (
        "the CRC",
        |bytes, at| bytes[at + CRC_AT] ^= 0x80,
        |fault| matches!(fault, Fault::Crc { .. }),
    ),
    (
        "the base offset",
        |bytes, at| bytes[at + 7] ^= 1,
        |fault| matches!(fault, Fault::BaseOffset { .. }),
    ),
    (
        "a high byte of the base offset",
        |bytes, at| bytes[at] ^= 0x80,
        |fault| matches!(fault, Fault::BaseOffset { .. }),
    ),
    (
        "the magic",
        |bytes, at| bytes[at + MAGIC_AT] = 1,
        |fault| *fault == Fault::Magic(1),
    ),
    (
        "the length, far too much",
        |bytes, at| bytes[at + BATCH_LENGTH_AT + 1] ^= 1,
        |fault| matches!(fault, Fault::CutOff { .. }),
    ),
    (
        "the length, by one",
        |bytes, at| bytes[at + BATCH_LENGTH_AT + 3] ^= 1,
        |fault| matches!(fault, Fault::Crc { .. } | Fault::CutOff { .. }),
    ),
    (
        "the length, negative",
        |bytes, at| bytes[at + BATCH_LENGTH_AT] = 0xff,
        |fault| matches!(fault, Fault::Length(_)),
    ),
    (
        "all of the header",
        |bytes, at| bytes[at..at + BATCH_HEADER_BYTES].fill(0),
        |fault| *fault == Fault::Zeros,
    ),
];

#[test]
fn one_damaged_batch_costs_that_batch_wherever_it_stands() {
    let (sound, positions) = segment();
    let size = sound.len() as u64;
    for (what, change, is_expected) in CHANGES {
        for hit in [0, 1, 5, BATCHES - 1] {
            let mut bytes = sound.clone();
            change(&mut bytes, positions[hit] as usize);
            let found = walk_all(&bytes, size);
            let told = format!("{what} of batch {hit}: {:?}", found.damages);
            let [damage] = found.damages[..] else {
                panic!("{told}");
            };
            let end = positions.get(hit + 1).copied().unwrap_or(size);
            assert_eq!(
                (damage.position, damage.end),
                (positions[hit], end),
                "{told}"
            );
            let offsets = (damage.first, damage.last());
            assert_eq!(offsets, (offset(hit), Some(offset(hit).plus(1))), "{told}");
            assert!(is_expected(&damage.fault), "{told}");
            let mut others = positions.clone();
            others.remove(hit);
            assert_eq!(found.sound, others, "{told}");
        }
    }
}

#[test]
fn neighbours_that_are_damaged_are_one_damage_and_others_are_two() {
    let (mut bytes, positions) = segment();
    for hit in [3, 4, 5, 8] {
        bytes[positions[hit] as usize + 70] ^= 1;
    }
    bytes[positions[4] as usize + MAGIC_AT] = 0;
    let found = walk_all(&bytes, bytes.len() as u64);
    let stretches: Vec<_> = found
        .damages
        .iter()
        .map(|it| (it.first, it.last()))
        .collect();
    let last = |hit| Some(offset(hit).plus(1));
    assert_eq!(stretches, [(offset(3), last(5)), (offset(8), last(8))]);
}

#[test]
fn a_last_offset_that_no_batch_there_has_is_damage_though_the_crc_holds() {
    let (sound, positions) = segment();
    for delta in [-1, 1 << 20] {
        let mut bytes = sound.clone();
        let range = positions[4] as usize..positions[5] as usize;
        set_last_offset_delta(&mut bytes[range], delta);
        let found = walk_all(&bytes, bytes.len() as u64);
        let [damage] = found.damages[..] else {
            panic!("{:?}", found.damages);
        };
        assert_eq!(damage.fault, Fault::LastOffset(delta));
        assert_eq!((damage.first, damage.next), (offset(4), Some(offset(5))));
    }
}

#[test]
fn a_last_offset_that_no_index_can_name_is_damage_though_nothing_follows() {
    let (mut bytes, positions) = segment();
    let at = positions[BATCHES - 1];
    set_last_offset_delta(&mut bytes[at as usize..], i32::MAX);
    let found = walk(&bytes, bounds(bytes.len() as u64, None), 1 << 20);
    let [damage] = found.damages[..] else {
        panic!("{:?}", found.damages);
    };
    assert_eq!(damage.fault, Fault::LastOffset(i32::MAX));
    assert_eq!((damage.position, damage.first), (at, offset(BATCHES - 1)));
}

fn set_last_offset_delta(batch: &mut [u8], delta: i32) {
    batch[LAST_OFFSET_DELTA_AT..][..4].copy_from_slice(&delta.to_be_bytes());
    let crc = crc_of(batch);
    batch[CRC_AT..][..4].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn batches_that_are_gone_are_missed_in_the_middle_and_at_the_end() {
    let (bytes, positions) = segment();
    let cut = [
        &bytes[..positions[3] as usize],
        &bytes[positions[5] as usize..],
    ]
    .concat();
    let found = walk_all(&cut, cut.len() as u64);
    let [damage] = found.damages[..] else {
        panic!("{:?}", found.damages);
    };
    // The one behind a gap is not found by its offset either.
    assert_eq!((damage.first, damage.next), (offset(3), Some(offset(6))));
    let limit = positions[10];
    let found = walk_all(&bytes[..limit as usize], limit);
    let missing = Damage {
        position: limit,
        end: limit,
        first: offset(10),
        next: Some(offset(BATCHES)),
        fault: Fault::Missing,
    };
    assert_eq!(found.damages, [missing]);
}

#[test]
fn a_file_that_ends_early_has_lost_what_is_behind() {
    let (bytes, positions) = segment();
    let limit = bytes.len() as u64;
    for length in [positions[7] + 30, positions[7] + 100, positions[7]] {
        let found = walk_all(&bytes[..length as usize], limit);
        let [damage] = found.damages[..] else {
            panic!("{length}: {:?}", found.damages);
        };
        assert_eq!((damage.position, damage.end), (positions[7], length));
        let offsets = (damage.first, damage.next);
        assert_eq!(offsets, (offset(7), Some(offset(BATCHES))), "{length}");
        assert_eq!(found.sound, positions[..7]);
    }
}

#[test]
fn what_stands_behind_the_last_batch_is_found_where_the_end_is_not_known() {
    let (sound, positions) = segment();
    for (tail, is_zeros) in [
        (&[0; 300][..], true),
        (&[0; 7], false),
        (&[2; 100], false),
        (&sound[..70], false),
    ] {
        let bytes = [&sound[..], tail].concat();
        let found = walk(&bytes, bounds(bytes.len() as u64, None), 128);
        assert_eq!(found.sound, positions);
        let [damage] = found.damages[..] else {
            panic!("{tail:?}: {:?}", found.damages);
        };
        let range = (damage.position, damage.end);
        assert_eq!(range, (sound.len() as u64, bytes.len() as u64));
        assert_eq!((damage.first, damage.last()), (offset(BATCHES), None));
        match is_zeros {
            true => assert_eq!(damage.fault, Fault::Zeros),
            false => assert!(matches!(damage.fault, Fault::CutOff { .. })),
        }
    }
}

#[test]
fn records_that_look_like_batches_are_not_taken_for_some() {
    // A record whose value is a whole batch, of an offset that might come next.
    let mut inner = batch(2);
    set_base_offset(&mut inner, offset(1));
    let mut builder = BatchBuilder::new(Codec::None);
    for _ in 0..2 {
        let record = RecordToWrite {
            value: Some(&inner),
            ..RecordToWrite::default()
        };
        builder.append(&record).expect("a record that fits");
    }
    let mut outer = builder.build().expect("a batch");
    set_base_offset(&mut outer, offset(0));
    let size = outer.len() as u64;
    outer[70] ^= 1;
    let bytes = [outer, batch(1)].concat();
    let found = walk(&bytes, bounds(bytes.len() as u64, Some(offset(2))), 1 << 20);
    assert_eq!(found.sound, [size]);
    assert_eq!(found.damages[0].end, size);
}

#[test]
fn a_walk_goes_on_where_another_has_ended() {
    let (bytes, positions) = segment();
    let all = bounds(bytes.len() as u64, Some(offset(BATCHES)));
    let mut walk = SegmentWalk::from(all, positions[6], offset(6));
    let mut sound = Vec::new();
    let start = walk.wants().expect("a header");
    let damage = walk.take(start, &bytes[start as usize..], &mut |at, _| sound.push(at));
    assert_eq!((damage, walk.finish()), (None, None));
    assert_eq!(sound, positions[6..]);
    assert_eq!(walk.reached(), (offset(BATCHES), bytes.len() as u64));
}

#[test]
fn a_search_among_what_looks_like_batches_comes_to_an_end() {
    let mut fake = batch(0)[..BATCH_HEADER_BYTES].to_vec();
    let length = (BATCH_HEADER_BYTES - 12) as i32;
    fake[BATCH_LENGTH_AT..][..4].copy_from_slice(&length.to_be_bytes());
    fake[CRC_AT] ^= 1;
    let mut sound = batch(1);
    set_base_offset(&mut sound, Offset(BASE));
    for (fakes, is_found) in [(900, true), (1100, false)] {
        // What begins the segment is no header at all.
        let bytes = [&[0xff; 100][..], &fake.repeat(fakes), &sound].concat();
        let size = bytes.len() as u64;
        let found = walk(&bytes, bounds(size, None), 1 << 20);
        let expected: &[u64] = match is_found {
            true => &[size - sound.len() as u64],
            false => &[],
        };
        assert_eq!(found.sound, expected, "{fakes}");
        assert_eq!(found.damages.len(), 1, "{fakes}");
    }
}
