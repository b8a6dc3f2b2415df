//! Histories of leaders, against Kafka's answers. Tests only.

use proptest::prelude::*;

use super::*;

fn epochs(starts: &[(i32, i64)]) -> LeaderEpochs {
    let mut epochs = LeaderEpochs::new();
    for (epoch, start_offset) in starts {
        assert!(epochs.assign(LeaderEpoch(*epoch), Offset(*start_offset)));
    }
    epochs
}

fn pairs(epochs: &LeaderEpochs) -> Vec<(i32, i64)> {
    let pair = |start: &EpochStart| (start.epoch.0, start.start_offset.0);
    epochs.starts().iter().map(pair).collect()
}

#[test]
fn an_assignment_drops_what_it_contradicts() {
    type Starts = &'static [(i32, i64)];
    let known: Starts = &[(2, 10), (4, 20), (7, 30)];
    let table: &[(i32, i64, Option<Starts>)] = &[
        (8, 40, Some(&[(2, 10), (4, 20), (7, 30), (8, 40)])),
        // The same epoch further on, and a batch without one, change nothing.
        (7, 31, None),
        (7, 30, None),
        (-1, 50, None),
        (9, -1, None),
        // The same epoch earlier, an epoch without a batch, an older epoch.
        (7, 25, Some(&[(2, 10), (4, 20), (7, 25)])),
        (8, 30, Some(&[(2, 10), (4, 20), (8, 30)])),
        (9, 15, Some(&[(2, 10), (9, 15)])),
        (4, 40, Some(&[(2, 10), (4, 40)])),
        (1, 5, Some(&[(1, 5)])),
    ];
    for (epoch, start_offset, expected) in table {
        let mut epochs = epochs(known);
        let changed = epochs.assign(LeaderEpoch(*epoch), Offset(*start_offset));
        assert_eq!(changed, expected.is_some(), "{epoch} at {start_offset}");
        assert_eq!(
            pairs(&epochs),
            expected.unwrap_or(known),
            "{epoch} at {start_offset}"
        );
    }
}

#[test]
fn an_epochs_end_is_the_next_ones_start() {
    let known = epochs(&[(2, 10), (4, 20), (7, 30)]);
    let table = [
        (-1, None),
        (0, Some((0, 10))),
        (2, Some((2, 20))),
        (3, Some((2, 20))),
        (4, Some((4, 30))),
        (6, Some((4, 30))),
        (7, Some((7, 99))),
        (8, None),
    ];
    for (epoch, expected) in table {
        let end = known.end_offset_for(LeaderEpoch(epoch), Offset(99));
        let end = end.map(|end| (end.epoch.0, end.end_offset.0));
        assert_eq!(end, expected, "epoch {epoch}");
    }
    assert_eq!(
        LeaderEpochs::new().end_offset_for(LeaderEpoch(0), Offset(9)),
        None
    );
}

#[test]
fn the_epoch_of_an_offset_and_its_neighbours_are_found() {
    let known = epochs(&[(2, 10), (4, 20)]);
    for (offset, expected) in [
        (9, None),
        (10, Some(2)),
        (19, Some(2)),
        (20, Some(4)),
        (99, Some(4)),
    ] {
        let found = known.epoch_for_offset(Offset(offset));
        assert_eq!(found, expected.map(LeaderEpoch), "offset {offset}");
    }
    let epoch = |start: Option<EpochStart>| start.map(|start| start.epoch.0);
    assert_eq!(epoch(known.latest()), Some(4));
    assert_eq!(epoch(known.earliest()), Some(2));
    assert_eq!(epoch(known.previous(LeaderEpoch(4))), Some(2));
    assert_eq!(epoch(known.previous(LeaderEpoch(2))), None);
}

#[test]
fn truncation_follows_the_log_at_both_ends() {
    let known: &[(i32, i64)] = &[(2, 10), (4, 20), (7, 30)];
    type Rows = [(i64, bool, &'static [(i32, i64)]); 5];
    let from_end: Rows = [
        (31, false, &[(2, 10), (4, 20), (7, 30)]),
        (30, true, &[(2, 10), (4, 20)]),
        (11, true, &[(2, 10)]),
        (10, true, &[]),
        (0, true, &[]),
    ];
    for (offset, changed, expected) in from_end {
        let mut epochs = epochs(known);
        assert_eq!(
            epochs.truncate_from_end(Offset(offset)),
            changed,
            "end {offset}"
        );
        assert_eq!(pairs(&epochs), expected, "end {offset}");
    }
    let from_start: Rows = [
        (9, false, &[(2, 10), (4, 20), (7, 30)]),
        (10, false, &[(2, 10), (4, 20), (7, 30)]),
        (15, true, &[(2, 15), (4, 20), (7, 30)]),
        (20, true, &[(4, 20), (7, 30)]),
        (99, true, &[(7, 99)]),
    ];
    for (offset, changed, expected) in from_start {
        let mut epochs = epochs(known);
        assert_eq!(
            epochs.truncate_from_start(Offset(offset)),
            changed,
            "start {offset}"
        );
        assert_eq!(pairs(&epochs), expected, "start {offset}");
    }
    let mut none = LeaderEpochs::new();
    assert!(!none.truncate_from_start(Offset(5)) && !none.truncate_from_end(Offset(5)));
}

#[test]
fn the_checkpoint_is_kafkas_file() {
    let known = epochs(&[(0, 0), (3, 1_000_000_000_000)]);
    let text = "0\n2\n0 0\n3 1000000000000\n";
    assert_eq!(known.to_checkpoint(), text);
    assert_eq!(LeaderEpochs::from_checkpoint(text), Ok(known));
    assert_eq!(
        LeaderEpochs::from_checkpoint("0\n0\n"),
        Ok(LeaderEpochs::new())
    );
}

#[test]
fn a_checkpoint_that_is_none_says_where() {
    let version = |version: &str| CheckpointError::Version {
        version: version.into(),
    };
    let line = |line| CheckpointError::Line { line };
    let order = |line| CheckpointError::Order { line };
    let count = |count, found| CheckpointError::Count { count, found };
    let table = [
        ("", version("")),
        ("1\n0\n", version("1")),
        ("0\n", line(2)),
        ("0\n-1\n", line(2)),
        ("0\n1\n5\n", line(3)),
        ("0\n1\n5 6 7\n", line(3)),
        ("0\n1\n5 x\n", line(3)),
        ("0\n1\n-5 6\n", line(3)),
        ("0\n1\n5 -6\n", line(3)),
        ("0\n2\n5 6\n5 7\n", order(4)),
        ("0\n2\n5 6\n6 6\n", order(4)),
        ("0\n2\n5 6\n", count(2, 1)),
        ("0\n1\n5 6\n6 7\n", count(1, 2)),
        ("0\n18446744073709551615\n", count(usize::MAX, 0)),
    ];
    for (text, expected) in table {
        assert_eq!(
            LeaderEpochs::from_checkpoint(text),
            Err(expected),
            "{text:?}"
        );
    }
}

proptest! {
    #[test]
    fn both_columns_always_increase_and_the_file_holds_it_all(
        steps in prop::collection::vec((0_u8..4, 0_i32..20, 0_i64..200), 0..60),
    ) {
        let mut epochs = LeaderEpochs::new();
        for (kind, epoch, offset) in steps {
            match kind {
                0 => epochs.truncate_from_end(Offset(offset)),
                1 => epochs.truncate_from_start(Offset(offset / 4)),
                _ => epochs.assign(LeaderEpoch(epoch), Offset(offset)),
            };
            let increase = epochs.starts().windows(2).all(|pair| {
                pair[0].epoch < pair[1].epoch && pair[0].start_offset < pair[1].start_offset
            });
            prop_assert!(increase, "{:?}", epochs);
            let read = LeaderEpochs::from_checkpoint(&epochs.to_checkpoint());
            prop_assert_eq!(read, Ok(epochs.clone()));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(0\n[0-9]{1,3}\n)?([0-9a-z \\-]{0,12}\n){0,5}") {
        let _ = LeaderEpochs::from_checkpoint(&text);
    }
}
