//! Prints records, and counts them. What is printed is handed over when nothing more is at hand,
//! so that a person sees it as it comes and a pipe gets large pieces.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rdkafka::message::{BorrowedMessage, Message as _};

use super::Consume;
use super::format::Format;
use crate::cli::CliError;
use crate::cli::native::headers;
use crate::cli::output::Output;
use crate::cli::progress::Progress;
use crate::cli::record::{Data, RecordRead};

/// Where records go.
pub(super) struct Printer {
    output: Output,
    /// None stands for JSON.
    format: Option<Format>,
    line: Vec<u8>,
    progress: Progress,
    printed: u64,
    wanted: u64,
    /// The next offset of each partition whose records were printed since the last flush.
    unflushed: HashMap<(String, i32), i64>,
}

impl Printer {
    pub(super) fn new(consume: &Consume) -> Self {
        let output = Output::new();
        let format = match &consume.key_separator {
            Some(separator) => Format::with_key(separator),
            None => consume.format.clone(),
        };
        Self {
            progress: Progress::new("records", consume.count, output.is_terminal()),
            output,
            format: (!consume.json).then_some(format),
            line: Vec::new(),
            printed: 0,
            wanted: consume.count.unwrap_or(u64::MAX),
            unflushed: HashMap::new(),
        }
    }

    /// Whether as many were printed as were asked for.
    pub(super) fn is_done(&self) -> bool {
        self.printed >= self.wanted
    }

    pub(super) fn print(&mut self, record: &BorrowedMessage<'_>) -> Result<(), CliError> {
        match &self.format {
            Some(format) => {
                self.line.clear();
                format.write(record, headers, &mut self.line);
                self.output.bytes(&self.line)?;
            }
            None => self.output.json(&read(record))?,
        }
        self.printed += 1;
        self.progress.at(self.printed);
        let partition = (record.topic().to_owned(), record.partition());
        self.unflushed.insert(partition, record.offset() + 1);
        Ok(())
    }

    /// Hands over what was printed; gives the next offset of each partition that it came from.
    /// While nothing comes, it notices that nobody reads any more.
    pub(super) fn flush(&mut self) -> Result<HashMap<(String, i32), i64>, CliError> {
        if self.unflushed.is_empty() {
            if is_closed() {
                return Err(CliError::PipeClosed);
            }
            return Ok(HashMap::new());
        }
        self.output.flush()?;
        Ok(std::mem::take(&mut self.unflushed))
    }
}

/// Whether standard output is a pipe whose other end is closed.
fn is_closed() -> bool {
    let out = io::stdout();
    let mut watched = [PollFd::new(out.as_fd(), PollFlags::empty())];
    let polled = poll(&mut watched, PollTimeout::ZERO);
    let events = watched[0].revents().unwrap_or(PollFlags::empty());
    polled.is_ok() && events.contains(PollFlags::POLLERR)
}

fn read<'a>(record: &'a BorrowedMessage<'_>) -> RecordRead<'a> {
    let headers = headers(record).into_iter();
    let headers =
        headers.map(|(name, value)| (String::from_utf8_lossy(name), value.map(Data::new)));
    RecordRead {
        topic: Some(record.topic()),
        partition: Some(record.partition()),
        offset: record.offset(),
        timestamp: record.timestamp().to_millis(),
        key: record.key().map(Data::new),
        value: record.payload().map(Data::new),
        headers: headers.collect(),
    }
}
