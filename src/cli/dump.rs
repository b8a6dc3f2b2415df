//! `millrace log dump`: what is in the segments of a log.
//!
//! It reads files and talks to nobody, so the broker may run or not; it never writes. A segment
//! that is still written ends in room that holds nothing yet.

mod decoded;
mod segment;
mod shown;

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::CliError;
use super::output::{Output, tell};
use super::progress::Progress;
use crate::base::ids::Offset;
use crate::record::Decompressor;
use crate::storage::layout;
use decoded::Kind;
use segment::{Piece, SegmentFile};

const WHAT_TO_NAME: &str =
    "name the directory of a partition, such as millrace-data/orders-0, or a .log file";

/// Where a batch has the version of its format.
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;

/// A batch begins with its base offset.
const BASE_OFFSET_BYTES: usize = 8;

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
    #[arg(
        short, long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..),
        allow_negative_numbers = true
    )]
    offset: Option<i64>,
    /// End after so many batches of each segment
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// Print a JSON object for each batch
    #[arg(long)]
    json: bool,
}

impl Dump {
    pub(super) fn run(&self) -> Result<(), CliError> {
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
        let mut next_offset = segment_name(path).map(|(base, _)| base);
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
            let expected_offset = next_offset.replace(batch.header.last_offset().0 + 1);
            let is_before = |first: i64| batch.header.last_offset().0 < first;
            if self.offset.is_some_and(is_before) {
                continue;
            }
            printed += 1;
            let mut shown = shown::Batch::new(path, &batch, self.records, kind, &mut decompressor);
            shown.hold_against(expected_offset);
            if let Some(fault) = shown.fault() {
                faults.push(format!("the batch at {} {fault}", batch.position));
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
        return match may_be_segment(path).map_err(CliError::io(&shown))? {
            true => Ok(vec![path.to_owned()]),
            false => Err(CliError::Failed(format!(
                "{shown} is no segment: {WHAT_TO_NAME}"
            ))),
        };
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
            "{shown} holds no segment: {WHAT_TO_NAME}"
        ))),
    }
}

/// The number and the extension in a segment file's name.
fn segment_name(path: &Path) -> Option<(i64, &str)> {
    let name = path.file_name().and_then(std::ffi::OsStr::to_str)?;
    let (base, extension) = layout::parse_segment_file(name)?;
    Some((base.0, extension))
}

/// Whether a file is a segment by its name or, under any other name, begins as one does: with
/// nothing yet, or a batch.
pub(super) fn may_be_segment(path: &Path) -> io::Result<bool> {
    if let Some((_, extension)) = segment_name(path) {
        // A segment that is deleted keeps its extension, and has another one behind it.
        return Ok(extension.split('.').next() == Some(layout::LOG));
    }
    let mut begin = Vec::with_capacity(MAGIC_AT + 1);
    let file = fs::File::open(path)?;
    file.take(MAGIC_AT as u64 + 1).read_to_end(&mut begin)?;
    let is_empty = begin.iter().all(|byte| *byte == 0);
    Ok(is_empty || begin.get(MAGIC_AT) == Some(&MAGIC))
}

/// The offset at which a segment begins: by its name or, under any other name, by its first batch.
pub(super) fn first_offset(path: &Path) -> io::Result<Option<Offset>> {
    if let Some((base, _)) = segment_name(path) {
        return Ok(Some(Offset(base)));
    }
    let mut begin = Vec::with_capacity(BASE_OFFSET_BYTES);
    let file = fs::File::open(path)?;
    file.take(BASE_OFFSET_BYTES as u64)
        .read_to_end(&mut begin)?;
    let base = begin.first_chunk().map(|base| i64::from_be_bytes(*base));
    Ok(base.map(Offset))
}
