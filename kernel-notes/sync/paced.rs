//! An offered load: small appends arrive at a fixed pace for partitions taken at random, and each
//! is acknowledged when it is durable. What arrives for a partition while its write is in flight
//! becomes its next write, as in the appender.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use glommio::Task;
use glommio::io::{DmaBuffer, DmaFile};

use crate::files::{BLOCK, Copies, Files, WRITE_MAX, align_up, bounded, filled, write};
use crate::noise::Noise;
use crate::{Cell, Design, Figures, Result, meter};

/// How long appends arrive.
const ARRIVALS: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Partition {
    /// When each append arrived that no write has taken.
    waiting: Vec<Instant>,
    /// Where the next append goes in the segment.
    at: usize,
    /// From where the segment has not been written yet, behind a write-ahead log.
    behind_from: usize,
    writing: bool,
}

/// The shard's dirty list and what each partition waits for.
#[derive(Default)]
struct Shard {
    partitions: Vec<Partition>,
    dirty: VecDeque<usize>,
    arrived_all: bool,
    wakers: Vec<Waker>,
    latencies_us: Vec<u64>,
    units: HashMap<usize, Rc<DmaBuffer>>,
}

impl Shard {
    fn arrive(&mut self, index: usize, at: Instant) {
        let partition = &mut self.partitions[index];
        partition.waiting.push(at);
        if partition.waiting.len() == 1 && !partition.writing {
            self.dirty.push_back(index);
        }
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    fn acknowledge(&mut self, arrivals: Vec<Instant>) {
        let done = arrivals.into_iter().map(|at| at.elapsed().as_micros());
        self.latencies_us.extend(done.map(|us| us as u64));
    }

    fn unit(&mut self, file: &DmaFile, bytes: usize) -> Rc<DmaBuffer> {
        let unit = self.units.entry(bytes);
        unit.or_insert_with(|| filled(file, bytes, 1)).clone()
    }
}

/// The next dirty partition, or nothing when the last append has been taken.
async fn next_dirty(shard: &RefCell<Shard>) -> Option<usize> {
    poll_fn(|context| {
        let mut shard = shard.borrow_mut();
        match shard.dirty.pop_front() {
            Some(index) => Poll::Ready(Some(index)),
            None if shard.arrived_all => Poll::Ready(None),
            None => {
                shard.wakers.push(context.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}

pub async fn measure(cell: &Cell) -> Result<Figures> {
    let bytes = cell.rate * ARRIVALS.as_secs() as usize * cell.bytes;
    let segment_bytes = align_up(bytes / cell.partitions * 2) + 64 * BLOCK;
    let files = Rc::new(Files::open(cell, segment_bytes as u64).await?);
    let noise = Noise::start(cell)?;
    let shard = Rc::new(RefCell::new(Shard::default()));
    shard
        .borrow_mut()
        .partitions
        .resize_with(cell.partitions, Partition::default);
    let meter = meter(cell)?;
    let workers: Vec<_> = match cell.design {
        Design::Wal => vec![glommio::spawn_local(log(
            cell.clone(),
            shard.clone(),
            files.clone(),
        ))],
        _ => (0..cell.in_flight)
            .map(|_| glommio::spawn_local(append(cell.clone(), shard.clone(), files.clone())))
            .collect(),
    };
    arrivals(cell, &shard).await;
    for worker in workers {
        worker.await?;
    }
    let used = meter.stop()?;
    drop(noise);
    let latencies_us = std::mem::take(&mut shard.borrow_mut().latencies_us);
    Ok(Figures {
        bytes: (latencies_us.len() * cell.bytes) as u64,
        latencies_us,
        used,
    })
}

async fn arrivals(cell: &Cell, shard: &RefCell<Shard>) {
    let began = Instant::now();
    let (mut sent, mut random) = (0, 0x9E37_79B9_7F4A_7C15_u64);
    while began.elapsed() < ARRIVALS {
        let due = (began.elapsed().as_secs_f64() * cell.rate as f64) as usize;
        let now = Instant::now();
        for _ in sent..due {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let partition = random as usize % cell.partitions;
            shard.borrow_mut().arrive(partition, now);
        }
        sent = due;
        shard.borrow_mut().wake();
        glommio::timer::sleep(TICK).await;
    }
    let mut shard = shard.borrow_mut();
    shard.arrived_all = true;
    shard.wake();
}

/// One of the writes in flight: a dirty partition's waiting appends, made durable in its segment.
async fn append(cell: Cell, shard: Rc<RefCell<Shard>>, files: Rc<Files>) -> Result<()> {
    while let Some(index) = next_dirty(&shard).await {
        let file = files.segments[index].clone();
        let (begin, unit, arrivals) = {
            let mut shard = shard.borrow_mut();
            let partition = &mut shard.partitions[index];
            partition.writing = true;
            let arrivals = std::mem::take(&mut partition.waiting);
            let begin = partition.at / BLOCK * BLOCK;
            partition.at += arrivals.len() * cell.bytes;
            let end = align_up(partition.at);
            (begin, shard.unit(&file, end - begin), arrivals)
        };
        write(&file, unit, begin as u64).await?;
        if cell.design == Design::File {
            file.fdatasync().await?;
        }
        let mut shard = shard.borrow_mut();
        shard.acknowledge(arrivals);
        shard.partitions[index].writing = false;
        if !shard.partitions[index].waiting.is_empty() {
            shard.dirty.push_back(index);
        }
    }
    Ok(())
}

/// Takes all that waits into one write to the log and one sync, again and again.
async fn log(cell: Cell, shard: Rc<RefCell<Shard>>, files: Rc<Files>) -> Result<()> {
    let wal = files.wal.clone().ok_or("no write-ahead log")?;
    let (append, copies) = (Rc::new(vec![1; cell.bytes]), Rc::new(Copies::default()));
    let (mut at, mut since_behind) = (0, 0);
    let mut behind: Option<Task<Result<()>>> = None;
    while let Some(first) = next_dirty(&shard).await {
        let arrivals = take_all(&cell, &mut shard.borrow_mut(), first);
        let total = align_up(arrivals.len() * cell.bytes);
        if at + total as u64 > files.wal_bytes {
            at = 0;
        }
        let (begin, file, reused, source) = (at, wal.clone(), copies.clone(), append.clone());
        bounded(total.div_ceil(WRITE_MAX), 8, move |piece| {
            let offset = piece * WRITE_MAX;
            let (file, reused, source) = (file.clone(), reused.clone(), source.clone());
            let (bytes, place) = (WRITE_MAX.min(total - offset), begin + offset as u64);
            async move { reused.write(&file, &source, bytes, place).await }
        })
        .await?;
        wal.fdatasync().await?;
        shard.borrow_mut().acknowledge(arrivals);
        at += total as u64;
        since_behind += total as u64;
        if since_behind >= files.wal_bytes / 2 {
            if let Some(running) = behind.take() {
                running.await?;
            }
            behind = Some(write_behind(&cell, &shard, &files));
            since_behind = 0;
        }
    }
    if let Some(running) = behind.take() {
        running.await?;
    }
    write_behind(&cell, &shard, &files).await
}

fn take_all(cell: &Cell, shard: &mut Shard, first: usize) -> Vec<Instant> {
    let mut arrivals = Vec::new();
    let mut next = Some(first);
    while let Some(index) = next {
        let partition = &mut shard.partitions[index];
        partition.at += partition.waiting.len() * cell.bytes;
        arrivals.append(&mut partition.waiting);
        next = shard.dirty.pop_front();
    }
    arrivals
}

/// Every partition's part of the log, written to its segment with O_DSYNC.
fn write_behind(cell: &Cell, shard: &RefCell<Shard>, files: &Files) -> Task<Result<()>> {
    let mut shard = shard.borrow_mut();
    let mut writes = Vec::new();
    for (index, file) in files.segments.iter().enumerate() {
        let partition = &mut shard.partitions[index];
        let mut begin = partition.behind_from / BLOCK * BLOCK;
        let end = align_up(partition.at);
        let any = partition.at > partition.behind_from;
        partition.behind_from = partition.at;
        while any && begin < end {
            let bytes = WRITE_MAX.min(end - begin);
            writes.push((file.clone(), shard.unit(file, bytes), begin as u64));
            begin += bytes;
        }
    }
    let in_flight = cell.in_flight;
    glommio::spawn_local(async move {
        bounded(writes.len(), in_flight, move |index| {
            let (file, unit, at) = writes[index].clone();
            async move { write(&file, unit, at).await }
        })
        .await
    })
}
