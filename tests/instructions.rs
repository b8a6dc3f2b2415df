//! The comparison of instruction counts: what it lets pass, and what it does not. And that the
//! committed table is one. The counting itself is `benches/instructions`.

#[path = "../benches/counting/table.rs"]
mod table;

use std::fs;
use std::path::Path;

use table::{Counts, Difference, MORE_PERCENT, Table, percent};

fn counts(rows: &[(&str, u64)]) -> Counts {
    let row = |(part, count): &(&str, u64)| ((*part).to_owned(), *count);
    rows.iter().map(row).collect()
}

fn table(rows: &[(&str, u64)]) -> Table {
    Table {
        tools: vec!["rustc 1".to_owned(), "glibc 2".to_owned()],
        counts: counts(rows),
    }
}

fn moved(part: &str, recorded: u64, counted: u64) -> Difference {
    Difference::Moved {
        part: part.to_owned(),
        recorded,
        counted,
    }
}

#[test]
fn a_part_that_takes_more_or_less_than_it_may_is_told() {
    // Recorded, counted, whether that is told.
    let cases = [
        (100_000, 100_000, false),
        (100_000, 103_000, false),
        (100_000, 103_001, true),
        (100_000, 90_000, false),
        // An improvement has to be recorded, or it could be lost again unseen.
        (100_000, 89_999, true),
        (100_000, 200_000, true),
        (100_000, 0, true),
        // Few instructions are rounded.
        (20, 22, false),
        (20, 23, true),
        (20, 17, true),
        (0, 2, false),
        (0, 3, true),
    ];
    for (recorded, counted, is_told) in cases {
        let differences = table(&[("append", recorded)]).compare(&counts(&[("append", counted)]));
        let wanted = match is_told {
            true => vec![moved("append", recorded, counted)],
            false => Vec::new(),
        };
        assert_eq!(differences, wanted, "{recorded} and {counted}");
    }
}

/// What one more pass over the bytes of a batch costs at the least, 32 of them by an instruction,
/// is more than the checks of a batch may gain unseen.
#[test]
fn one_more_pass_over_the_bytes_of_a_batch_is_seen() {
    let committed = committed();
    let batch_bytes = 64 << 10;
    let one_pass = batch_bytes / 32;
    for part in [
        "append/64KiB",
        "crc/64KiB",
        "produce/1x64KiB",
        "validate/64x1KiB",
    ] {
        let recorded = committed.counts[part];
        let slowed: Counts = committed
            .counts
            .iter()
            .map(|(name, count)| match name == part {
                true => (name.clone(), count + one_pass),
                false => (name.clone(), *count),
            })
            .collect();
        let told = committed.compare(&slowed);
        assert_eq!(told, [moved(part, recorded, recorded + one_pass)]);
        let by = percent(recorded, recorded + one_pass);
        assert!(by > MORE_PERCENT, "{by} %");
    }
}

#[test]
fn parts_that_come_and_go_are_told() {
    let recorded = table(&[("append", 100), ("heartbeat", 100)]);
    let differences = recorded.compare(&counts(&[("append", 100), ("fetch", 7)]));
    let wanted = [
        Difference::New {
            part: "fetch".to_owned(),
            counted: 7,
        },
        Difference::Gone {
            part: "heartbeat".to_owned(),
        },
    ];
    assert_eq!(differences, wanted);
    let told: Vec<_> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "fetch: not recorded, 7 now",
            "heartbeat: recorded, but there is no such part",
        ]
    );
    assert_eq!(
        moved("append", 200, 250).to_string(),
        "append: 200 before, 250 now (+25.0 %)"
    );
}

#[test]
fn a_table_is_read_as_it_was_written() {
    let written = table(&[("append", 100), ("fetch", 7)]);
    assert_eq!(Table::parse(&written.to_string()), Ok(written));
    let bad = [
        ("append 100", "line 1 is no row: append 100"),
        ("# a\nappend\t-1", "line 2 is no row: append\t-1"),
        ("a\t1\na\t2", "line 2: a was there before"),
    ];
    for (text, why) in bad {
        assert_eq!(Table::parse(text), Err(why.to_owned()));
    }
}

fn committed() -> Table {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.tsv");
    let text = fs::read_to_string(file).expect("the committed table");
    let table = Table::parse(&text).expect("rows alone");
    assert_eq!(table.to_string(), text, "as `--record` writes it");
    table
}
