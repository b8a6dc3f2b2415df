//! Reads standard input ahead of the client, on a thread of its own: many short lines at a time,
//! one that is long by itself, so that what waits is bounded in bytes. It never waits for more
//! input while it holds a line.

use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::SyncSender;

use crate::cli::CliError;

/// A line that is longer is an error, and no reason to take all memory.
pub(super) const LINE_BYTES_MAX: u64 = 100 << 20;

/// A batch is handed over when it has as many, so it has at most these and one more line.
pub(super) const BATCH_BYTES: usize = 256 << 10;

/// Batches that wait for the client, beside the one that it has and the one that is read.
pub(super) const BATCHES_AHEAD_MAX: usize = 1;

/// Empty lines have no bytes, and take memory all the same.
const LINE_OVERHEAD_BYTES: usize = size_of::<Vec<u8>>();

/// Lines without their ends, and why there are no more.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) lines: Vec<Vec<u8>>,
    pub(super) error: Option<CliError>,
}

/// Reads lines until the end, or until nobody wants them.
pub(super) fn read_lines(input: impl Read, batches: &SyncSender<Batch>) {
    let mut input = BufReader::with_capacity(BATCH_BYTES, input);
    loop {
        let (batch, is_last) = read_batch(&mut input);
        if batches.send(batch).is_err() || is_last {
            return;
        }
    }
}

/// Reads as many lines as are at hand, and whether they are the last.
fn read_batch(input: &mut BufReader<impl Read>) -> (Batch, bool) {
    let (mut batch, mut bytes) = (Batch::default(), 0);
    while bytes < BATCH_BYTES {
        // The first line is waited for.
        if !batch.lines.is_empty() && !input.buffer().contains(&b'\n') {
            break;
        }
        match read_line(input) {
            Ok(Some(line)) => {
                bytes += line.len() + LINE_OVERHEAD_BYTES;
                batch.lines.push(line);
            }
            Ok(None) => return (batch, true),
            Err(error) => {
                batch.error = Some(error);
                return (batch, true);
            }
        }
    }
    (batch, false)
}

fn read_line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>, CliError> {
    let mut line = Vec::new();
    let read = input.take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
    let bytes = read.map_err(CliError::io("standard input"))?;
    if bytes as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
        let why = format!("a line of more than {LINE_BYTES_MAX} bytes");
        return Err(CliError::Failed(why));
    }
    line.pop_if(|byte| *byte == b'\n');
    line.pop_if(|byte| *byte == b'\r');
    Ok((bytes > 0).then_some(line))
}
