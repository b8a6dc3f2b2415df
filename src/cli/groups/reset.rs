//! `groups reset-offsets`: where a group without members reads on.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;

use super::describe::{DEAD, NOT_FOUND};
use crate::base::clock::TimestampMs;
use crate::cli::CliError;
use crate::cli::connect::{Client, Connection, Partition};
use crate::cli::error::with_advice;
use crate::cli::output::{Output, Table, counted, tell};
use crate::cli::time::{now_ms, parse_point, parse_span};

/// Why a partition's offset stays as it is.
const GONE: &str = "is gone or has no leader";

/// The state of a group without members.
const EMPTY: &str = "Empty";

/// `groups reset-offsets`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("scope").required(true).args(["topics", "all_topics"]))]
pub struct ResetOffsets {
    /// The group
    group: String,
    /// A topic, or some partitions of it, as in orders:0,2; may be given again
    #[arg(long = "topic", value_name = "TOPIC[:N,...]")]
    topics: Vec<String>,
    /// All topics that the group has offsets in
    #[arg(long)]
    all_topics: bool,
    #[command(flatten)]
    target: Target,
    /// Do it
    #[arg(long)]
    execute: bool,
    /// Only show what would be; the default
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
    /// Print a JSON object for each partition
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Where to.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// To the first record that is there
    #[arg(long)]
    to_earliest: bool,
    /// To the end
    #[arg(long)]
    to_latest: bool,
    /// To this offset, or as near to it as there are records
    #[arg(
        long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..),
        allow_negative_numbers = true
    )]
    to_offset: Option<i64>,
    /// To the first record at or after this time, such as 2026-01-31T08:30:00Z or -1h
    #[arg(long, value_name = "TIME", value_parser = parse_point, allow_hyphen_values = true)]
    to_datetime: Option<TimestampMs>,
    /// By so many records, forwards or, where negative, back
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// To the first record of the last so long, such as 90m, 7d or P7D
    #[arg(long, value_name = "SPAN", value_parser = parse_span, allow_hyphen_values = true)]
    by_duration: Option<Duration>,
}

#[derive(Serialize)]
struct Reset<'a> {
    group: &'a str,
    topic: &'a str,
    partition: i32,
    /// None where nothing is committed.
    current_offset: Option<i64>,
    /// None where it was not set, or cannot be.
    new_offset: Option<i64>,
    executed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a String>,
}

/// What becomes of each partition: its new offset, or why it gets none.
type Plan = BTreeMap<Partition, Result<i64, String>>;

impl ResetOffsets {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let client = self.connection.connect()?;
        self.check_state(&client)?;
        let committed = self.committed(&client)?;
        let (partitions, left_out) = self.partitions(&client, &committed)?;
        if partitions.is_empty() {
            return Err(CliError::Failed(format!(
                "each partition that the group '{}' has an offset in {GONE}",
                self.group
            )));
        }
        let mut plan = self.new_offsets(&client, &partitions, &committed)?;
        if self.execute {
            self.execute(&client, &mut plan)?;
        }
        plan.extend(
            left_out
                .into_iter()
                .map(|gone| (gone, Err(GONE.to_owned()))),
        );
        self.print(&committed, &plan)?;
        let failed = plan.values().filter(|new| new.is_err()).count();
        if failed > 0 {
            let all = plan.len();
            return Err(CliError::Partly { failed, all });
        }
        if !self.execute && !self.json {
            tell("Nothing was changed: --execute does it.");
        }
        Ok(())
    }

    /// A group with members commits over whatever is set from outside, so it must have none.
    fn check_state(&self, client: &Client) -> Result<(), CliError> {
        let what = format!("the group '{}'", self.group);
        let described = client.admin().describe_groups(&[&self.group]);
        let described = described.map_err(|refusal| CliError::refused(&what, &refusal))?;
        match described.into_iter().next() {
            Some(Ok(group)) if group.state != EMPTY && group.state != DEAD => {
                Err(CliError::Failed(format!(
                    "{what} has {} and is {}: offsets can be reset when it has none. Stop them \
                     first: 'millrace groups describe {} --members' shows them",
                    counted(group.members.len() as u64, "member"),
                    group.state,
                    self.group
                )))
            }
            Some(Err(refusal)) if refusal.code != NOT_FOUND => {
                Err(CliError::refused(&what, &refusal))
            }
            _ => Ok(()),
        }
    }

    fn committed(&self, client: &Client) -> Result<BTreeMap<Partition, i64>, CliError> {
        let committed = client.admin().committed_offsets(&self.group);
        let committed = match committed {
            Err(refusal) if refusal.code == NOT_FOUND => Vec::new(),
            committed => committed.map_err(|refusal| {
                let what = format!("the offsets of the group '{}'", self.group);
                CliError::refused(what, &refusal)
            })?,
        };
        let committed = committed.into_iter().filter_map(|committed| {
            let offset = committed.offset?;
            Some(((committed.topic, committed.partition), offset))
        });
        Ok(committed.collect())
    }

    /// The partitions that were named; and of all, those that cannot be asked where they begin.
    fn partitions(
        &self,
        client: &Client,
        committed: &BTreeMap<Partition, i64>,
    ) -> Result<(Vec<Partition>, Vec<Partition>), CliError> {
        if self.all_topics {
            if committed.is_empty() {
                return Err(CliError::Failed(format!(
                    "the group '{}' has no offsets, so name the topics by --topic",
                    self.group
                )));
            }
            let all: Vec<_> = committed.keys().cloned().collect();
            return client.by_leaders(all);
        }
        let mut wanted = Vec::new();
        for topic in &self.topics {
            let (topic, chosen) = match topic.split_once(':') {
                Some((topic, chosen)) => (topic, Some(chosen)),
                None => (topic.as_str(), None),
            };
            let there = client.partitions(topic)?;
            let Some(chosen) = chosen else {
                wanted.extend(
                    there
                        .into_iter()
                        .map(|partition| (topic.to_owned(), partition)),
                );
                continue;
            };
            for text in chosen.split(',') {
                let partition = text.trim().parse().map_err(|_| {
                    CliError::Usage(format!(
                        "--topic {topic}:{chosen}: '{text}' is no partition"
                    ))
                })?;
                if !there.contains(&partition) {
                    return Err(CliError::unknown_partition(topic, partition));
                }
                wanted.push((topic.to_owned(), partition));
            }
        }
        wanted.sort();
        wanted.dedup();
        Ok((wanted, Vec::new()))
    }

    fn new_offsets(
        &self,
        client: &Client,
        partitions: &[Partition],
        committed: &BTreeMap<Partition, i64>,
    ) -> Result<Plan, CliError> {
        let target = &self.target;
        let ago = |span: Duration| {
            let ago = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
            now_ms().saturating_sub(ago).max(0)
        };
        let at = match target {
            Target {
                to_earliest: true, ..
            } => Some(Offset::Beginning),
            Target {
                to_latest: true, ..
            } => Some(Offset::End),
            target => target
                .to_datetime
                .or(target.by_duration.map(ago))
                .map(Offset::Offset),
        };
        let new = match at {
            Some(at) => Self::offsets_at(client, partitions, at)?,
            None => self.offsets_by_number(client, partitions, committed)?,
        };
        Ok(new
            .into_iter()
            .map(|(partition, offset)| (partition, Ok(offset)))
            .collect())
    }

    fn offsets_at(
        client: &Client,
        partitions: &[Partition],
        at: Offset,
    ) -> Result<BTreeMap<Partition, i64>, CliError> {
        let offsets = client.offsets(partitions, at)?;
        let offsets = partitions.iter().cloned().zip(offsets);
        let offsets = offsets.map(|(partition, offset)| match offset {
            Ok(offset) => Ok((partition, offset)),
            Err(code) => {
                let what = format!("the offsets of {}-{}", partition.0, partition.1);
                Err(CliError::failed(what, code))
            }
        });
        offsets.collect()
    }

    /// To an offset, or by so many, as near to it as there are records.
    fn offsets_by_number(
        &self,
        client: &Client,
        partitions: &[Partition],
        committed: &BTreeMap<Partition, i64>,
    ) -> Result<BTreeMap<Partition, i64>, CliError> {
        let target = &self.target;
        let earliest = Self::offsets_at(client, partitions, Offset::Beginning)?;
        let latest = Self::offsets_at(client, partitions, Offset::End)?;
        let mut new = BTreeMap::new();
        for partition in partitions {
            let wanted = match (target.to_offset, target.shift_by) {
                (Some(offset), _) => offset,
                (None, shift) => {
                    let current = committed.get(partition).ok_or_else(|| {
                        CliError::Failed(format!(
                            "the group '{}' has no offset in {}-{} to shift from",
                            self.group, partition.0, partition.1
                        ))
                    })?;
                    current.saturating_add(shift.unwrap_or(0))
                }
            };
            let (first, end) = (earliest[partition], latest[partition]);
            let taken = wanted.clamp(first, end.max(first));
            if taken != wanted {
                tell(format_args!(
                    "{}-{}: {wanted} is out of range, {taken} is the nearest",
                    partition.0, partition.1
                ));
            }
            new.insert(partition.clone(), taken);
        }
        Ok(new)
    }

    /// Sets the offsets, and takes note of those that were refused.
    fn execute(&self, client: &Client, plan: &mut Plan) -> Result<(), CliError> {
        let what = format!("the offsets of the group '{}'", self.group);
        let mut list = TopicPartitionList::with_capacity(plan.len());
        for ((topic, partition), offset) in plan.iter() {
            let Ok(offset) = offset else { continue };
            let added = list.add_partition_offset(topic, *partition, Offset::Offset(*offset));
            added.map_err(|error| CliError::client(&what, &error))?;
        }
        let altered = client.admin().alter_offsets(&self.group, &list);
        let altered = altered.map_err(|refusal| CliError::refused(&what, &refusal))?;
        for altered in altered {
            if let Some(refusal) = altered.refusal {
                let why = with_advice(&refusal);
                plan.insert((altered.topic, altered.partition), Err(why));
            }
        }
        Ok(())
    }

    fn print(&self, committed: &BTreeMap<Partition, i64>, plan: &Plan) -> Result<(), CliError> {
        let mut output = Output::new();
        let mut table = Table::new(&[
            "GROUP",
            "TOPIC",
            "PARTITION",
            "CURRENT-OFFSET",
            "NEW-OFFSET",
        ]);
        for (partition, new) in plan {
            let current_offset = committed.get(partition).copied();
            let (topic, number) = (&partition.0, partition.1);
            if self.json {
                output.json(&Reset {
                    group: &self.group,
                    topic,
                    partition: number,
                    current_offset,
                    new_offset: new.as_ref().ok().copied(),
                    executed: self.execute && new.is_ok(),
                    error: new.as_ref().err(),
                })?;
                continue;
            }
            match new {
                Err(why) => tell(format_args!("millrace: {topic}-{number}: {why}")),
                Ok(new) => table.row(vec![
                    self.group.clone(),
                    topic.clone(),
                    number.to_string(),
                    current_offset.map_or_else(String::new, |offset| offset.to_string()),
                    new.to_string(),
                ]),
            }
        }
        if !self.json {
            table.print(&mut output)?;
        }
        output.flush()
    }
}
