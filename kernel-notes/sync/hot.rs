//! A few partitions that append all the time. Each append is acknowledged when it is durable;
//! a sync serves every append that had completed when it began.

use std::cell::{Cell as Slot, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Instant;

use glommio::Task;
use glommio::io::{DmaBuffer, DmaFile};
use glommio::sync::Semaphore;

use crate::files::{Copies, Files, WRITE_MAX, bounded, filled, write};
use crate::noise::Noise;
use crate::{Cell, Design, Figures, Result, meter};

/// Who waits for which sync. Tickets count appends; a sync settles all tickets handed out before.
#[derive(Default)]
struct Group {
    asked: Slot<u64>,
    done: Slot<u64>,
    closed: Slot<bool>,
    failed: Slot<bool>,
    wakers: RefCell<Vec<Waker>>,
}

impl Group {
    fn wake(&self) {
        for waker in self.wakers.take() {
            waker.wake();
        }
    }

    async fn until(&self, settled: impl Fn(&Self) -> bool) {
        poll_fn(|context| {
            if settled(self) {
                return Poll::Ready(());
            }
            self.wakers.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits for the next sync that begins after this call.
    async fn durable(&self) -> Result<()> {
        let ticket = self.asked.get() + 1;
        self.asked.set(ticket);
        self.wake();
        self.until(|group| group.done.get() >= ticket || group.failed.get())
            .await;
        match self.failed.get() {
            true => Err("a sync failed".into()),
            false => Ok(()),
        }
    }

    /// Syncs whenever somebody waits, until the group is closed.
    async fn serve<F: AsyncFnMut(u64) -> Result<()>>(&self, mut sync: F) -> Result<()> {
        loop {
            self.until(|group| group.asked.get() > group.done.get() || group.closed.get())
                .await;
            let (from, to) = (self.done.get(), self.asked.get());
            if from == to {
                return Ok(());
            }
            let result = sync(to - from).await;
            self.failed.set(result.is_err());
            self.done.set(to);
            self.wake();
            result?;
        }
    }

    fn close(&self) {
        self.closed.set(true);
        self.wake();
    }
}

pub async fn measure(cell: &Cell) -> Result<Figures> {
    let segment_bytes = (cell.rounds * cell.bytes) as u64;
    let files = Rc::new(Files::open(cell, segment_bytes).await?);
    let noise = Noise::start(cell)?;
    let (groups, servers) = start_servers(cell, &files);
    let latencies_us = Rc::new(RefCell::new(Vec::new()));
    let meter = meter(cell)?;
    let mut lanes = Vec::new();
    for partition in 0..cell.partitions {
        let next = Rc::new(Slot::new(0));
        let room = Room::new(cell);
        for _ in 0..cell.lanes {
            lanes.push(glommio::spawn_local(lane(Lane {
                design: cell.design,
                room: room.clone(),
                appends: cell.rounds,
                next: next.clone(),
                file: files.segments[partition].clone(),
                unit: filled(&files.segments[0], cell.bytes, 1),
                group: groups[partition % groups.len()].clone(),
                latencies_us: latencies_us.clone(),
            })));
        }
    }
    for lane in lanes {
        lane.await?;
    }
    groups.iter().for_each(|group| group.close());
    for server in servers {
        server.await?;
    }
    let used = meter.stop()?;
    drop(noise);
    Ok(Figures {
        latencies_us: latencies_us.take(),
        bytes: segment_bytes * cell.partitions as u64,
        used,
    })
}

type Servers = (Vec<Rc<Group>>, Vec<Task<Result<()>>>);

fn start_servers(cell: &Cell, files: &Rc<Files>) -> Servers {
    let count = match cell.design {
        Design::File => cell.partitions,
        _ => 1,
    };
    let groups: Vec<_> = (0..count).map(|_| Rc::new(Group::default())).collect();
    let servers = groups
        .iter()
        .enumerate()
        .map(|(index, group)| {
            let (group, files, cell) = (group.clone(), files.clone(), cell.clone());
            glommio::spawn_local(async move {
                let file = files.segments[index].clone();
                match cell.design {
                    Design::File => group.serve(async |_| Ok(file.fdatasync().await?)).await,
                    Design::Syncfs => group.serve(async |_| files.syncfs().await).await,
                    Design::Wal => serve_wal(&cell, &group, &files).await,
                    Design::Chain | Design::Dsync | Design::Unsynced => Ok(()),
                }
            })
        })
        .collect();
    (groups, servers)
}

/// Preallocates a segment step by step, before the appends that need the room.
struct Room {
    step_bytes: u64,
    /// Held while the segment grows: no append passes before it has room.
    growing: Semaphore,
    allocated: Slot<u64>,
}

impl Room {
    fn new(cell: &Cell) -> Rc<Self> {
        Rc::new(Self {
            step_bytes: (cell.step_kib as u64) << 10,
            growing: Semaphore::new(1),
            allocated: Slot::new(0),
        })
    }

    async fn make(&self, file: &DmaFile, end: u64) -> Result<()> {
        if self.step_bytes == 0 || end <= self.allocated.get() {
            return Ok(());
        }
        let _permit = self.growing.acquire_permit(1).await?;
        if end > self.allocated.get() {
            let grown = end.max(self.allocated.get() + self.step_bytes);
            file.pre_allocate(grown, false).await?;
            self.allocated.set(grown);
        }
        Ok(())
    }
}

struct Lane {
    design: Design,
    room: Rc<Room>,
    appends: usize,
    next: Rc<Slot<usize>>,
    file: Rc<DmaFile>,
    unit: Rc<DmaBuffer>,
    group: Rc<Group>,
    latencies_us: Rc<RefCell<Vec<u64>>>,
}

async fn lane(lane: Lane) -> Result<()> {
    while lane.next.get() < lane.appends {
        let append = lane.next.get();
        lane.next.set(append + 1);
        let began = Instant::now();
        if lane.design != Design::Wal {
            let at = (append * lane.unit.len()) as u64;
            let end = at + lane.unit.len() as u64;
            lane.room.make(&lane.file, end).await?;
            write(&lane.file, lane.unit.clone(), at).await?;
        }
        match lane.design {
            Design::Chain => lane.file.fdatasync().await?,
            Design::Dsync | Design::Unsynced => {}
            _ => lane.group.durable().await?,
        }
        let latency_us = began.elapsed().as_micros() as u64;
        lane.latencies_us.borrow_mut().push(latency_us);
    }
    Ok(())
}

/// Copies what waits into the log, syncs it, and writes the segments when half a log is full.
async fn serve_wal(cell: &Cell, group: &Group, files: &Rc<Files>) -> Result<()> {
    let wal = files.wal.clone().ok_or("no write-ahead log")?;
    let unit = filled(&wal, cell.bytes, 1);
    let copies = Rc::new(Copies::default());
    let (mut at, mut appended, mut behind_to) = (0, 0, 0);
    let mut behind: Option<Task<Result<()>>> = None;
    group
        .serve(async |appends| {
            let bytes = appends * cell.bytes as u64;
            if at + bytes > files.wal_bytes {
                at = 0;
            }
            let (begin, log, source, reused) = (at, wal.clone(), unit.clone(), copies.clone());
            bounded(appends as usize, 8, move |append| {
                let (log, source, reused) = (log.clone(), source.clone(), reused.clone());
                let place = begin + (append * source.len()) as u64;
                async move {
                    reused
                        .write(&log, source.as_bytes(), source.len(), place)
                        .await
                }
            })
            .await?;
            wal.fdatasync().await?;
            at += bytes;
            appended += bytes;
            if appended - behind_to >= files.wal_bytes / 2 {
                if let Some(running) = behind.take() {
                    running.await?;
                }
                let share = cell.partitions as u64;
                behind = Some(spawn_behind(files, behind_to / share, appended / share));
                behind_to = appended;
            }
            Ok(())
        })
        .await?;
    if let Some(running) = behind.take() {
        running.await?;
    }
    let share = cell.partitions as u64;
    spawn_behind(files, behind_to / share, appended / share).await
}

/// Every partition's share of what the log covers, in large writes.
fn spawn_behind(files: &Rc<Files>, begin: u64, end: u64) -> Task<Result<()>> {
    let files = files.clone();
    glommio::spawn_local(async move {
        let begin = begin.next_multiple_of(WRITE_MAX as u64);
        let end = end.next_multiple_of(WRITE_MAX as u64);
        let unit = filled(&files.segments[0], WRITE_MAX, 1);
        let pieces = ((end - begin) as usize / WRITE_MAX) * files.segments.len();
        let segments = files.segments.clone();
        bounded(pieces, 2 * segments.len(), move |piece| {
            let file = segments[piece % segments.len()].clone();
            let at = begin + (piece / segments.len() * WRITE_MAX) as u64;
            let unit = unit.clone();
            async move { write(&file, unit, at).await }
        })
        .await
    })
}
