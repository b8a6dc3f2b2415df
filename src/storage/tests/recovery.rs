//! The rules of recovery, one test each, on files made to look like what a crash leaves.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

use super::*;
use crate::storage::layout::segment_file;

/// A log of three segments, closed cleanly, with the recovery point of its end.
struct Before {
    home: Home,
    point: RecoveryPoint,
    segments: Vec<Offset>,
    batches: usize,
}

fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 32 << 10,
        ..config()
    }
}

fn before() -> Before {
    let home = home(Faults::default());
    let path = home.log.clone();
    let (point, segments, batches) =
        on_shard(home.directory.clone(), limits(), async move |storage| {
            let (log, _) = open(&storage, &path, small(), None, false);
            fill(&log, 0, 45).await;
            log.park().await.expect("a clean stop");
            let batches = read_all(&log, Offset(0), 1 << 20).await.len();
            let state = log.state.borrow();
            let segments: Vec<_> = state.segments.iter().map(|s| s.base_offset).collect();
            drop(state);
            (log.mark(), segments, batches)
        });
    assert!(segments.len() >= 3, "{segments:?}");
    Before {
        home,
        point,
        segments,
        batches,
    }
}

impl Before {
    fn file(&self, segment: usize, extension: &str) -> PathBuf {
        segment_file(&self.home.log, self.segments[segment], extension)
    }

    fn last(&self) -> PathBuf {
        self.file(self.segments.len() - 1, "log")
    }

    /// Recovers and reads what can be read; returns the batches, the end, and the reports.
    fn recover(&self, point: Option<RecoveryPoint>, clean: bool) -> (usize, Offset, Vec<String>) {
        let path = self.home.log.clone();
        on_shard(
            self.home.directory.clone(),
            limits(),
            async move |storage| {
                let (log, reports) = open(&storage, &path, small(), point, clean);
                let damaged = log.state.borrow().damaged.clone();
                let batches = if damaged.is_empty() {
                    read_all(&log, log.start(), 9000).await.len()
                } else {
                    0
                };
                (batches, log.end(), reports)
            },
        )
    }
}

fn append_bytes(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new()
        .append(true)
        .open(path)
        .expect("a segment");
    file.write_all(bytes).expect("a write");
}

#[test]
fn a_clean_stop_is_trusted_and_a_crash_scans_from_the_point() {
    let before = before();
    let end = before.point.offset;
    assert_eq!(
        before.recover(Some(before.point), true),
        (before.batches, end, vec![]),
        "A"
    );
    assert_eq!(
        before.recover(Some(before.point), false),
        (before.batches, end, vec![]),
        "B"
    );
    assert_eq!(
        before.recover(None, false),
        (before.batches, end, vec![]),
        "B and F: all"
    );
}

#[test]
fn zeros_and_torn_writes_are_cut_off() {
    let before = before();
    let end = before.point.offset;
    let length = fs::metadata(before.last()).expect("a segment").len();
    let torn = batch(3, 4, 900);
    for (tail, rule) in [
        (vec![0; 20_000], "C: preallocated zeros"),
        (vec![7; 40], "C: less than a header"),
        (
            torn[..torn.len() - 1].to_vec(),
            "D: a batch that lacks its last byte",
        ),
        (torn[..70].to_vec(), "D: a header and little more"),
    ] {
        for point in [Some(before.point), None] {
            append_bytes(&before.last(), &tail);
            assert_eq!(
                before.recover(point, false),
                (before.batches, end, vec![]),
                "{rule}"
            );
            assert_eq!(
                fs::metadata(before.last()).expect("a segment").len(),
                length,
                "{rule}"
            );
        }
    }
}

#[test]
fn whole_batches_behind_a_cut_are_kept_aside_and_reported() {
    let before = before();
    let mut later = batch(5, 2, 300).to_vec();
    later[..8].copy_from_slice(&before.point.offset.plus(10).0.to_be_bytes());
    append_bytes(&before.last(), &[&[9; 200], &later[..]].concat());
    let (batches, end, reports) = before.recover(Some(before.point), false);
    assert_eq!((batches, end), (before.batches, before.point.offset), "E");
    assert_eq!(reports.len(), 1, "E: {reports:?}");
    let aside = fs::read(before.file(before.segments.len() - 1, "cut")).expect("what was cut");
    assert!(aside.ends_with(&later), "E");
}

#[test]
fn a_segment_that_follows_zeros_at_once_is_no_segment_behind_a_cut() {
    let before = before();
    append_bytes(&before.file(1, "log"), &[0; 8192]);
    assert_eq!(
        before.recover(None, false),
        (before.batches, before.point.offset, vec![]),
        "F"
    );
    assert!(before.file(2, "log").exists(), "F");
    // What is no zero is no preallocated room.
    append_bytes(&before.file(1, "log"), &[0, 0, 1]);
    let (batches, _, reports) = before.recover(None, false);
    assert!(batches < before.batches && !reports.is_empty(), "G");
}

#[test]
fn what_a_crash_has_left_of_files_is_removed() {
    let before = before();
    let left_over = [
        before.home.log.join("leader-epoch-checkpoint.tmp"),
        segment_file(&before.home.log, Offset(1 << 40), "index"),
        segment_file(&before.home.log, Offset(1 << 40), "timeindex"),
    ];
    for file in &left_over {
        fs::write(file, [1; 24]).expect("a file");
    }
    let kept = before.file(1, "index");
    assert!(kept.exists(), "N");
    assert_eq!(
        before.recover(None, false),
        (before.batches, before.point.offset, vec![]),
        "N"
    );
    assert!(
        kept.exists() && !left_over.iter().any(|file| file.exists()),
        "N"
    );
}

#[test]
fn segments_behind_a_cut_are_kept_aside_and_reported() {
    let before = before();
    let middle = before.file(1, "log");
    let damaged = OpenOptions::new()
        .write(true)
        .open(&middle)
        .expect("a segment");
    damaged.write_all_at(&[0xff; 30], 100).expect("a write");
    let (batches, end, reports) = before.recover(None, false);
    assert!(
        batches < before.batches && end < before.segments[2],
        "G: {batches} to {end}"
    );
    assert!(reports.len() >= 2, "G: {reports:?}");
    assert!(
        before.file(2, "cut").exists() && !before.file(2, "log").exists(),
        "G"
    );
}

#[test]
fn durable_bytes_that_are_missing_are_refused_and_never_given_out_again() {
    let before = before();
    let file = OpenOptions::new()
        .write(true)
        .open(before.last())
        .expect("a segment");
    file.set_len(before.point.position - 50)
        .expect("a truncation");
    let (_, end, reports) = before.recover(Some(before.point), false);
    assert_eq!(end, before.point.offset, "H");
    assert!(!reports.is_empty(), "H");
    let path = before.home.log.clone();
    let last = *before.segments.last().expect("segments");
    fs::remove_file(before.last()).expect("a segment to remove");
    let point = before.point;
    on_shard(
        before.home.directory.clone(),
        limits(),
        async move |storage| {
            let (log, reports) = open(&storage, &path, small(), Some(point), false);
            assert!(!reports.is_empty(), "I");
            assert_eq!(log.end(), point.offset, "I");
            let gone = ReadRange {
                from: last,
                upper: log.end(),
                bytes_max: 1,
                at_least_one: true,
            };
            assert_eq!(log.read(gone).map(drop), Err(LogError::Damaged(last)), "I");
            let base = append(&log, &batch(1, 1, 10)).await.expect("an append");
            assert_eq!(base, point.offset, "I");
            log.make_durable(base.plus(1)).await.expect("a sync");
            assert_eq!(read_all(&log, base, 1000).await.len(), 1, "I");
        },
    );
}

#[test]
fn a_directory_without_segments_gets_an_empty_one() {
    let before = before();
    for segment in 0..before.segments.len() {
        for extension in ["log", "index", "timeindex"] {
            let _gone = fs::remove_file(before.file(segment, extension));
        }
    }
    let (batches, end, _) = before.recover(None, false);
    assert_eq!((batches, end), (0, Offset(0)), "J");
}

#[test]
fn indexes_are_made_anew_from_the_scan_on() {
    let before = before();
    for (garbage, rule) in [
        (&[0xff; 80][..], "K: entries behind the end"),
        (&[][..], "K: none"),
    ] {
        for segment in 0..before.segments.len() {
            for extension in ["index", "timeindex"] {
                let file = before.file(segment, extension);
                let mut bytes = fs::read(&file).unwrap_or_default();
                bytes.extend_from_slice(garbage);
                fs::write(&file, bytes).expect("an index");
            }
        }
        let end = before.point.offset;
        assert_eq!(
            before.recover(None, false),
            (before.batches, end, vec![]),
            "{rule}"
        );
    }
}

/// Opens what is left and tells which of `wanted` can be read.
fn readable(before: &Before, wanted: Vec<Offset>) -> (Vec<bool>, Vec<String>) {
    let (path, point) = (before.home.log.clone(), before.point);
    let directory = before.home.directory.clone();
    on_shard(directory, limits(), async move |storage| {
        let (log, reports) = open(&storage, &path, small(), Some(point), false);
        assert_eq!(log.end(), point.offset);
        let mut found = Vec::new();
        for from in wanted {
            let range = ReadRange {
                from,
                upper: log.end(),
                bytes_max: 1,
                at_least_one: true,
            };
            found.push(match read(&log, range).await {
                Ok(bytes) => {
                    let header = BatchHeader::parse(&bytes).expect("at least one batch");
                    assert!(header.base_offset <= from && from < header.next_offset());
                    true
                }
                Err(error) => {
                    assert_eq!(error, LogError::Damaged(from));
                    false
                }
            });
        }
        (found, reports)
    })
}

#[test]
fn a_segment_that_lost_its_end_below_the_point_is_refused_there_and_nowhere_else() {
    let before = before();
    let middle = before.file(1, "log");
    let length = fs::metadata(&middle).expect("a segment").len();
    let file = OpenOptions::new().write(true).open(&middle);
    file.expect("a segment")
        .set_len(length - 50)
        .expect("a truncation");
    let (first, second, third) = (before.segments[0], before.segments[1], before.segments[2]);
    let wanted = vec![first, second, third.plus(-1), third];
    let (found, reports) = readable(&before, wanted.clone());
    assert_eq!(
        (found, reports.len()),
        (vec![true, true, false, true], 1),
        "L"
    );
    fs::remove_file(&middle).expect("a segment to remove");
    let (found, reports) = readable(&before, wanted);
    assert_eq!(
        (found, reports.len()),
        (vec![true, false, false, true], 1),
        "L"
    );
}

#[test]
fn the_segment_before_one_that_is_gone_stays_whole() {
    let before = before();
    fs::remove_file(before.last()).expect("a segment to remove");
    let last = *before.segments.last().expect("segments");
    let (found, reports) = readable(&before, vec![Offset(0), last.plus(-1), last]);
    assert_eq!((found, reports.len()), (vec![true, true, false], 1), "I");
}

#[test]
fn a_segment_is_whole_without_its_indexes_too() {
    for garbage in [None, Some([0, 0, 0, 9, 0, 0, 0, 7])] {
        let before = before();
        for extension in ["index", "timeindex"] {
            match garbage {
                Some(bytes) => fs::write(before.file(1, extension), bytes).expect("an index"),
                None => fs::remove_file(before.file(1, extension)).expect("an index"),
            }
        }
        let (second, third) = (before.segments[1], before.segments[2]);
        let (found, reports) = readable(&before, vec![second, third.plus(-1), third]);
        assert_eq!((found, reports), (vec![true, true, true], vec![]), "K");
    }
}

#[test]
fn an_offset_that_is_not_the_next_ends_the_log() {
    for offset in [(1 << 56) + 7, i64::MIN] {
        let before = before();
        let mut jumped = batch(5, 2, 300).to_vec();
        jumped[..8].copy_from_slice(&i64::to_be_bytes(offset));
        append_bytes(&before.last(), &jumped);
        let (batches, end, reports) = before.recover(Some(before.point), false);
        assert_eq!((batches, end), (before.batches, before.point.offset), "B");
        assert_eq!(reports.len(), 1, "E: {reports:?}");
        let aside = before.file(before.segments.len() - 1, "cut");
        assert_eq!(fs::read(aside).expect("what was cut"), jumped, "E");
    }
}

#[test]
fn what_lies_further_than_an_index_can_name_is_kept_aside() {
    let home = home(Faults::default());
    create_files(&home.directory, &home.log, METADATA, Offset(0)).expect("a new log");
    let file = segment_file(&home.log, Offset(0), "log");
    let point = RecoveryPoint {
        log_start: Offset(0),
        offset: Offset(9),
        segment: Offset(0),
        position: 1 << 32,
    };
    let mut far = batch(5, 2, 300).to_vec();
    far[..8].copy_from_slice(&point.offset.0.to_be_bytes());
    let written = OpenOptions::new().write(true).open(&file);
    let written = written.and_then(|file| file.write_all_at(&far, point.position));
    written.expect("a file of holes");
    let input = input(&home.log, Some(point), false);
    let recovered = recover(&home.directory, &input, &mut |_| {}).expect("a recovered log");
    assert_eq!(recovered.end(), point.offset);
    assert_eq!(recovered.reports.len(), 1, "{:?}", recovered.reports);
    let aside = segment_file(&home.log, Offset(0), "cut");
    assert_eq!(fs::read(aside).expect("what was cut"), far);
    assert_eq!(fs::metadata(file).expect("a segment").len(), point.position);
}

#[test]
fn times_below_the_point_are_found_after_a_crash() {
    let home = home(Faults::default());
    for batches in [1, 40] {
        let path = home.log.with_extension(batches.to_string());
        on_shard(home.directory.clone(), limits(), async move |storage| {
            let (log, _) = open(&storage, &path, config(), None, false);
            fill(&log, 0, batches).await;
            let point = log.mark();
            log.flush_indexes().await.expect("indexes");
            append(&log, &batch(0, 1, 10)).await.expect("room");
            log.make_durable(log.end()).await.expect("a sync");
            let last = batches as i64 - 1;
            drop(log);
            let (log, _) = open(&storage, &path, config(), Some(point), false);
            for wanted in [NOW, NOW + last * 100] {
                let after = log.seek_timestamp(wanted).await.expect("a search");
                assert!(after.is_some_and(|found| found < point.offset), "{after:?}");
            }
            assert_eq!(log.largest_timestamp_offset(), Some(point.offset.plus(-1)));
        });
    }
}

/// What an older point finds of the records behind a gap, and what a later one does.
fn records_behind_the_gap_stay(before: &Before, rule: &'static str) {
    let (path, point) = (before.home.log.clone(), before.point);
    let directory = before.home.directory.clone();
    on_shard(directory, limits(), async move |storage| {
        let (log, _) = open(&storage, &path, small(), Some(point), false);
        assert_eq!(log.end(), point.offset, "{rule}");
        for seed in 0..30 {
            append(&log, &batch(seed, 1, 500)).await.expect("room");
        }
        let end = log.end();
        log.make_durable(end).await.expect("a sync");
        let batches = read_all(&log, point.offset, 5000).await.len();
        assert_eq!(batches, 30, "{rule}");
        drop(log);

        // A crash before the next checkpoint, and another.
        for _ in 0..2 {
            let (log, _) = open(&storage, &path, small(), Some(point), false);
            assert_eq!(log.end(), end, "{rule}");
            let batches = read_all(&log, point.offset, 5000).await.len();
            assert_eq!(batches, 30, "{rule}");
        }
        // One after a checkpoint that has a later segment.
        let (log, _) = open(&storage, &path, small(), Some(point), false);
        while log.state.borrow().active().base_offset <= end {
            append(&log, &batch(1, 1, 2000)).await.expect("room");
        }
        log.park().await.expect("a sound disk");
        let later = log.mark();
        drop(log);
        let (log, _) = open(&storage, &path, small(), Some(later), false);
        assert_eq!(log.end(), later.offset, "{rule}");
        let batches = read_all(&log, point.offset, 5000).await.len();
        assert!(batches > 30, "{rule}: {batches}");
    });
}

#[test]
fn records_behind_a_gap_are_never_taken_for_lost() {
    let lacks = before();
    let file = OpenOptions::new().write(true).open(lacks.last());
    let file = file.expect("a segment");
    file.set_len(lacks.point.position - 50)
        .expect("a truncation");
    records_behind_the_gap_stay(&lacks, "H");

    let gone = before();
    fs::remove_file(gone.last()).expect("a segment to remove");
    records_behind_the_gap_stay(&gone, "I");
}

#[test]
fn records_that_follow_an_empty_segment_that_is_gone_stay() {
    let mut before = before();
    let path = before.home.log.clone();
    let (directory, point) = (before.home.directory.clone(), before.point);
    before.point = on_shard(directory, limits(), async move |storage| {
        let (log, _) = open(&storage, &path, small(), Some(point), true);
        let full = incoming(small().segment_bytes as usize);
        log.prepare(full).await.expect("a roll");
        log.park().await.expect("a sound disk");
        log.mark()
    });
    assert_eq!(before.point.position, 0);
    let empty = segment_file(&before.home.log, before.point.segment, "log");
    fs::remove_file(empty).expect("a segment to remove");
    records_behind_the_gap_stay(&before, "I");
}
