//! Group commits of many dirty partitions, one after the other: each round appends to every
//! partition and ends when all of it is durable.

use std::rc::Rc;
use std::time::Instant;

use glommio::Task;

use crate::files::{BLOCK, Copies, Files, WRITE_MAX, align_up, bounded, filled, sync_each, write};
use crate::noise::Noise;
use crate::{Cell, Design, Figures, Result, meter};

/// Writes in flight at most, in every design.
const WRITES_IN_FLIGHT: usize = 64;
/// Writes in flight to the write-ahead log.
const WAL_WRITES_IN_FLIGHT: usize = 8;

pub async fn measure(cell: &Cell) -> Result<Figures> {
    let segment_bytes = align_up(cell.rounds * cell.bytes) + BLOCK;
    let files = Rc::new(Files::open(cell, segment_bytes as u64).await?);
    let noise = Noise::start(cell)?;
    let mut latencies_us = Vec::with_capacity(cell.rounds);
    let meter = meter(cell)?;
    match cell.design {
        Design::Wal => {
            let mut wal = Wal::new(cell, files.clone());
            for _ in 0..cell.rounds {
                let began = Instant::now();
                wal.commit().await?;
                latencies_us.push(began.elapsed().as_micros() as u64);
                wal.write_behind().await?;
            }
            wal.drain().await?;
        }
        _ => {
            for round in 0..cell.rounds {
                let began = Instant::now();
                commit(cell, &files, round).await?;
                latencies_us.push(began.elapsed().as_micros() as u64);
            }
        }
    }
    let used = meter.stop()?;
    drop(noise);
    let bytes = (cell.rounds * cell.partitions * cell.bytes) as u64;
    if let Ok(files) = Rc::try_unwrap(files) {
        files.close().await?;
    }
    Ok(Figures {
        latencies_us,
        bytes,
        used,
    })
}

/// One round without a write-ahead log.
async fn commit(cell: &Cell, files: &Files, round: usize) -> Result<()> {
    let begin = round * cell.bytes / BLOCK * BLOCK;
    let end = align_up((round + 1) * cell.bytes);
    let unit = filled(&files.segments[0], end - begin, round as u8);
    let (chained, writes) = match cell.design {
        Design::Chain => (true, cell.in_flight),
        Design::Dsync => (false, cell.in_flight),
        _ => (false, WRITES_IN_FLIGHT),
    };
    let segments = files.segments.clone();
    bounded(cell.partitions, writes, move |partition| {
        let (file, unit) = (segments[partition].clone(), unit.clone());
        async move {
            write(&file, unit, begin as u64).await?;
            if chained {
                file.fdatasync().await?;
            }
            Ok(())
        }
    })
    .await?;
    match cell.design {
        Design::File => sync_each(&files.segments, cell.in_flight).await,
        Design::Syncfs => files.syncfs().await,
        Design::Chain | Design::Dsync | Design::Wal | Design::Unsynced => Ok(()),
    }
}

/// A write-ahead log in two halves: while one fills, the segments that the other covers are
/// written and synced behind it.
struct Wal<'a> {
    cell: &'a Cell,
    files: Rc<Files>,
    /// One partition's bytes of a round, copied into the log's buffers.
    unit: Rc<Vec<u8>>,
    copies: Rc<Copies>,
    at: u64,
    rounds: usize,
    rounds_behind: usize,
    behind: Option<Task<Result<()>>>,
}

impl<'a> Wal<'a> {
    fn new(cell: &'a Cell, files: Rc<Files>) -> Self {
        Self {
            cell,
            files,
            unit: Rc::new(vec![1; cell.bytes]),
            copies: Rc::default(),
            at: 0,
            rounds: 0,
            rounds_behind: 0,
            behind: None,
        }
    }

    /// Copies every partition's bytes into large writes to the log and syncs it once.
    async fn commit(&mut self) -> Result<()> {
        let wal = self.files.wal.clone().ok_or("no write-ahead log")?;
        let total = align_up(self.cell.bytes * self.cell.partitions);
        if self.at + total as u64 > self.files.wal_bytes {
            self.at = 0;
        }
        let begin = self.at;
        self.at += total as u64;
        self.rounds += 1;
        let pieces = total.div_ceil(WRITE_MAX);
        let (unit, copies) = (self.unit.clone(), self.copies.clone());
        bounded(pieces, WAL_WRITES_IN_FLIGHT, move |piece| {
            let offset = piece * WRITE_MAX;
            let (wal, unit, copies) = (wal.clone(), unit.clone(), copies.clone());
            let bytes = WRITE_MAX.min(total - offset);
            async move {
                copies
                    .write(&wal, &unit, bytes, begin + offset as u64)
                    .await
            }
        })
        .await?;
        match &self.files.wal {
            Some(wal) => Ok(wal.fdatasync().await?),
            None => Ok(()),
        }
    }

    /// When half of the log is full, starts to write the segments; waits for the other half.
    async fn write_behind(&mut self) -> Result<()> {
        let round_bytes = align_up(self.cell.bytes * self.cell.partitions) as u64;
        let filled = (self.rounds - self.rounds_behind) as u64 * round_bytes;
        if filled < self.files.wal_bytes / 2 {
            return Ok(());
        }
        self.start_behind().await
    }

    async fn start_behind(&mut self) -> Result<()> {
        if let Some(running) = self.behind.take() {
            running.await?;
        }
        let begin = self.rounds_behind * self.cell.bytes / BLOCK * BLOCK;
        let end = align_up(self.rounds * self.cell.bytes);
        self.rounds_behind = self.rounds;
        if begin < end {
            let (files, in_flight) = (self.files.clone(), self.cell.in_flight);
            self.behind = Some(glommio::spawn_local(async move {
                write_segments(&files, begin, end, in_flight).await
            }));
        }
        Ok(())
    }

    async fn drain(mut self) -> Result<()> {
        self.start_behind().await?;
        match self.behind.take() {
            Some(running) => running.await,
            None => Ok(()),
        }
    }
}

/// What lies between `begin` and `end` of every segment, written from memory with O_DSYNC.
async fn write_segments(files: &Files, begin: usize, end: usize, in_flight: usize) -> Result<()> {
    let unit = filled(&files.segments[0], WRITE_MAX.min(end - begin), 1);
    let last = filled(&files.segments[0], (end - begin - 1) % unit.len() + 1, 1);
    let segments = files.segments.clone();
    bounded(files.segments.len(), in_flight, move |partition| {
        let (file, unit, last) = (segments[partition].clone(), unit.clone(), last.clone());
        async move {
            let mut at = begin;
            while at < end {
                let piece = if end - at > unit.len() { &unit } else { &last };
                write(&file, piece.clone(), at as u64).await?;
                at += piece.len();
            }
            Ok(())
        }
    })
    .await
}
