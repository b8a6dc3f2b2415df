//! `millrace log dump`: what is in the segments of a log.
//!
//! It reads files and talks to nobody, so the broker may run or not; it never writes. A segment
//! that is still written ends in room that holds nothing yet.

mod decoded;
mod segment;
mod shown;

use std::fs;
use std::path::{Path, PathBuf};

use super::CliError;
use super::output::{Output, tell};
use super::progress::Progress;
use crate::record::Decompressor;
use crate::storage::layout;
use decoded::Kind;
use segment::{Piece, SegmentFile};

/// What to do with the files of a log.
#[derive(Debug, clap::Subcommand)]
pub enum Log {
    /// Print the batches of segments, and their records
    Dump(Dump),
}

/// `log dump`.
#[derive(Debug, clap::Args)]
pub struct Dump {
    /// Segments (.log), or the directories of partitions
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Also the records; those of __consumer_offsets and of the metadata are decoded
    #[arg(short, long)]
    records: bool,
    /// Begin with the batch that holds this offset
    #[arg(short, long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    offset: Option<i64>,
    /// End after so many batches of each segment
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// Print a JSON object for each batch
    #[arg(long)]
    json: bool,
}

impl Log {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let Self::Dump(dump) = self;
        dump.run()
    }
}

impl Dump {
    fn run(&self) -> Result<(), CliError> {
        let mut output = Output::new();
        let (mut all, mut damaged) = (0, 0);
        for path in &self.paths {
            for segment in segments(path)? {
                all += 1;
                let faults = self.dump(&segment, &mut output)?;
                output.flush()?;
                for fault in &faults {
                    tell(format_args!("millrace: {}: {fault}", segment.display()));
                }
                damaged += usize::from(!faults.is_empty());
            }
        }
        output.flush()?;
        match damaged {
            0 => Ok(()),
            failed => Err(CliError::Partly { failed, all }),
        }
    }

    /// Prints one segment; gives all that is wrong with it.
    fn dump(&self, path: &Path, output: &mut Output) -> Result<Vec<String>, CliError> {
        let mut file = SegmentFile::open(path)?;
        if !self.json {
            output.line(format_args!("{} ({} bytes)", path.display(), file.bytes()))?;
        }
        let kind = Kind::of(path);
        let mut progress = Progress::new("bytes", Some(file.bytes()), output.is_terminal());
        let mut decompressor = Decompressor::new();
        let (mut printed, mut faults) = (0, Vec::new());
        while self.count.is_none_or(|count| printed < count) {
            let batch = match file.next()? {
                Piece::Batch(batch) => batch,
                Piece::Room { bytes } => {
                    if !self.json {
                        output.line(format_args!("  {bytes} bytes of room"))?;
                    }
                    break;
                }
                Piece::Fault(why) => {
                    faults.push(why);
                    break;
                }
                Piece::End => break,
            };
            progress.at(batch.position);
            let is_before = |first: i64| batch.header.last_offset().0 < first;
            if self.offset.is_some_and(is_before) {
                continue;
            }
            printed += 1;
            let shown = shown::Batch::new(path, &batch, self.records, kind, &mut decompressor);
            if !shown.is_sound() {
                faults.push(format!("the batch at {} is damaged", batch.position));
            }
            match self.json {
                true => output.json(&shown)?,
                false => shown.print(output)?,
            }
        }
        Ok(faults)
    }
}

/// The segments that a path stands for, in their order.
fn segments(path: &Path) -> Result<Vec<PathBuf>, CliError> {
    let shown = path.display().to_string();
    let metadata = fs::metadata(path).map_err(CliError::io(&shown))?;
    if metadata.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut segments = Vec::new();
    for entry in fs::read_dir(path).map_err(CliError::io(&shown))? {
        let name = entry.map_err(CliError::io(&shown))?.file_name();
        let parsed = name.to_str().and_then(layout::parse_segment_file);
        if parsed.is_some_and(|(_, extension)| extension == layout::LOG) {
            segments.push(path.join(name));
        }
    }
    segments.sort();
    match segments.is_empty() {
        false => Ok(segments),
        true => Err(CliError::Failed(format!(
            "{shown} holds no segment: name the directory of a partition, such as \
             millrace-data/orders-0, or a .log file"
        ))),
    }
}
