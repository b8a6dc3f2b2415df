//! `millrace log verify`: whether the files of a broker that does not run are as they were written.
//!
//! It changes nothing. What is damaged is told with its place, and with what is kept all the same;
//! `millrace log repair` takes the same findings and does something about them.

pub(super) mod directory;
pub(super) mod partition;
pub(super) mod report;
mod segment;

use std::fs;
use std::path::{Path, PathBuf};

use super::CliError;
use super::dump;
use super::output::{Output, counted};
use super::progress::Progress;
use crate::base::ids::Offset;
use crate::partition::leader_epoch::LeaderEpochs;
use crate::storage::layout;
use crate::storage::walk::{Bounds, Fault};
use directory::{DataDirectory, Surroundings};
use partition::Partition;
use report::{Counted, Finding, Report};
use segment::SegmentFile;

const WHAT_TO_NAME: &str = "name a data directory, such as millrace-data, the directory of a \
                            partition in it, or a .log file";

/// `log verify`.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Data directories, directories of partitions, or segments (.log)
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print a JSON object for each data directory, partition and segment
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let (mut reports, mut directories) = (Vec::new(), Vec::new());
        for path in &self.paths {
            reports.extend(check(path, &mut directories)?);
        }
        for (number, finding) in directory::missing_partitions(&directories) {
            let path = directories[number].path.display().to_string();
            let report = reports.iter_mut().find(|report| report.path == path);
            report.expect("one a directory").damage.push(finding);
        }
        let mut output = Output::new();
        match self.json {
            true => reports.iter().try_for_each(|report| output.json(report))?,
            false => report::print(&reports, &mut output)?,
        }
        output.flush()?;
        let places: usize = reports.iter().map(|report| report.damage.len()).sum();
        match places {
            0 => Ok(()),
            _ => Err(CliError::Damaged(format!(
                "{} found: 'millrace log repair' says what can be done about it",
                counted(places as u64, "damaged place")
            ))),
        }
    }
}

/// Checks what a path stands for; if it is a data directory, that goes to the others.
fn check(path: &Path, directories: &mut Vec<DataDirectory>) -> Result<Vec<Report>, CliError> {
    let shown = path.display().to_string();
    let metadata = fs::metadata(path).map_err(CliError::io(&shown))?;
    if metadata.is_file() {
        let _lock = lock_of(path.ancestors().nth(2))?;
        return Ok(vec![check_segment(path)?]);
    }
    if directory::is_data_directory(path) {
        let _lock = directory::lock(path, false)?;
        let (directory, partitions) = check_directory(path)?;
        let partitions = partitions.into_iter().map(|partition| partition.report);
        let of_directory = [directory.report.clone()].into_iter();
        directories.push(directory);
        return Ok(of_directory.chain(partitions).collect());
    }
    if !holds_segments(path)? {
        return Err(CliError::Failed(format!(
            "{shown} is no data directory and holds no segment: {WHAT_TO_NAME}"
        )));
    }
    // What its data directory says of it counts here, too.
    let path = fs::canonicalize(path).map_err(CliError::io(&shown))?;
    let parent = path
        .parent()
        .filter(|parent| directory::is_data_directory(parent));
    let _lock = lock_of(parent)?;
    let around = match parent {
        Some(parent) => DataDirectory::check(parent)?.around,
        None => Surroundings::default(),
    };
    let mut progress = Progress::new("bytes", Some(bytes_of(&path)), false);
    let mut partition = partition::check(&path, &around, &mut progress, &mut 0)?;
    partition.report.path = shown;
    Ok(vec![partition.report])
}

/// Checks a data directory with all its partitions.
pub(super) fn check_directory(path: &Path) -> Result<(DataDirectory, Vec<Partition>), CliError> {
    let directory = DataDirectory::check(path)?;
    let bytes = directory.partitions.iter().map(|path| bytes_of(path)).sum();
    let mut progress = Progress::new("bytes", Some(bytes), false);
    let mut done = 0;
    let mut partitions = Vec::new();
    for path in &directory.partitions {
        partitions.push(partition::check(
            path,
            &directory.around,
            &mut progress,
            &mut done,
        )?);
    }
    Ok((directory, partitions))
}

fn lock_of(directory: Option<&Path>) -> Result<Option<fs::File>, CliError> {
    directory.map_or(Ok(None), |path| directory::lock(path, false))
}

/// What the segments of a partition have, about, for the progress.
fn bytes_of(partition: &Path) -> u64 {
    let entries = fs::read_dir(partition).into_iter().flatten().flatten();
    let segments = entries.filter(|entry| is_segment(&entry.file_name().to_string_lossy()));
    segments
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .sum()
}

fn is_segment(name: &str) -> bool {
    let parsed = layout::parse_segment_file(name);
    parsed.is_some_and(|(_, kind)| kind == layout::LOG)
}

fn holds_segments(path: &Path) -> Result<bool, CliError> {
    let entries = fs::read_dir(path).map_err(CliError::io(path.display().to_string()))?;
    let mut names = entries.flatten().map(|entry| entry.file_name());
    Ok(names.any(|name| is_segment(&name.to_string_lossy())))
}

/// Checks a segment by itself: nothing tells where it should end.
fn check_segment(path: &Path) -> Result<Report, CliError> {
    let shown = path.display().to_string();
    let failed = || CliError::io(&shown);
    if !dump::may_be_segment(path).map_err(failed())? {
        return Err(CliError::Failed(format!(
            "{shown} is no segment: {WHAT_TO_NAME}"
        )));
    }
    let base = dump::first_offset(path)
        .map_err(failed())?
        .unwrap_or(Offset(0));
    let file = SegmentFile::open(path, base, Vec::new()).map_err(failed())?;
    let bounds = Bounds {
        base,
        limit: file.bytes,
        end: None,
    };
    let mut progress = Progress::new("bytes", Some(file.bytes), false);
    let mut epochs = LeaderEpochs::new();
    let checked = file.check(bounds, true, &mut epochs, &mut progress, 0);
    let checked = checked.map_err(failed())?;
    let mut report = Report::new(path);
    report.counted = Some(Counted {
        segments: 1,
        batches: checked.batches,
        records: checked.records,
        bytes: checked.bytes,
        start_offset: base.0,
        end_offset: checked.end.0.0,
    });
    for damage in &checked.damages {
        let is_room = damage.fault == Fault::Zeros && damage.end == file.bytes;
        if is_room && file.is_zero_from(damage.position).map_err(failed())? {
            let bytes = file.bytes - damage.position;
            report.note(format!("{bytes} bytes of room at the end"));
            continue;
        }
        let kept = "All other batches are sound";
        report.damage.push(Finding::of_batches(path, damage, kept));
    }
    if let Some((position, reason)) = &checked.unreadable {
        let kept = "The rest was not looked at";
        let mut finding = Finding::of_file(path, reason, kept);
        finding.position = Some(*position);
        report.damage.push(finding);
    }
    for (file, fault) in &checked.index_faults {
        let kept = "No record is lost by it";
        report.damage.push(Finding::of_file(file, fault, kept));
    }
    Ok(report)
}
