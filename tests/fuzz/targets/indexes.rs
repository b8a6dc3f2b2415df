//! Searches in the files of the sparse indexes, whatever these hold; and entries that an index
//! wrote itself, which are found in its file as in its memory.

use std::fs::File;
use std::os::unix::fs::FileExt;

use millrace::base::ids::Offset;
use millrace::storage::index::{
    IndexTail, OFFSET_ENTRY_BYTES, OffsetEntry, Place, TIME_ENTRY_BYTES, entries_below,
    lookup_in_file, lookup_time_in_file, position_in_file, time_entry_in_file,
};

use super::choices::Choices;
use super::scratch;

pub fn target(data: &[u8]) {
    let mut choices = Choices::new(data);
    let home = scratch::directory();
    let sought: Vec<_> = (0..4).map(|_| (choices.number(), choices.byte())).collect();
    let file = file(home.path(), choices.slice());
    let times = self::file(home.path(), choices.slice());
    for (number, back) in sought {
        search(&file, number, back.into());
        search_times(&times, number);
    }
    both_ways(&mut choices, home.path());
}

fn file(home: &std::path::Path, contents: &[u8]) -> File {
    let file = tempfile::tempfile_in(home).expect("a directory that takes files");
    file.write_all_at(contents, 0)
        .expect("a file that can be written");
    file
}

fn entries(file: &File, bytes: u64) -> u32 {
    let length = file.metadata().expect("an open file").len();
    (length / bytes) as u32
}

fn search(file: &File, number: i64, back: u32) {
    let entries = entries(file, OFFSET_ENTRY_BYTES);
    let all: Vec<_> = (0..entries).map(|at| offset_entry(file, at)).collect();
    let found = lookup_in_file(file, entries, number, back).expect("whole entries");
    if let Place::Entry(entry) = found {
        assert!(all.contains(&entry));
    }
    let is_at_most = |entry: &OffsetEntry| i64::from(entry.relative_offset) <= number;
    if all.is_sorted_by_key(|entry| entry.relative_offset) {
        let after = all.iter().filter(|entry| is_at_most(entry)).count() as u32;
        let expected = after.checked_sub(1).and_then(|last| last.checked_sub(back));
        let expected = expected.map_or(Place::Start, |at| Place::Entry(all[at as usize]));
        assert_eq!(found, expected);
    }
    let below = entries_below(file, entries, number.unsigned_abs()).expect("whole entries");
    assert!(below <= entries);
    if below > 0 {
        let last = position_in_file(file, below - 1).expect("whole entries");
        assert!(last < number.unsigned_abs());
    }
}

fn offset_entry(file: &File, at: u32) -> OffsetEntry {
    let mut bytes = [0; OFFSET_ENTRY_BYTES as usize];
    let position = u64::from(at) * OFFSET_ENTRY_BYTES;
    file.read_exact_at(&mut bytes, position)
        .expect("whole entries");
    let number = |from: usize| {
        bytes[from..from + 4]
            .iter()
            .fold(0, |all, b| all << 8 | u32::from(*b))
    };
    OffsetEntry {
        relative_offset: number(0),
        position: number(4),
    }
}

fn search_times(file: &File, timestamp: i64) {
    let entries = entries(file, TIME_ENTRY_BYTES);
    let found = lookup_time_in_file(file, entries, timestamp).expect("whole entries");
    let all = (0..entries).map(|at| time_entry_in_file(file, at).expect("whole entries"));
    let all: Vec<_> = all.collect();
    if all.is_sorted_by_key(|entry| entry.timestamp) {
        let older = all.iter().rfind(|entry| entry.timestamp < timestamp);
        assert_eq!(found, older.map_or(0, |entry| entry.relative_offset));
    }
}

/// Appends batches to an index and looks for their offsets, before and after it is in its file.
fn both_ways(choices: &mut Choices<'_>, home: &std::path::Path) {
    let base = Offset(1000);
    let mut tail = IndexTail::new(base);
    let (mut next, mut position) = (base, 0);
    while !choices.is_empty() && position < 1 << 20 {
        next = next.plus(1 + i64::from(choices.byte()));
        let size = 61 + u32::from(choices.byte()) * 16;
        tail.append(next.plus(-1), position, size, choices.number(), 1000);
        position += size;
    }
    let [(_, offsets), (_, times)] = tail.to_flush();
    let (file, times) = (file(home, &offsets), self::file(home, &times));
    for offset in (base.0..next.0).step_by(97) {
        let relative = offset - base.0;
        let entries = entries(&file, OFFSET_ENTRY_BYTES);
        let found = lookup_in_file(&file, entries, relative, 0).expect("whole entries");
        assert_eq!(tail.lookup(Offset(offset)), Some(found));
        let entries = self::entries(&times, TIME_ENTRY_BYTES);
        let found = lookup_time_in_file(&times, entries, offset).expect("whole entries");
        assert_eq!(tail.lookup_time(offset), Some(base.plus(found.into())));
    }
}
