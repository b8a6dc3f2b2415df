//! The log: appends to the open unit, plans of reads, and searches in indexes.
//!
//! An append copies a batch of a producer into the unit and computes its CRC on the way; nothing of
//! the batch is checked here. The writes to the disk that follow are waited for and not measured. A
//! plan of a read takes hold of what is in memory; nothing is sent.

use std::cell::Cell;
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use bytes::Bytes;
use millrace::base::ids::{LeaderEpoch, Offset};
use millrace::record::{BatchHeader, Codec};
use millrace::runtime::TaskQueue;
use millrace::storage::directory::LogDirectory;
use millrace::storage::index::{IndexTail, lookup_in_file};
use millrace::storage::lifecycle::create_files;
use millrace::storage::log::{Assigned, Incoming, Log, LogConfig};
use millrace::storage::reader::{ReadPlan, ReadRange};
use millrace::storage::recovery::{RecoveryInput, recover};
use millrace::storage::retention::Retention;
use millrace::storage::shard::{ShardStorage, StorageLimits};

use super::{Meter, NOW, Part, batch};

/// What a log may keep on disk, in bytes: benches may run for long.
pub const KEPT_BYTES_MAX: u64 = 64 << 20;
pub const SEGMENT_BYTES: u64 = 32 << 20;
const INDEX_INTERVAL_BYTES: u64 = 4096;
/// Entries of the index that is searched: that of a segment of 256 MiB at Kafka's default interval.
const INDEX_ENTRIES: i64 = 64 << 10;
/// Offsets that the batch of an index entry has.
const OFFSETS_OF_ENTRY: i64 = 5;

/// Storage whose tails keep so many bytes.
pub fn storage(directory: &LogDirectory, tail_bytes_max: usize) -> Rc<ShardStorage> {
    let limits = StorageLimits {
        tail_bytes_max,
        read_cache_bytes_max: 8 << 20,
        writes_max: 64,
        open_logs_max: 1024,
        open_reads_max: 16,
        journal: None,
    };
    ShardStorage::new(directory.clone(), limits, TaskQueue::Storage)
}

fn log(storage: &Rc<ShardStorage>, name: &str) -> Rc<Log> {
    let directory = storage.directory();
    let path = directory.path().join(name);
    create_files(directory, &path, "", Offset(0)).expect("a new log");
    let input = RecoveryInput {
        path: path.clone(),
        point: None,
        clean: false,
        identity: String::new(),
        index_interval_bytes: INDEX_INTERVAL_BYTES,
        now: NOW,
    };
    let recovered = recover(directory, &input, &mut |_| {}).expect("an empty log");
    let config = LogConfig {
        segment_bytes: SEGMENT_BYTES,
        segment_ms: i64::MAX,
        segment_index_bytes: 10 << 20,
        index_interval_bytes: INDEX_INTERVAL_BYTES,
        syncs_writes: true,
    };
    Log::open_recovered(storage, path, config, recovered)
}

/// Sees to it that the next so many bytes find room.
pub async fn make_room(log: &Rc<Log>, bytes: usize) {
    let incoming = Incoming {
        bytes,
        timestamp: NOW,
        now: NOW,
    };
    if !log.has_room(incoming) {
        log.prepare(incoming).await.expect("room on the disk");
    }
}

/// Waits until all is durable, and deletes what is too much on disk.
pub async fn settle(log: &Rc<Log>) {
    log.make_durable(log.end()).await.expect("a sound disk");
    if log.size_bytes() > KEPT_BYTES_MAX + SEGMENT_BYTES {
        let retention = Retention {
            retention_bytes: Some(KEPT_BYTES_MAX),
            log_start: log.start(),
            ..Retention::default()
        };
        let retained = log.retain(retention, log.durable(), NOW).await;
        retained.expect("a sound disk");
        for path in log.take_deleted() {
            std::fs::remove_file(path).expect("a sound disk");
        }
    }
}

fn append(log: &Rc<Log>, batch: &Bytes, header: &BatchHeader) {
    let assigned = Assigned {
        offsets: i64::from(header.records_count),
        leader_epoch: LeaderEpoch(3),
        max_timestamp: header.max_timestamp,
    };
    let appended = log.append(batch, NOW, Some(batch.clone()), |_, crc| {
        (crc == header.crc).then_some(assigned).ok_or(())
    });
    black_box(appended.expect("a right CRC"));
}

fn appends(name: &'static str, log: &Rc<Log>, batch: Bytes, calls: u64) -> Part {
    let header = BatchHeader::parse(&batch).expect("a batch");
    let (log, bytes) = (Rc::clone(log), batch.len());
    Part::metered(name, calls, bytes as u64, move |meter: Rc<dyn Meter>| {
        let (log, batch) = (Rc::clone(&log), batch.clone());
        async move {
            make_room(&log, bytes * calls as usize).await;
            meter.start();
            for _ in 0..calls {
                append(&log, &batch, &header);
            }
            meter.stop();
            settle(&log).await;
        }
    })
}

/// A log that holds so many batches; each time so many of them were written together.
async fn filled(log: Rc<Log>, batch: &Bytes, batches: usize, together: usize) -> Rc<Log> {
    let header = BatchHeader::parse(batch).expect("a batch");
    for _ in 0..batches / together {
        make_room(&log, batch.len() * together).await;
        (0..together).for_each(|_| append(&log, batch, &header));
        settle(&log).await;
    }
    log
}

/// Plans reads that begin at ever other offsets of a log's first quarter.
fn plans(name: &'static str, log: Rc<Log>, from_tail: bool) -> Part {
    const CALLS: u64 = 32;
    let next = Cell::new(0);
    let quarter = log.end().0 / 4;
    Part::new(name, CALLS, 0, move || {
        for _ in 0..CALLS {
            next.set((next.get() + 7919) % quarter);
            let range = ReadRange {
                from: Offset(next.get()),
                upper: log.durable(),
                bytes_max: 1 << 20,
                at_least_one: true,
            };
            let plan = log.read(range).expect("within the log");
            assert_eq!(matches!(plan, ReadPlan::Memory(_)), from_tail);
            black_box(plan);
        }
    })
}

fn index() -> IndexTail {
    let mut index = IndexTail::new(Offset(0));
    for entry in 0..INDEX_ENTRIES + 1 {
        let last = Offset((entry + 1) * OFFSETS_OF_ENTRY - 1);
        let (position, bytes) = (entry as u32 * 4200, 4200);
        index.append(last, position, bytes, NOW, INDEX_INTERVAL_BYTES);
    }
    index
}

fn searches(directory: &LogDirectory) -> [Part; 2] {
    const CALLS: u64 = 64;
    let offsets = |next: &Cell<i64>| {
        next.set((next.get() + 104_729) % (INDEX_ENTRIES * OFFSETS_OF_ENTRY));
        next.get()
    };
    let (tail, next) = (index(), Cell::new(0));
    let path = directory.path().join("searched.index");
    let file = File::create_new(&path).expect("a new file");
    file.write_all_at(&tail.to_flush()[0].1, 0)
        .expect("room on the disk");
    let file = File::open(path).expect("the file just made");
    let in_memory = Part::new("index-search/in-memory", CALLS, 0, move || {
        for _ in 0..CALLS {
            black_box(tail.lookup(Offset(offsets(&next))));
        }
    });
    let next = Cell::new(0);
    let in_file = Part::new("index-search/in-file", CALLS, 0, move || {
        for _ in 0..CALLS {
            let found = lookup_in_file(&file, INDEX_ENTRIES as u32, offsets(&next), 0);
            black_box(found.expect("a readable file"));
        }
    });
    [in_memory, in_file]
}

pub async fn parts(directory: &LogDirectory) -> Vec<Part> {
    let (large, small) = (batch(Codec::None, 64, 1024), batch(Codec::None, 1, 1024));
    // Appends drop the oldest units of their shard's tails: not those that are read here.
    let written = storage(directory, 8 << 20);
    let wide = storage(directory, 64 << 20);
    let narrow = storage(directory, 64 << 10);
    let appended = [
        appends(
            "append/64KiB",
            &log(&written, "appends-of-64KiB"),
            large.clone(),
            8,
        ),
        appends(
            "append/1KiB",
            &log(&written, "appends-of-1KiB"),
            small.clone(),
            64,
        ),
    ];
    let of_large = filled(log(&wide, "reads-of-64KiB"), &large, 64, 8).await;
    let of_small = filled(log(&wide, "reads-of-1KiB"), &small, 4096, 256).await;
    let cold = filled(log(&narrow, "cold-reads"), &small, 4096, 256).await;
    let planned = [
        plans("read-plan/1MiB-of-64KiB-batches", of_large, true),
        plans("read-plan/1MiB-of-1KiB-batches", of_small, true),
        plans("read-plan/not-in-memory", cold, false),
    ];
    let parts = appended.into_iter().chain(planned);
    parts.chain(searches(directory)).collect()
}
