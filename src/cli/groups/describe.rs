//! Describing groups: where they are in each partition, how far behind, who reads it.

use std::collections::BTreeMap;

use rdkafka::error::RDKafkaErrorCode;
use serde::Serialize;

use super::list::NO_GROUPS;
use crate::cli::CliError;
use crate::cli::connect::{Client, Connection};
use crate::cli::native::{GroupCoordinator, GroupDescription, GroupMember, Refusal};
use crate::cli::output::{Output, Table, counted, on_a_line, tell};

/// The state of a group that is not there.
pub(super) const DEAD: &str = "Dead";

/// `groups describe`.
#[derive(Debug, clap::Args)]
pub struct Describe {
    /// The groups; without one, all
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,
    /// Show the members in place of the partitions
    #[arg(long)]
    members: bool,
    /// Print a JSON object for each group, with partitions and members
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct Described {
    group: String,
    state: String,
    #[serde(rename = "type")]
    kind: String,
    /// None where no generation has one.
    assignor: Option<String>,
    coordinator: Option<GroupCoordinator>,
    partitions: Vec<Partition>,
    members: Vec<Member>,
}

#[derive(Serialize)]
struct Partition {
    topic: String,
    partition: i32,
    /// None where nothing is committed.
    current_offset: Option<i64>,
    /// None where the partition is gone or has no leader.
    log_end_offset: Option<i64>,
    lag: Option<i64>,
    member: Option<String>,
    host: Option<String>,
    client_id: Option<String>,
}

#[derive(Serialize)]
struct Member {
    member: String,
    instance: Option<String>,
    host: String,
    client_id: String,
    /// By topic.
    assignment: BTreeMap<String, Vec<i32>>,
}

impl Describe {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let client = self.connection.connect()?;
        let (ids, silent) = self.ids(&client)?;
        let mut output = Output::new();
        let (mut shown, mut failed) = (0, Vec::new());
        for (id, group) in ids.iter().zip(descriptions(&client, &ids)?) {
            let described = match group {
                Ok(group) => describe(&client, group)?,
                Err(refusal) => Err(refusal),
            };
            let described = match described {
                Ok(described) => described,
                // It went since it was listed.
                Err(refusal) if refusal.code == NOT_FOUND && self.groups.is_empty() => continue,
                Err(refusal) => {
                    failed.push(why_not(id, &refusal).to_string());
                    continue;
                }
            };
            if self.json {
                output.json(&described)?;
            } else {
                if shown > 0 {
                    output.line("")?;
                }
                described.print(&mut output, self.members)?;
            }
            shown += 1;
        }
        output.flush()?;
        CliError::of_many(&failed, ids.len())?;
        CliError::of_silent_brokers(&silent)?;
        if shown == 0 && self.groups.is_empty() && !self.json {
            tell(NO_GROUPS);
        }
        Ok(())
    }

    /// The groups that were named, or all, and why some brokers did not tell of theirs.
    fn ids(&self, client: &Client) -> Result<(Vec<String>, Vec<Refusal>), CliError> {
        if !self.groups.is_empty() {
            return Ok((self.groups.clone(), Vec::new()));
        }
        let listed = client.admin().list_groups();
        let (groups, silent) = listed.map_err(|refusal| refused(&refusal))?;
        let mut ids: Vec<_> = groups.into_iter().map(|group| group.id).collect();
        ids.sort_unstable();
        Ok((ids, silent))
    }
}

fn refused(refusal: &Refusal) -> CliError {
    CliError::refused("groups describe", refusal)
}

fn why_not(id: &str, refusal: &Refusal) -> CliError {
    match refusal.code {
        NOT_FOUND => CliError::unknown_group(id),
        _ => CliError::refused(format_args!("the group '{id}'"), refusal),
    }
}

/// Each of the groups, or why not, in their order.
fn descriptions(
    client: &Client,
    ids: &[String],
) -> Result<Vec<Result<GroupDescription, Refusal>>, CliError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<_> = ids.iter().map(String::as_str).collect();
    let described = client.admin().describe_groups(&names);
    described.map_err(|refusal| refused(&refusal))
}

pub(super) const NOT_FOUND: RDKafkaErrorCode = RDKafkaErrorCode::GroupIdNotFound;

/// A group with its offsets, or what the coordinator refuses of this group; that the broker does
/// not answer goes for all groups, and is an error at once.
fn describe(
    client: &Client,
    group: GroupDescription,
) -> Result<Result<Described, Refusal>, CliError> {
    let committed = match client.admin().committed_offsets(&group.id) {
        Ok(committed) => committed,
        Err(refusal) if refusal.is_the_brokers() => return Ok(Err(refusal)),
        Err(refusal) => return Err(why_not(&group.id, &refusal)),
    };
    if group.state == DEAD && group.members.is_empty() && committed.is_empty() {
        return Ok(Err(Refusal::of(NOT_FOUND)));
    }
    let mut offsets: BTreeMap<(String, i32), Option<i64>> = BTreeMap::new();
    for committed in committed {
        offsets.insert((committed.topic, committed.partition), committed.offset);
    }
    let mut readers: BTreeMap<&(String, i32), &GroupMember> = BTreeMap::new();
    for member in &group.members {
        for partition in &member.partitions {
            readers.insert(partition, member);
            offsets.entry(partition.clone()).or_insert(None);
        }
    }
    let all: Vec<_> = offsets.keys().cloned().collect();
    let ends = client.ends(&all)?;
    let partitions = offsets.iter().map(|(partition, current)| {
        let reader = readers.get(partition);
        let end = ends.get(partition).copied();
        Partition {
            topic: partition.0.clone(),
            partition: partition.1,
            current_offset: *current,
            log_end_offset: end,
            lag: end.zip(*current).map(|(end, current)| end - current),
            member: reader.map(|member| member.id.clone()),
            host: reader.map(|member| member.host.clone()),
            client_id: reader.map(|member| member.client.clone()),
        }
    });
    let partitions = partitions.collect();
    let mut members: Vec<_> = group.members.iter().map(Member::new).collect();
    members.sort_by(|a, b| a.member.cmp(&b.member));
    Ok(Ok(Described {
        group: group.id,
        state: group.state,
        kind: group.kind,
        assignor: (!group.assignor.is_empty()).then_some(group.assignor),
        coordinator: group.coordinator,
        partitions,
        members,
    }))
}

impl Member {
    fn new(member: &GroupMember) -> Self {
        let mut assignment: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in &member.partitions {
            assignment
                .entry(topic.clone())
                .or_default()
                .push(*partition);
        }
        assignment
            .values_mut()
            .for_each(|partitions| partitions.sort_unstable());
        Self {
            member: member.id.clone(),
            instance: member.instance.clone(),
            host: member.host.clone(),
            client_id: member.client.clone(),
            assignment,
        }
    }
}

impl Described {
    fn print(&self, output: &mut Output, members: bool) -> Result<(), CliError> {
        output.line(format_args!("Group:        {}", on_a_line(&self.group)))?;
        output.line(format_args!("State:        {} ({})", self.state, self.kind))?;
        output.line(format_args!(
            "Assignor:     {}",
            self.assignor.as_deref().unwrap_or("-")
        ))?;
        let coordinator = self.coordinator.as_ref();
        let coordinator = coordinator.map(|it| format!("{}:{} (id {})", it.host, it.port, it.id));
        let coordinator = coordinator.as_deref().unwrap_or("-");
        output.line(format_args!("Coordinator:  {coordinator}"))?;
        output.line(format_args!("Members:      {}", self.members.len()))?;
        let lags = self.partitions.iter().filter(|it| it.lag.is_some()).count();
        let lag = match lags {
            0 => "-".to_owned(),
            // Of partitions without an offset nobody knows where the group would begin.
            lags => {
                let offsets = counted(lags as u64, "committed offset");
                format!("{} behind {offsets}", counted(self.lag(), "record"))
            }
        };
        output.line(format_args!("Lag:          {lag}"))?;
        match members {
            true => self.members_table().print(output),
            false => self.partitions_table().print(output),
        }
    }

    /// How many records are yet to be read. A group that is ahead of one log, where records were
    /// lost or somebody moved it there, is not the less behind in another.
    fn lag(&self) -> u64 {
        let lags = self.partitions.iter().filter_map(|partition| partition.lag);
        lags.map(|lag| u64::try_from(lag).unwrap_or(0)).sum()
    }

    fn partitions_table(&self) -> Table {
        let mut table = Table::new(&[
            "TOPIC",
            "PARTITION",
            "CURRENT-OFFSET",
            "LOG-END-OFFSET",
            "LAG",
            "CONSUMER-ID",
            "HOST",
            "CLIENT-ID",
        ]);
        let number = |number: Option<i64>| number.map_or_else(String::new, |n| n.to_string());
        for partition in &self.partitions {
            table.row(vec![
                partition.topic.clone(),
                partition.partition.to_string(),
                number(partition.current_offset),
                number(partition.log_end_offset),
                number(partition.lag),
                partition.member.clone().unwrap_or_default(),
                partition.host.clone().unwrap_or_default(),
                partition.client_id.clone().unwrap_or_default(),
            ]);
        }
        table
    }

    fn members_table(&self) -> Table {
        let mut table = Table::new(&[
            "CONSUMER-ID",
            "INSTANCE",
            "HOST",
            "CLIENT-ID",
            "PARTITIONS",
            "ASSIGNMENT",
        ]);
        for member in &self.members {
            let assignment = member.assignment.iter().map(|(topic, partitions)| {
                let partitions: Vec<_> = partitions.iter().map(ToString::to_string).collect();
                format!("{topic}:{}", partitions.join(","))
            });
            let assignment: Vec<_> = assignment.collect();
            let count: usize = member.assignment.values().map(Vec::len).sum();
            table.row(vec![
                member.member.clone(),
                member.instance.clone().unwrap_or_default(),
                member.host.clone(),
                member.client_id.clone(),
                count.to_string(),
                assignment.join(";"),
            ]);
        }
        table
    }
}
