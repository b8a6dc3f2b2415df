//! What the units of logs take in memory, whoever holds them.

use super::*;
use crate::base::limits::OVERDRAWN_READ_BYTES_MAX;

const MIB: usize = 1 << 20;

/// Returns once all that was appended is durable.
async fn durable(log: &Rc<Log>) {
    while log.acknowledged() < log.end() {
        crate::runtime::Timer::new(std::time::Duration::from_millis(1)).await;
    }
}

#[test]
fn idle_logs_keep_no_unit_beyond_the_budget() {
    let home = home(Faults::default());
    let directory = home.directory.path().to_owned();
    let limits = StorageLimits {
        tail_bytes_max: 0,
        ..limits()
    };
    on_shard(home.directory.clone(), limits, async move |storage| {
        let mut logs = Vec::new();
        for number in 0..8 {
            let path = directory.join(format!("m-{number}"));
            let (log, _) = open(&storage, &path, config(), None, false);
            logs.push(log);
        }
        // Each append begins in the block in which the one before ended.
        for round in 0..20 {
            for log in &logs {
                append(log, &batch(round, 1, 700)).await.expect("room");
            }
            for log in &logs {
                durable(log).await;
            }
            assert_eq!(storage.tail_bytes(), 0, "round {round}");
            assert_eq!(storage.units.live_bytes(), 0, "round {round}");
        }
        for log in &logs {
            assert_eq!(read_all(log, Offset(0), MIB).await.len(), 20);
        }
    });
}

#[test]
fn a_unit_counts_with_all_its_memory_and_shrinks_when_little_comes() {
    let home = home(Faults::default());
    let path = home.log.clone();
    on_shard(home.directory.clone(), limits(), async move |storage| {
        let config = LogConfig {
            segment_bytes: 64 << 20,
            ..config()
        };
        let (log, _) = open(&storage, &path, config, None, false);
        for seed in 0..200 {
            append(&log, &batch(seed, 4, 25_000)).await.expect("room");
        }
        durable(&log).await;
        assert_eq!(storage.tail_bytes(), storage.units.live_bytes());
        assert!(storage.tail_bytes() <= limits().tail_bytes_max);
        for seed in 0..100 {
            append(&log, &batch(seed, 1, 100)).await.expect("room");
            durable(&log).await;
        }
        let before = storage.units.live_bytes();
        for seed in 0..10 {
            append(&log, &batch(seed, 1, 100)).await.expect("room");
            durable(&log).await;
        }
        let each = (storage.units.live_bytes() as i64 - before as i64) / 10;
        assert!(each <= 16 << 10, "{each} bytes for an append of 170");
    });
}

#[test]
fn replies_that_nobody_takes_hold_a_bounded_part_of_memory() {
    let home = home(Faults::default());
    let path = home.log.clone();
    let limits = StorageLimits {
        tail_bytes_max: 8 * MIB,
        ..limits()
    };
    on_shard(home.directory.clone(), limits, async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        let (mut held, mut small) = (Vec::new(), 0);
        for seed in 0..600 {
            let offset = append(&log, &batch(seed, 4, 25_000)).await.expect("room");
            durable(&log).await;
            // A consumer that asked for all there is, and never reads the reply.
            let range = ReadRange {
                from: offset,
                upper: log.end(),
                bytes_max: MIB,
                at_least_one: true,
            };
            let ReadPlan::Memory(chunks) = log.read(range).expect("a read") else {
                panic!("the newest batch is in memory");
            };
            small += usize::from(storage.is_overdrawn());
            held.push(chunks);
            let live = storage.units.live_bytes();
            // Two and a half times the budget, and what is being filled and written.
            assert!(live <= 22 * MIB, "{live} bytes after {seed} appends");
        }
        assert!(small > 0, "the bound was never met");
        let range = ReadRange {
            from: log.end().plus(-100),
            upper: log.end(),
            bytes_max: MIB,
            at_least_one: true,
        };
        let ReadPlan::Memory(chunks) = log.read(range).expect("a read") else {
            panic!("the newest batches are in memory");
        };
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        assert!(
            (1..=OVERDRAWN_READ_BYTES_MAX.max(101_000)).contains(&bytes),
            "{bytes}"
        );
        // Once they are read, or given up, reads are as large as before.
        held.clear();
        drop(chunks);
        let ReadPlan::Memory(chunks) = log.read(range).expect("a read") else {
            panic!("the newest batches are in memory");
        };
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        assert!(bytes > 500_000, "{bytes}");
    });
}

#[test]
fn a_refused_batch_leaves_no_unit_behind() {
    let home = home(Faults::default());
    let path = home.log.clone();
    let limits = StorageLimits {
        tail_bytes_max: 0,
        ..limits()
    };
    on_shard(home.directory.clone(), limits, async move |storage| {
        let (log, _) = open(&storage, &path, config(), None, false);
        let large = batch(1, 1, 300_000);
        for seed in 0..3 {
            append(&log, &batch(seed, 1, 700)).await.expect("room");
            durable(&log).await;
            if !log.has_room(incoming(large.len())) {
                log.prepare(incoming(large.len())).await.expect("room");
            }
            let end = log.end();
            let refused = log.append(&large, NOW, Some(large.clone()), |_, _| Err("refused"));
            assert_eq!(refused, Err("refused"));
            assert_eq!((storage.units.live_bytes(), log.end()), (0, end));
        }
        // A unit that holds others stays.
        append(&log, &batch(3, 1, 700)).await.expect("room");
        let refused = log.append(&batch(4, 1, 10), NOW, None, |_, _| Err("refused"));
        assert_eq!(refused, Err("refused"));
        durable(&log).await;
        assert_eq!(read_all(&log, Offset(0), 10_000).await.len(), 4);
    });
}
