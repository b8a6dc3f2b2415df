//! `millrace log repair`: what `millrace log verify` has found wrong in a data directory, put right
//! as far as it can be. Without `--apply` it only says what it would do.
//!
//! What must stay true:
//! - nothing is destroyed: what cannot be kept of a segment stands in a file beside it before it is
//!   cut off;
//! - no offset is given out twice: where the end of a log is lost, the log goes on where it would
//!   have, in a new segment, and the start refuses what is missing between the two;
//! - each step is done whole or not at all, and after any of them a broker can start; the steps are
//!   in such an order that what was done is not undone by a start in between;
//! - damage that has sound batches behind it stays in its place: reads of it are refused, and those
//!   of what is behind it are not.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use super::CliError;
use super::output::{Output, counted, on_a_line};
use super::verify::directory::{self, DataDirectory};
use super::verify::partition::{Partition, Remedy};
use super::verify::{check_directory, report::Report};
use crate::base::ids::{Offset, ShardId, TopicIdPartition};
use crate::storage::checkpoint::{self, CHECKPOINT_BYTES_MAX, RecoveryPoints};
use crate::storage::directory::{Entry, LogDirectory};
use crate::storage::index::IndexTail;
use crate::storage::layout;
use crate::storage::recovery::RecoveryPoint;

/// `log repair`.
#[derive(Debug, clap::Args)]
pub struct Repair {
    /// The data directory
    #[arg(value_name = "DIR")]
    path: PathBuf,
    /// Do it; without this it is only said what would be done
    #[arg(long)]
    apply: bool,
}

/// One thing to do, done whole or not at all.
#[derive(Debug)]
enum Step {
    /// Copies what stands in a file from a position on into another one, which is not there yet.
    MoveAside {
        file: PathBuf,
        aside: PathBuf,
        at: u64,
        bytes: u64,
    },
    /// Makes an empty segment.
    Begin(PathBuf),
    /// Says in the checkpoints how far a log is durable.
    SetPoint(TopicIdPartition, RecoveryPoint, PathBuf),
    /// Makes a checkpoint that cannot be read anew.
    Rewrite(PathBuf, RecoveryPoints),
    Cut {
        file: PathBuf,
        at: u64,
    },
    Reindex(PathBuf, Box<IndexTail>),
    Remove(PathBuf),
    Replace(PathBuf, String),
}

impl Repair {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let path = &self.path;
        if !directory::is_data_directory(path) {
            return Err(CliError::Failed(format!(
                "{} is no data directory: name the one that log.dirs has, in which \
                 meta.properties stands; it is repaired as a whole",
                path.display()
            )));
        }
        let _lock = directory::lock(path, self.apply)?;
        let (found, partitions) = check_directory(path)?;
        let steps = plan(&found, &partitions);
        let log_directory = LogDirectory::new(path.clone(), false);
        let mut output = Output::new();
        let reports = partitions.iter().map(|partition| &partition.report);
        tell_damage([&found.report].into_iter().chain(reports), &mut output)?;
        for step in &steps {
            if self.apply {
                step.apply(&log_directory)?;
            }
            let word = if self.apply { "done" } else { "would" };
            output.line(format_args!("{word}: {}", on_a_line(&step.to_string())))?;
        }
        let steps = counted(steps.len() as u64, "step");
        match self.apply {
            true => output.line(format_args!("{steps} done"))?,
            false => output.line(format_args!("{steps} to do: --apply does them"))?,
        }
        output.flush()
    }
}

/// What was found, and what is kept of it.
fn tell_damage<'a>(
    reports: impl Iterator<Item = &'a Report>,
    output: &mut Output,
) -> Result<(), CliError> {
    for finding in reports.flat_map(|report| &report.damage) {
        output.line(format_args!("damage: {}", on_a_line(&finding.line())))?;
    }
    Ok(())
}

/// What is to be done, in order.
fn plan(found: &DataDirectory, partitions: &[Partition]) -> Vec<Step> {
    let mut steps = Vec::new();
    for file in &found.damaged_checkpoints {
        let lost = partitions
            .iter()
            .filter(|partition| partition.point.is_none());
        let is_clean = found.around.is_clean == Some(true);
        let points = lost.filter_map(|partition| lost_point(partition, is_clean));
        let points = points.collect();
        let aside = free_name(file, "damaged");
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        steps.push(Step::MoveAside {
            file: file.clone(),
            aside,
            at: 0,
            bytes,
        });
        steps.push(Step::Rewrite(file.clone(), points));
    }
    for partition in partitions {
        for remedy in &partition.remedies {
            remedy_steps(partition, remedy, &mut steps);
        }
    }
    steps
}

/// The recovery point of a log whose own is lost: where it ended when the broker was stopped. Where
/// that is not known, all of its last segment is checked.
fn lost_point(partition: &Partition, is_clean: bool) -> Option<(TopicIdPartition, RecoveryPoint)> {
    let (id, last) = (partition.id?, partition.last?);
    let start = partition.report.counted?.start_offset;
    let (offset, position) = match is_clean && last.is_sound {
        true => (last.end, last.position),
        false => (last.base, 0),
    };
    let point = RecoveryPoint {
        log_start: Offset(start),
        offset,
        segment: last.base,
        position,
    };
    Some((id, point))
}

fn remedy_steps(partition: &Partition, remedy: &Remedy, steps: &mut Vec<Step>) {
    let file = |base, kind| layout::segment_file(&partition.path, base, kind);
    match remedy {
        Remedy::CutTail {
            segment,
            at,
            bytes,
            goes_on_at,
        } => {
            // Without its partition.metadata nobody can say how far the log is durable.
            if goes_on_at.is_some() && partition.id.is_none() {
                return;
            }
            let log = file(*segment, layout::LOG);
            if *bytes > 0 {
                steps.push(Step::MoveAside {
                    file: log.clone(),
                    aside: free_name(&log, layout::CUT),
                    at: *at,
                    bytes: *bytes,
                });
            }
            if let Some(offset) = goes_on_at {
                steps.push(Step::Begin(file(*offset, layout::LOG)));
            }
            if let (Some(offset), Some(id)) = (*goes_on_at, partition.id) {
                let start = partition.report.counted.map_or(0, |it| it.start_offset);
                let point = RecoveryPoint {
                    log_start: partition.point.map_or(Offset(start), |it| it.log_start),
                    offset,
                    segment: offset,
                    position: 0,
                };
                steps.push(Step::SetPoint(id, point, log.clone()));
            }
            if *bytes > 0 {
                steps.push(Step::Cut { file: log, at: *at });
            }
        }
        Remedy::MovePoint(point) => {
            if let Some(id) = partition.id {
                let log = file(point.segment, layout::LOG);
                steps.push(Step::SetPoint(id, *point, log));
            }
        }
        Remedy::Reindex { segment, indexes } => {
            let index = file(*segment, layout::INDEX);
            steps.push(Step::Reindex(index, indexes.clone()));
        }
        Remedy::RemoveSnapshot(file) => steps.push(Step::Remove(file.clone())),
        Remedy::RewriteEpochs(text) => {
            let file = partition.path.join(layout::LEADER_EPOCHS);
            steps.push(Step::Replace(file, text.clone()));
        }
    }
}

/// The file's name with another extension, and a number where that is taken.
fn free_name(file: &Path, extension: &str) -> PathBuf {
    let free = (1_u32..).map(|number| match number {
        1 => file.with_extension(extension),
        number => file.with_extension(format!("{extension}-{number}")),
    });
    let mut free = free.filter(|path| !path.exists());
    free.next().expect("there are more numbers than files")
}

impl Step {
    fn apply(&self, directory: &LogDirectory) -> Result<(), CliError> {
        match self {
            Self::MoveAside {
                file,
                aside,
                at,
                bytes,
            } => {
                let source = directory.open_for_reads(file)?;
                directory.copy_into(aside, &source, *at, at + bytes)?;
            }
            Self::Begin(file) => {
                directory.write_whole_file(file, &[])?;
                directory.sync_directory(file.parent().unwrap_or(directory.path()))?;
            }
            Self::SetPoint(id, point, segment) => set_point(directory, *id, *point, segment)?,
            Self::Rewrite(file, points) => {
                directory.replace_file(file, &checkpoint::encode(points))?;
            }
            Self::Cut { file, at } => directory.truncate_file(file, *at)?,
            Self::Reindex(index, indexes) => {
                let [(_, offsets), (_, times)] = indexes.to_flush();
                directory.replace_file(index, &offsets)?;
                directory.replace_file(&index.with_extension(layout::TIME_INDEX), &times)?;
            }
            Self::Remove(file) => {
                directory.remove_file(file)?;
                directory.sync_directory(file.parent().unwrap_or(directory.path()))?;
            }
            Self::Replace(file, text) => directory.replace_file(file, text.as_bytes())?,
        }
        Ok(())
    }
}

/// Writes a recovery point into every checkpoint that has one of the log, since of several the
/// latest counts; where there is none, into the first. What lies below it is made durable before.
fn set_point(
    directory: &LogDirectory,
    id: TopicIdPartition,
    point: RecoveryPoint,
    segment: &Path,
) -> Result<(), CliError> {
    directory.sync_file(segment)?;
    let mut files = Vec::new();
    for Entry { name, .. } in directory.list(directory.path())? {
        if checkpoint::is_checkpoint(&name) {
            let file = directory.path().join(name);
            let bytes = directory.read_file(&file, CHECKPOINT_BYTES_MAX)?;
            let mut points = RecoveryPoints::new();
            let decoded = checkpoint::decode(&bytes.unwrap_or_default(), &mut points);
            decoded.map_err(|error| CliError::failed(file.display(), error))?;
            files.push((file, points));
        }
    }
    if !files.iter().any(|(_, points)| points.contains_key(&id)) {
        if files.is_empty() {
            let file = directory.path().join(checkpoint::file_name(ShardId(0)));
            files.push((file, RecoveryPoints::new()));
        }
        files.truncate(1);
    } else {
        files.retain(|(_, points)| points.contains_key(&id));
    }
    for (file, mut points) in files {
        points.insert(id, point);
        directory.replace_file(&file, &checkpoint::encode(&points))?;
    }
    Ok(())
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MoveAside {
                file,
                aside,
                at,
                bytes,
            } => {
                let (file, aside) = (file.display(), aside.display());
                write!(f, "copy {bytes} bytes of {file} from {at} on to {aside}")
            }
            Self::Begin(file) => {
                write!(
                    f,
                    "make an empty segment {}, with which the log goes on",
                    file.display()
                )
            }
            Self::SetPoint(_, point, file) => {
                let log = file.parent().unwrap_or(file).display();
                let RecoveryPoint {
                    offset,
                    segment,
                    position,
                    ..
                } = point;
                write!(
                    f,
                    "set the recovery point of {log} to offset {offset}, position {position} of \
                     segment {segment}"
                )
            }
            Self::Rewrite(file, points) => {
                let (file, logs) = (file.display(), counted(points.len() as u64, "log"));
                write!(f, "write {file} anew, with the recovery points of {logs}")
            }
            Self::Cut { file, at } => write!(f, "cut {} at {at}", file.display()),
            Self::Reindex(index, _) => {
                let file = index.with_extension("");
                write!(f, "make the two indexes of {} anew", file.display())
            }
            Self::Remove(file) => write!(f, "remove {}", file.display()),
            Self::Replace(file, _) => write!(f, "write {} anew", file.display()),
        }
    }
}
