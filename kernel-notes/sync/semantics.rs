//! What the designs rely on: that a commit flushes the device's cache whenever data was written,
//! and that what was synced on fresh blocks is there, with its size, after a power loss.

use std::fs;

use crate::files::{BLOCK, Files, filled, sync_each, write};
use crate::machine::device_counters;
use crate::{Cell, Design, Result};

/// Rewrites one block of each partition and syncs, again and again, and counts the commits in
/// which the device was sent no flush: after those a power loss may take the data.
pub async fn flushes(cell: &Cell) -> Result<()> {
    let files = Files::open(cell, BLOCK as u64).await?;
    let mut without = 0;
    for round in 0..cell.rounds {
        let (_, mut before) = device_counters(&cell.device)?;
        for segment in files.segments.iter() {
            write(segment, filled(segment, BLOCK, round as u8), 0).await?;
        }
        if cell.design != Design::Dsync {
            // Only flushes that begin after the last write cover it.
            (_, before) = device_counters(&cell.device)?;
        }
        match cell.design {
            Design::Dsync | Design::Unsynced => {}
            Design::Syncfs => files.syncfs().await?,
            _ => sync_each(&files.segments, cell.in_flight).await?,
        }
        let (_, after) = device_counters(&cell.device)?;
        without += usize::from(before == after);
    }
    println!(
        "{{\"what\":\"flushes\",\"design\":\"{:?}\",\"partitions\":{},\"commits\":{},\
         \"commits_without_flush\":{without}}}",
        cell.design, cell.partitions, cell.rounds
    );
    files.close().await
}

/// The size to which `leave` preallocates each file, and the block that it writes there.
const GROWN_BYTES: u64 = 32 * BLOCK as u64;
const LEFT_AT: u64 = 20 * BLOCK as u64;
const LEFT: u8 = 0xA5;

/// Preallocates more of each file, writes one block there and syncs it, each file as the design
/// says; the caller then shuts the file system down without its log, as a power loss would. The
/// files and their first blocks are durable before.
pub async fn leave(cell: &Cell) -> Result<()> {
    let files = Files::open(cell, 16 * BLOCK as u64).await?;
    for segment in files.segments.iter() {
        segment.pre_allocate(GROWN_BYTES, false).await?;
        write(segment, filled(segment, BLOCK, LEFT), LEFT_AT).await?;
        if cell.design == Design::File {
            segment.fdatasync().await?;
        }
    }
    if cell.design == Design::Syncfs {
        files.syncfs().await?;
    }
    println!("{{\"what\":\"left\",\"design\":\"{:?}\"}}", cell.design);
    Ok(())
}

/// How many partitions hold the block that `leave` wrote, and their size.
pub fn check(cell: &Cell) -> Result<()> {
    let dir = format!("{:?}-{}-{}", cell.blocks, cell.partitions, 16 * BLOCK);
    let mut whole = 0;
    for partition in 0..cell.partitions {
        let path = cell.dir.join(&dir).join(format!("{partition:05}.log"));
        let found = fs::read(path)?;
        let left = found.get(LEFT_AT as usize..LEFT_AT as usize + BLOCK);
        let intact = left.is_some_and(|block| block.iter().all(|byte| *byte == LEFT));
        whole += usize::from(intact && found.len() as u64 == GROWN_BYTES);
    }
    println!(
        "{{\"what\":\"power loss\",\"design\":\"{:?}\",\"partitions\":{},\"whole\":{whole}}}",
        cell.design, cell.partitions
    );
    Ok(())
}
