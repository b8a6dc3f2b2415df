//! Checks what stands beside the partitions of a data directory: whose it is, recovery checkpoints,
//! journals, the mark of a clean stop, and what the metadata log says.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::base::ids::{Offset, PartitionIndex, Uuid};
use crate::cli::CliError;
use crate::metadata::image::PartitionImage;
use crate::metadata::{MetadataDelta, MetadataImage, batch, topic_name};
use crate::record::batches::Batches;
use crate::record::header::crc_of;
use crate::storage::checkpoint::{self, CHECKPOINT_BYTES_MAX, CLEAN_MARKER, RecoveryPoints};
use crate::storage::directory::{Entry, LogDirectory};
use crate::storage::journal::replay::{PendingBytes, pending};
use crate::storage::layout;
use crate::storage::meta::{LOCK_FILE, META_FILE, MetaError, MetaProperties};

use super::report::{Finding, Report};

/// A segment of the metadata log is never larger: one command of the most records.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// `meta.properties` is a few short lines.
const META_BYTES_MAX: u64 = 1 << 20;

/// What a partition's check has to know of the data directory that it is in.
#[derive(Debug, Default)]
pub(in crate::cli) struct Surroundings {
    /// Whether anything is known of it.
    pub(in crate::cli) is_data_directory: bool,
    /// Whether the broker was stopped cleanly.
    pub(in crate::cli) is_clean: Option<bool>,
    /// What the checkpoints say.
    pub(in crate::cli) points: RecoveryPoints,
    /// What the next start replays.
    pub(in crate::cli) pending: Vec<PendingBytes>,
}

/// A data directory, but for its partitions.
#[derive(Debug)]
pub(in crate::cli) struct DataDirectory {
    pub(in crate::cli) path: PathBuf,
    /// Whose it is, where that can be read.
    meta: Option<MetaProperties>,
    /// What its metadata log places in other directories of the node: their ids, and the names of
    /// the partitions' directories.
    elsewhere: Vec<(Uuid, String)>,
    pub(in crate::cli) around: Surroundings,
    pub(in crate::cli) report: Report,
    /// Checkpoints that cannot be read.
    pub(in crate::cli) damaged_checkpoints: Vec<PathBuf>,
    /// The directories of partitions, in order.
    pub(in crate::cli) partitions: Vec<PathBuf>,
}

/// Whether a directory is one of a broker's data, by what is in it.
pub(in crate::cli) fn is_data_directory(path: &Path) -> bool {
    let named = [META_FILE, LOCK_FILE, CLEAN_MARKER];
    named.iter().any(|name| path.join(name).exists())
}

/// Keeps a broker from starting on a data directory as long as this lives, and where it is to be
/// changed, everybody. There is nothing to hold where no broker has ever run.
///
/// # Errors
/// A broker runs on it, or a repair.
pub(in crate::cli) fn lock(path: &Path, is_changed: bool) -> Result<Option<File>, CliError> {
    let file = path.join(LOCK_FILE);
    let opened = match File::open(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(CliError::io(file.display().to_string()))?,
    };
    // Several may look at a time.
    let locked = match is_changed {
        true => opened.try_lock(),
        false => opened.try_lock_shared(),
    };
    match locked {
        Ok(()) => Ok(Some(opened)),
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&file).unwrap_or_default();
            let holder = holder.trim().parse::<u32>();
            let holder = holder.map_or_else(|_| String::new(), |id| format!(" (process {id})"));
            let path = path.display();
            Err(CliError::Failed(format!(
                "another process works on {path}{holder}, and its files change: stop it first. A \
                 broker that runs looks itself (millrace.scrub.bytes.per.second), and 'millrace \
                 log dump' shows single segments"
            )))
        }
        Err(TryLockError::Error(error)) => Err(CliError::io(file.display().to_string())(error)),
    }
}

impl DataDirectory {
    /// What the metadata knows it by.
    fn id(&self) -> Option<Uuid> {
        self.meta.as_ref().map(|meta| Uuid(meta.directory_id.0))
    }

    /// Looks at all but the partitions.
    pub(in crate::cli) fn check(path: &Path) -> Result<Self, CliError> {
        let directory = LogDirectory::new(path.to_owned(), false);
        let mut found = Self {
            path: path.to_owned(),
            meta: None,
            elsewhere: Vec::new(),
            around: Surroundings {
                is_data_directory: true,
                is_clean: Some(path.join(CLEAN_MARKER).exists()),
                ..Surroundings::default()
            },
            report: Report::new(path),
            damaged_checkpoints: Vec::new(),
            partitions: Vec::new(),
        };
        found.meta(&directory)?;
        let entries = directory.list(path)?;
        for Entry { name, is_file } in &entries {
            if checkpoint::is_checkpoint(name) {
                found.checkpoint(&directory, name)?;
            }
            let is_directory = !is_file;
            if is_directory && layout::parse_partition_directory(name).is_some() {
                found.partitions.push(path.join(name));
            } else if is_directory && name.ends_with(layout::STRAY) {
                found.report.note(format!(
                    "{name} is claimed by no topic, and was not checked"
                ));
            }
        }
        found.journals(&directory)?;
        found.metadata(&directory)?;
        Ok(found)
    }

    fn meta(&mut self, directory: &LogDirectory) -> Result<(), CliError> {
        let file = self.path.join(META_FILE);
        let kept = "All records are kept, but the broker does not start: restore it from a copy";
        let fault = match directory.read_file(&file, META_BYTES_MAX)? {
            None => "it is missing".to_owned(),
            Some(bytes) => match MetaProperties::parse(&bytes) {
                Ok(meta) => {
                    self.meta = Some(meta);
                    return Ok(());
                }
                Err(error @ (MetaError::OfKafka | MetaError::Newer(_))) => {
                    let (file, advice) = (file.display(), "run the version that wrote it");
                    return Err(CliError::Failed(format!("{file}: {error}: {advice}")));
                }
                Err(MetaError::Damaged(reason)) => reason,
            },
        };
        self.report
            .damage
            .push(Finding::of_file(&file, fault, kept));
        Ok(())
    }

    fn checkpoint(&mut self, directory: &LogDirectory, name: &str) -> Result<(), CliError> {
        let file = self.path.join(name);
        let bytes = directory.read_file(&file, CHECKPOINT_BYTES_MAX)?;
        let decoded = checkpoint::decode(&bytes.unwrap_or_default(), &mut self.around.points);
        if let Err(error) = decoded {
            let kept = "All records are kept, but the next start checks the logs that it speaks of \
                        from their beginning, and ends each where it is damaged: 'millrace log \
                        repair' makes it anew";
            self.report
                .damage
                .push(Finding::of_file(&file, error, kept));
            self.damaged_checkpoints.push(file);
        }
        Ok(())
    }

    fn journals(&mut self, directory: &LogDirectory) -> Result<(), CliError> {
        if self.around.is_clean == Some(true) {
            // All that they hold is in its segments, and they are removed by the next start.
            return Ok(());
        }
        let note = "the broker was not stopped: the next start goes on where it was";
        self.report.note(note);
        let (entries, damaged) = pending(directory)?;
        if !entries.is_empty() {
            let bytes: usize = entries.iter().map(|entry| entry.bytes.len()).sum();
            let note = format!(
                "{bytes} bytes of journals count here as what they will be at the next start: in \
                 their segments"
            );
            self.report.note(note);
        }
        self.around.pending = entries;
        for damaged in damaged {
            let kept = "What can be read of it counts; records that were acknowledged last may be \
                        lost. The next start keeps the file under another name";
            let finding = Finding::of_file(&damaged.journal, damaged.reason, kept);
            self.report.damage.push(finding);
        }
        Ok(())
    }

    /// Replays the records of the metadata and holds the directories against them. Damage of the
    /// log itself is told with the partitions.
    fn metadata(&mut self, directory: &LogDirectory) -> Result<(), CliError> {
        let name = layout::partition_directory(topic_name::CLUSTER_METADATA, PartitionIndex(0));
        let path = self.path.join(&name);
        if let Some(meta) = self.meta.as_ref().filter(|meta| !meta.is_of_metadata()) {
            let id = meta.metadata_directory_id;
            self.report.note(format!(
                "the metadata log is in the directory with the directory.id {id}"
            ));
            return Ok(());
        }
        if !path.is_dir() {
            let kept = "Without it the broker would take all topics for deleted ones: restore it \
                        from a copy before anything else";
            let finding = Finding::of_file(&path, "the log of the metadata is missing", kept);
            self.report.damage.push(finding);
            return Ok(());
        }
        let Some(image) = self.replay(directory, &path)? else {
            return Ok(());
        };
        let own = self.id();
        for topic in image.topics() {
            for (partition, placed) in topic.iter() {
                if let Some(other) = own.and_then(|own| place_elsewhere(placed, own)) {
                    let name = layout::partition_directory(&topic.name, partition);
                    self.elsewhere.push((other, name));
                    continue;
                }
                let path = self
                    .path
                    .join(layout::partition_directory(&topic.name, partition));
                let file = path.join(layout::PARTITION_METADATA);
                let kept = "The next start makes it anew, without records: restore it from a copy \
                            before that if it had some";
                if !path.is_dir() && self.around.is_clean != Some(true) {
                    let path = path.display();
                    let note = format!("{path} was about to be made when the broker ended");
                    self.report.note(note);
                    continue;
                }
                if !path.is_dir() {
                    let what = "the metadata knows the partition, and its directory is missing";
                    self.report.damage.push(Finding::of_file(&path, what, kept));
                    continue;
                }
                let bytes = directory.read_file(&file, layout::PARTITION_METADATA_BYTES_MAX)?;
                let named = bytes.as_deref().and_then(layout::parse_partition_metadata);
                if named.is_some_and(|named| named.id != topic.id) {
                    let what = "it names another topic than the metadata";
                    let kept = "The next start sets the directory aside, with all its records";
                    self.report.damage.push(Finding::of_file(&file, what, kept));
                }
            }
        }
        Ok(())
    }

    /// What the journals hold of a segment of the metadata's log.
    fn pending_of(&self, path: &Path, base: Offset) -> impl Iterator<Item = &PendingBytes> {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let pending = self.around.pending.iter();
        pending.filter(move |it| it.name == name && it.segment == base)
    }

    fn replay(
        &mut self,
        directory: &LogDirectory,
        path: &Path,
    ) -> Result<Option<MetadataImage>, CliError> {
        let mut delta = MetadataDelta::new(&MetadataImage::default());
        let mut next = None;
        for Entry { name, .. } in directory.list(path)? {
            let Some((base, layout::LOG)) = layout::parse_segment_file(&name) else {
                continue;
            };
            let file = path.join(&name);
            let mut bytes = directory
                .read_file(&file, SEGMENT_BYTES_MAX)?
                .unwrap_or_default();
            for patch in self.pending_of(path, base) {
                let (from, to) = (
                    patch.position as usize,
                    patch.position as usize + patch.bytes.len(),
                );
                bytes.resize(bytes.len().max(to), 0);
                bytes[from..to].copy_from_slice(&patch.bytes);
            }
            for (header, bytes) in Batches::new(&bytes).map_while(Result::ok) {
                let follows = next.is_none_or(|next| next == header.base_offset);
                if !follows || crc_of(bytes) != header.crc {
                    return Ok(None);
                }
                next = Some(header.next_offset());
                if let Err(error) = batch::replay(bytes, &mut delta) {
                    let kept = "The broker does not start: restore the directory from a copy";
                    self.report
                        .damage
                        .push(Finding::of_file(&file, error, kept));
                    return Ok(None);
                }
            }
        }
        Ok(Some(delta.finish().0))
    }
}

/// The other directory of its node in which the metadata places a partition, if it does. Kafka's
/// ids that stand for no directory are below the first.
fn place_elsewhere(partition: &PartitionImage, own: Uuid) -> Option<Uuid> {
    const FIRST_ID: Uuid = Uuid(3);
    if partition.directories.contains(&own) {
        return None;
    }
    let mut placed = partition.directories.iter().copied();
    placed.find(|id| *id >= FIRST_ID)
}

/// The partitions that the metadata places in one of `directories`, and that are in none of them:
/// the number of that directory, and what to tell.
pub(in crate::cli) fn missing_partitions(directories: &[DataDirectory]) -> Vec<(usize, Finding)> {
    let mut found = Vec::new();
    for (id, name) in directories.iter().flat_map(|it| &it.elsewhere) {
        let at = directories.iter().position(|it| it.id() == Some(*id));
        let is_there = directories.iter().any(|it| it.path.join(name).is_dir());
        let Some(at) = at.filter(|_| !is_there) else {
            continue;
        };
        // Otherwise it may have been about to be made.
        if directories[at].around.is_clean == Some(true) {
            let path = directories[at].path.join(name);
            let what = "the metadata knows the partition, and its directory is missing";
            let kept = "The next start makes it anew, without records: restore it from a copy \
                        before that if it had some";
            found.push((at, Finding::of_file(&path, what, kept)));
        }
    }
    found
}
