//! Checks the directory of one partition: its segments, their indexes, and what stands beside them.

use std::path::{Path, PathBuf};

use crate::base::ids::{Offset, TopicId, TopicIdPartition};
use crate::cli::CliError;
use crate::cli::progress::Progress;
use crate::partition::leader_epoch::LeaderEpochs;
use crate::partition::producer_snapshot;
use crate::storage::directory::{Entry, LogDirectory};
use crate::storage::index::IndexTail;
use crate::storage::journal::replay::PendingBytes;
use crate::storage::layout;
use crate::storage::recovery::RecoveryPoint;
use crate::storage::walk::{Bounds, Damage};

use super::directory::Surroundings;
use super::report::{Counted, Finding, Report};
use super::segment::{Checked, SegmentFile};

/// No snapshot or epoch file is larger.
const SMALL_FILE_BYTES_MAX: u64 = 64 << 20;

const STAYS: &str = "The batches before and behind it are kept. It stays where it is: consumers \
                     that come to it get CORRUPT_MESSAGE or find its CRC wrong, and go on when \
                     they seek behind it";
const WOULD_BE_CUT: &str = "The batches behind it are sound, but the next start would end the log \
                            here and move them aside: 'millrace log repair' keeps them";
const KEPT_BEFORE: &str = "The batches before it are kept, and the segments behind it";
const IS_REBUILT: &str = "No record is lost by it: 'millrace log repair' makes it anew";
const BEGINS_ANEW: &str = "No record is lost by it: the broker begins with what it knows otherwise";

/// What a repair could do for a partition.
#[derive(Debug)]
pub(in crate::cli) enum Remedy {
    /// Nothing sound is in the segment from this position on.
    CutTail {
        segment: Offset,
        at: u64,
        bytes: u64,
        /// With which offset the log goes on, where that is known and no segment begins there.
        goes_on_at: Option<Offset>,
    },
    /// The batches behind damage are behind the recovery point as well.
    MovePoint(RecoveryPoint),
    /// The indexes of a segment, made anew.
    Reindex {
        segment: Offset,
        indexes: Box<IndexTail>,
    },
    /// A snapshot that says nothing.
    RemoveSnapshot(PathBuf),
    /// The leader epochs as the batches have them.
    RewriteEpochs(String),
}

/// The segment that a log ends in.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct LastSegment {
    pub(in crate::cli) base: Offset,
    /// Behind the last sound batch: the offset, and where in the file.
    pub(in crate::cli) end: Offset,
    pub(in crate::cli) position: u64,
    /// Whether nothing else is in it.
    pub(in crate::cli) is_sound: bool,
}

/// A partition that was checked.
#[derive(Debug)]
pub(in crate::cli) struct Partition {
    pub(in crate::cli) path: PathBuf,
    pub(in crate::cli) id: Option<TopicIdPartition>,
    pub(in crate::cli) point: Option<RecoveryPoint>,
    pub(in crate::cli) last: Option<LastSegment>,
    pub(in crate::cli) report: Report,
    pub(in crate::cli) remedies: Vec<Remedy>,
}

/// What a check of a partition works with.
struct Check<'a> {
    directory: LogDirectory,
    around: &'a Surroundings,
    progress: &'a mut Progress,
    partition: Partition,
    epochs: LeaderEpochs,
    counted: Counted,
    /// The offset with which the log goes on.
    end: Offset,
    /// All below it was durable, as something tells.
    durable: Offset,
    /// Whether the next start would end the log at damage that has sound batches behind it.
    would_be_cut: bool,
    /// Whether the disk did not give all of it.
    is_unreadable: bool,
}

/// Checks a partition's directory. `done` counts bytes for the progress.
pub(super) fn check(
    path: &Path,
    around: &Surroundings,
    progress: &mut Progress,
    done: &mut u64,
) -> Result<Partition, CliError> {
    let directory = LogDirectory::new(path.to_owned(), false);
    let partition = Partition {
        path: path.to_owned(),
        id: None,
        point: None,
        last: None,
        report: Report::new(path),
        remedies: Vec::new(),
    };
    let mut check = Check {
        directory,
        around,
        progress,
        partition,
        epochs: LeaderEpochs::new(),
        counted: Counted::default(),
        end: Offset(0),
        durable: Offset(0),
        would_be_cut: false,
        is_unreadable: false,
    };
    check.run(done)?;
    Ok(check.partition)
}

impl Check<'_> {
    fn run(&mut self, done: &mut u64) -> Result<(), CliError> {
        let entries = self.directory.list(&self.partition.path)?;
        let (mut segments, mut snapshots) = (Vec::new(), Vec::new());
        for Entry { name, .. } in &entries {
            match layout::parse_segment_file(name) {
                Some((base, layout::LOG)) => {
                    let size = self.directory.size_of(&self.partition.path.join(name))?;
                    segments.extend(size.map(|size| (base, size)));
                }
                Some((offset, layout::SNAPSHOT)) => snapshots.push(offset),
                _ => {}
            }
        }
        self.metadata(segments.iter().any(|(_, bytes)| *bytes > 0))?;
        for Entry { name, .. } in &entries {
            if name.contains(&format!(".{}", layout::CUT)) {
                let note = format!("{name} holds what an earlier start or repair has moved aside");
                self.partition.report.note(note);
            }
        }
        self.durable = self.partition.point.map_or(Offset(0), |it| it.offset);
        for offset in snapshots {
            self.snapshot(offset)?;
        }
        let first = segments.first().map_or(Offset(0), |(base, _)| *base);
        let start = self.partition.point.map_or(first, |point| point.log_start);
        let start = start.max(first);
        self.end = first;
        for (index, (base, _)) in segments.iter().enumerate() {
            let next = segments.get(index + 1).map(|(next, _)| *next);
            *done += self.segment(*base, next, *done)?;
        }
        self.reach_what_was_durable();
        self.keep_what_would_be_cut(start);
        self.counted.start_offset = start.0;
        self.counted.end_offset = self.end.0;
        self.partition.report.counted = Some(self.counted);
        self.leader_epochs()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.partition.path.join(name)
    }

    /// Whose the directory is, and with it what the checkpoint says of it.
    fn metadata(&mut self, has_records: bool) -> Result<(), CliError> {
        let file = self.file(layout::PARTITION_METADATA);
        let contents = self
            .directory
            .read_file(&file, layout::PARTITION_METADATA_BYTES_MAX)?;
        let named = contents.as_deref().map(layout::parse_partition_metadata);
        let kept = "All records are kept, but the broker refuses the partition: restore the file, \
                    or write the lines that the broker's log gives when it starts";
        match named {
            Some(Some(named)) => {
                self.identify(named.id);
                if !named.is_summed {
                    let note = "partition.metadata has no sum yet: the next start adds it";
                    self.partition.report.note(note);
                }
            }
            Some(None) => self.found(Finding::of_file(&file, "it is damaged", kept)),
            None if has_records && self.around.is_data_directory => {
                self.found(Finding::of_file(&file, "it is missing", kept));
            }
            None => {}
        }
        Ok(())
    }

    fn identify(&mut self, topic_id: TopicId) {
        let name = self.partition.path.file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        let Some((_, partition)) = layout::parse_partition_directory(&name) else {
            return;
        };
        let id = TopicIdPartition {
            topic_id,
            partition,
        };
        self.partition.id = Some(id);
        self.partition.point = self.around.points.get(&id).copied();
    }

    fn found(&mut self, finding: Finding) {
        self.partition.report.damage.push(finding);
    }

    /// Bytes of the journals that belong into a segment.
    fn patches(&self, base: Offset) -> Vec<(u64, Vec<u8>)> {
        let name = self.partition.path.file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        let id = self.partition.id.map(|id| id.topic_id);
        let is_its = |pending: &&PendingBytes| {
            let written = layout::parse_partition_metadata(&pending.identity);
            pending.segment == base
                && pending.name == name.as_bytes()
                && written.map(|written| written.id) == id
        };
        let pending = self.around.pending.iter().filter(is_its);
        pending.map(|it| (it.position, it.bytes.clone())).collect()
    }

    /// Checks a segment; returns its size.
    fn segment(&mut self, base: Offset, next: Option<Offset>, done: u64) -> Result<u64, CliError> {
        let path = layout::segment_file(&self.partition.path, base, layout::LOG);
        let told = || path.display().to_string();
        let file = SegmentFile::open(&path, base, self.patches(base));
        let file = file.map_err(CliError::io(told()))?;
        let bounds = Bounds {
            base,
            limit: file.bytes,
            end: next,
        };
        let is_open = next.is_none() && self.around.is_clean != Some(true);
        let checked = file.check(bounds, is_open, &mut self.epochs, self.progress, done);
        let checked = checked.map_err(CliError::io(told()))?;
        self.counted.segments += 1;
        self.counted.batches += checked.batches;
        self.counted.records += checked.records;
        self.counted.bytes += checked.bytes;
        self.end = self.end.max(checked.end.0);
        if let Some((position, reason)) = &checked.unreadable {
            let kept = "The rest of the segment was not looked at: copy the directory to a sound \
                        disk, as far as it can be read, and check the copy";
            let what = format!("the disk does not give it: {reason}");
            let mut finding = Finding::of_file(&path, what, kept);
            finding.position = Some(*position);
            self.found(finding);
            self.is_unreadable = true;
        }
        let judged = self.judge(&file, &checked, next);
        judged.map_err(CliError::io(told()))?;
        for (file, fault) in &checked.index_faults {
            self.found(Finding::of_file(file, fault, IS_REBUILT));
        }
        self.partition.last = Some(LastSegment {
            base,
            end: checked.end.0,
            position: checked.end.1,
            is_sound: checked.damages.is_empty() && checked.unreadable.is_none(),
        });
        if !checked.index_faults.is_empty() {
            self.partition.remedies.push(Remedy::Reindex {
                segment: base,
                indexes: Box::new(checked.indexes),
            });
        }
        Ok(file.bytes)
    }

    /// Whether a place in a segment is checked by the next start, which ends the log at damage.
    fn is_scanned(&self, base: Offset, position: u64) -> bool {
        if !self.around.is_data_directory {
            return false;
        }
        self.partition.point.is_none_or(|point| {
            base > point.segment || (base == point.segment && position >= point.position)
        })
    }

    /// Says what the damages of a segment mean.
    fn judge(
        &mut self,
        file: &SegmentFile,
        checked: &Checked,
        next: Option<Offset>,
    ) -> std::io::Result<()> {
        let is_tail = |last: &Damage| last.end >= file.bytes && checked.unreadable.is_none();
        let (tail, before) = match checked.damages.split_last() {
            Some((last, before)) if is_tail(last) => (Some(*last), before),
            _ => (None, &checked.damages[..]),
        };
        for damage in before {
            let is_scanned = self.is_scanned(file.base, damage.position);
            self.would_be_cut |= is_scanned;
            let kept = if is_scanned { WOULD_BE_CUT } else { STAYS };
            self.found(Finding::of_batches(&file.path, damage, kept));
        }
        match tail {
            Some(tail) => self.tail(file, tail, next),
            None => Ok(()),
        }
    }

    /// Nothing sound stands at the end of a segment.
    fn tail(
        &mut self,
        file: &SegmentFile,
        mut damage: Damage,
        next: Option<Offset>,
    ) -> std::io::Result<()> {
        if next.is_none() {
            let is_clean = self.around.is_clean == Some(true);
            let is_lost = self.durable > damage.first;
            let is_cut = !is_clean && self.is_scanned(file.base, damage.position);
            let may_be_room = !is_lost && (damage.next.is_none() || is_cut);
            if may_be_room && file.is_zero_from(damage.position)? {
                let (bytes, name) = (file.bytes - damage.position, file.path.display());
                let note = format!("{bytes} bytes of room at the end of {name}");
                self.partition.report.note(note);
                return Ok(());
            }
            if !is_lost && is_cut {
                self.partition.report.note(format!(
                    "a torn write at {} of {}: the broker was not stopped, and its next start cuts \
                     it off",
                    damage.position,
                    file.path.display()
                ));
                return Ok(());
            }
            if is_lost {
                damage.next = damage.next.max(Some(self.durable));
            } else if is_clean && self.ends_at(file.base, damage.position) {
                self.behind_end(file, damage);
                return Ok(());
            }
        }
        self.found(Finding::of_batches(&file.path, &damage, KEPT_BEFORE));
        let bytes = file.bytes.saturating_sub(damage.position);
        let goes_on_at = damage.next.filter(|_| next.is_none());
        if bytes > 0 || goes_on_at.is_some() {
            self.partition.remedies.push(Remedy::CutTail {
                segment: file.base,
                at: damage.position,
                bytes,
                goes_on_at,
            });
        }
        if next.is_none() {
            self.end = self.end.max(damage.next.unwrap_or(self.end));
        }
        Ok(())
    }

    /// Whether the broker ended the log at this place of a segment when it was stopped.
    fn ends_at(&self, base: Offset, position: u64) -> bool {
        let point = self.partition.point;
        point.is_some_and(|point| point.segment == base && point.position == position)
    }

    /// Something stands behind the last batch that the broker wrote.
    fn behind_end(&mut self, file: &SegmentFile, mut damage: Damage) {
        damage.next = Some(damage.first);
        let mut finding = Finding::of_batches(&file.path, &damage, "All batches are kept");
        finding.what = "something stands behind the last batch that the broker wrote".to_owned();
        self.found(finding);
        self.partition.remedies.push(Remedy::CutTail {
            segment: file.base,
            at: damage.position,
            bytes: file.bytes - damage.position,
            goes_on_at: None,
        });
    }

    /// What was durable and is in no segment is lost: a file was cut between two batches, or is
    /// gone.
    fn reach_what_was_durable(&mut self) {
        let (first, next) = (self.end, self.durable);
        if first >= next || self.is_unreadable {
            return;
        }
        let last = self.partition.last;
        let of_point = self.partition.point.map(|point| point.segment);
        let base = of_point.max(last.map(|last| last.base)).unwrap_or(first);
        let file = layout::segment_file(&self.partition.path, base, layout::LOG);
        let kept = "The log goes on behind these offsets, and reads of them are refused: restore \
                    the file from a copy before the next start, if there is one";
        let mut finding = Finding::of_file(&file, "what was durable is missing", kept);
        (finding.first_offset, finding.last_offset) = (Some(first.0), Some(next.0 - 1));
        self.found(finding);
        self.end = next;
        if let Some(last) = last.filter(|last| last.base == base) {
            self.partition.remedies.push(Remedy::CutTail {
                segment: base,
                at: last.position,
                bytes: 0,
                goes_on_at: Some(next),
            });
        }
    }

    /// Moves the recovery point behind damage that has sound batches behind it, unless the log goes
    /// on in a segment that is made anew.
    fn keep_what_would_be_cut(&mut self, log_start: Offset) {
        let remedies = self.partition.remedies.iter();
        let mut offsets = remedies.filter_map(|remedy| match remedy {
            Remedy::CutTail { goes_on_at, .. } => *goes_on_at,
            _ => None,
        });
        let begins_anew = offsets.next().is_some();
        if let Some(last) = self.partition.last
            && self.would_be_cut
            && !begins_anew
        {
            let point = RecoveryPoint {
                log_start,
                offset: last.end,
                segment: last.base,
                position: last.position,
            };
            self.partition.remedies.push(Remedy::MovePoint(point));
        }
    }

    fn snapshot(&mut self, offset: Offset) -> Result<(), CliError> {
        let file = layout::segment_file(&self.partition.path, offset, layout::SNAPSHOT);
        let bytes = self.directory.read_file(&file, SMALL_FILE_BYTES_MAX)?;
        let decoded = producer_snapshot::decode(&bytes.unwrap_or_default());
        let fault = match decoded {
            Err(error) => error.to_string(),
            Ok(states) if states.end_offset() != offset => {
                format!("it says that it is of offset {}", states.end_offset())
            }
            Ok(_) => {
                // It was written once all before it was durable.
                self.durable = self.durable.max(offset);
                return Ok(());
            }
        };
        self.found(Finding::of_file(&file, fault, BEGINS_ANEW));
        let remedy = Remedy::RemoveSnapshot(file);
        self.partition.remedies.push(remedy);
        Ok(())
    }

    fn leader_epochs(&mut self) -> Result<(), CliError> {
        let file = self.file(layout::LEADER_EPOCHS);
        let Some(bytes) = self.directory.read_file(&file, SMALL_FILE_BYTES_MAX)? else {
            return Ok(());
        };
        let parsed = LeaderEpochs::from_checkpoint(&String::from_utf8_lossy(&bytes));
        let fault = match parsed.map(|epochs| epochs.latest()) {
            Err(error) => error.to_string(),
            Ok(Some(latest)) if latest.start_offset > self.end => {
                let (epoch, start) = (latest.epoch, latest.start_offset);
                format!(
                    "epoch {epoch} begins at {start}, behind the log's end at {}",
                    self.end
                )
            }
            Ok(_) => return Ok(()),
        };
        self.found(Finding::of_file(&file, fault, IS_REBUILT));
        let remedy = Remedy::RewriteEpochs(self.epochs.to_checkpoint());
        self.partition.remedies.push(remedy);
        Ok(())
    }
}
