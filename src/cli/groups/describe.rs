//! Describing groups: where they are in each partition, how far behind, who reads it.

use std::collections::BTreeMap;

use rdkafka::Offset;
use serde::Serialize;

use crate::cli::CliError;
use crate::cli::connect::{Client, Connection};
use crate::cli::native::{GroupDescription, GroupMember};
use crate::cli::output::{Output, Table, counted};

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
    assignor: String,
    coordinator: Option<String>,
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
        let mut output = Output::new();
        for (index, description) in self.descriptions(&client)?.into_iter().enumerate() {
            let described = describe(&client, description)?;
            if self.json {
                output.json(&described)?;
                continue;
            }
            if index > 0 {
                output.line("")?;
            }
            described.print(&mut output, self.members)?;
        }
        output.flush()
    }

    fn descriptions(&self, client: &Client) -> Result<Vec<GroupDescription>, CliError> {
        let refused = |refusal| CliError::refused("groups describe", &refusal);
        let mut ids = self.groups.clone();
        if ids.is_empty() {
            let (groups, _) = client.admin().list_groups().map_err(refused)?;
            ids.extend(groups.into_iter().map(|group| group.id));
            ids.sort_unstable();
        }
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<_> = ids.iter().map(String::as_str).collect();
        let described = client.admin().describe_groups(&names).map_err(refused)?;
        let described = described
            .into_iter()
            .zip(&ids)
            .map(|(described, id)| match described {
                Ok(group) => Ok(group),
                Err(refusal) if refusal.code == NOT_FOUND => Err(CliError::unknown_group(id)),
                Err(refusal) => Err(CliError::refused(
                    format_args!("the group '{id}'"),
                    &refusal,
                )),
            });
        described.collect()
    }
}

pub(super) const NOT_FOUND: rdkafka::error::RDKafkaErrorCode =
    rdkafka::error::RDKafkaErrorCode::GroupIdNotFound;

fn describe(client: &Client, group: GroupDescription) -> Result<Described, CliError> {
    let committed = client.admin().committed_offsets(&group.id);
    let committed = committed.map_err(|refusal| {
        CliError::refused(
            format_args!("the offsets of the group '{}'", group.id),
            &refusal,
        )
    })?;
    if group.state == DEAD && group.members.is_empty() && committed.is_empty() {
        return Err(CliError::unknown_group(&group.id));
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
    let ends = ends(client, &all)?;
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
    Ok(Described {
        group: group.id,
        state: group.state,
        kind: group.kind,
        assignor: group.assignor,
        coordinator: group.coordinator,
        partitions,
        members,
    })
}

/// The end of each partition that is still there and has a leader.
fn ends(
    client: &Client,
    partitions: &[(String, i32)],
) -> Result<BTreeMap<(String, i32), i64>, CliError> {
    let there = client.with_leaders(partitions)?;
    let ends = client.offsets(&there, Offset::End)?;
    let ends = there.into_iter().zip(ends);
    Ok(ends
        .filter_map(|(partition, end)| Some((partition, end.ok()?)))
        .collect())
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
        let dash = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
        output.line(format_args!("Group:        {}", self.group))?;
        output.line(format_args!("State:        {} ({})", self.state, self.kind))?;
        output.line(format_args!("Assignor:     {}", dash(&self.assignor)))?;
        let coordinator = self.coordinator.as_deref().unwrap_or("-");
        output.line(format_args!("Coordinator:  {coordinator}"))?;
        output.line(format_args!("Members:      {}", self.members.len()))?;
        let lag: i64 = self
            .partitions
            .iter()
            .filter_map(|partition| partition.lag)
            .sum();
        output.line(format_args!(
            "Lag:          {}",
            counted(lag.unsigned_abs(), "record")
        ))?;
        match members {
            true => self.members_table().print(output),
            false => self.partitions_table().print(output),
        }
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
                assignment.join(" "),
            ]);
        }
        table
    }
}
