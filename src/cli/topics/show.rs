//! Listing and describing topics.

use std::collections::{BTreeMap, HashMap};

use rdkafka::Offset;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigSource, OwnedResourceSpecifier, ResourceSpecifier,
};
use rdkafka::metadata::MetadataTopic;
use serde::Serialize;

use crate::cli::CliError;
use crate::cli::connect::{Client, Complaints, Connection, create, topic_error};
use crate::cli::output::{Output, Table, tell};

/// Settings, each with its value where that is no secret.
type Configs = BTreeMap<String, Option<String>>;

/// `topics list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Also the broker's own topics, such as __consumer_offsets
    #[arg(long)]
    internal: bool,
    /// Print a JSON object for each topic
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// `topics describe`.
#[derive(Debug, clap::Args)]
pub struct Describe {
    /// The names; without one, all topics but the broker's own
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// Print a JSON object for each topic
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct Listed<'a> {
    topic: &'a str,
    partitions: usize,
    replication_factor: usize,
    internal: bool,
}

#[derive(Serialize)]
struct Described<'a> {
    topic: &'a str,
    internal: bool,
    partitions: Vec<Partition>,
    /// All settings that do not have the broker's default.
    configs: Configs,
}

#[derive(Serialize)]
struct Partition {
    partition: i32,
    /// None where there is no leader.
    leader: Option<i32>,
    replicas: Vec<i32>,
    isr: Vec<i32>,
    /// None where the leader does not answer.
    earliest_offset: Option<i64>,
    latest_offset: Option<i64>,
}

/// Kafka marks its own topics by a flag that the library does not hand on; the names are fixed.
fn is_internal(topic: &str) -> bool {
    matches!(
        topic,
        "__consumer_offsets" | "__transaction_state" | "__share_group_state"
    )
}

fn replication_factor(topic: &MetadataTopic) -> usize {
    let partitions = topic.partitions().iter();
    partitions
        .map(|partition| partition.replicas().len())
        .max()
        .unwrap_or(0)
}

impl List {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let client = self.connection.connect()?;
        let metadata = client.metadata()?;
        let mut topics: Vec<_> = metadata
            .topics()
            .iter()
            .filter(|topic| self.internal || !is_internal(topic.name()))
            .map(|topic| Listed {
                topic: topic.name(),
                partitions: topic.partitions().len(),
                replication_factor: replication_factor(topic),
                internal: is_internal(topic.name()),
            })
            .collect();
        topics.sort_by_key(|listed| listed.topic);
        let mut output = Output::new();
        if self.json {
            for topic in &topics {
                output.json(topic)?;
            }
            return output.flush();
        }
        if topics.is_empty() {
            tell("There is no topic yet. 'millrace topics create NAME' makes one.");
            return Ok(());
        }
        let mut table = Table::new(&["TOPIC", "PARTITIONS", "REPLICATION-FACTOR"]);
        for listed in &topics {
            table.row(vec![
                listed.topic.to_owned(),
                listed.partitions.to_string(),
                listed.replication_factor.to_string(),
            ]);
        }
        table.print(&mut output)?;
        output.flush()
    }
}

impl Describe {
    pub(super) fn run(&self) -> Result<(), CliError> {
        let client = self.connection.connect()?;
        let metadata = match &self.topics[..] {
            [name] => client.topic(name)?,
            _ => client.metadata()?,
        };
        let all = metadata.topics();
        let mut topics = Vec::new();
        for name in &self.topics {
            let topic = all.iter().find(|topic| topic.name() == name);
            let topic = topic.ok_or_else(|| CliError::unknown_topic(name))?;
            match topic.error() {
                None => topics.push(topic),
                Some(code) => return Err(topic_error(name, code.into())),
            }
        }
        if self.topics.is_empty() {
            topics.extend(all.iter().filter(|topic| !is_internal(topic.name())));
            topics.sort_by_key(|topic| topic.name());
        }
        let mut configs = self.configs(&topics)?;
        let mut output = Output::new();
        for (index, topic) in topics.iter().enumerate() {
            let configs = configs.remove(topic.name()).unwrap_or_default();
            let described = describe(&client, topic, configs)?;
            if self.json {
                output.json(&described)?;
            } else {
                if index > 0 {
                    output.line("")?;
                }
                print(&described, &mut output)?;
            }
        }
        output.flush()
    }

    /// The settings of each topic that are not the broker's default.
    fn configs(&self, topics: &[&MetadataTopic]) -> Result<HashMap<String, Configs>, CliError> {
        if topics.is_empty() {
            return Ok(HashMap::new());
        }
        let admin: AdminClient<Complaints> =
            create(&self.connection.config()?, Complaints::default())?;
        let options = AdminOptions::new().request_timeout(Some(self.connection.timeout));
        let wanted: Vec<_> = topics
            .iter()
            .map(|t| ResourceSpecifier::Topic(t.name()))
            .collect();
        let described = futures_lite::future::block_on(admin.describe_configs(&wanted, &options));
        let described =
            described.map_err(|error| CliError::client("the settings of the topics", &error))?;
        let mut own = HashMap::new();
        for resource in described {
            let failed = |code| CliError::failed("the settings of a topic", code);
            let resource = resource.map_err(failed)?;
            let OwnedResourceSpecifier::Topic(topic) = resource.specifier else {
                continue;
            };
            let entries = resource.entries.into_iter();
            let entries = entries.filter(|entry| entry.source == ConfigSource::DynamicTopic);
            own.insert(
                topic,
                entries.map(|entry| (entry.name, entry.value)).collect(),
            );
        }
        Ok(own)
    }
}

fn describe<'a>(
    client: &Client,
    topic: &'a MetadataTopic,
    configs: Configs,
) -> Result<Described<'a>, CliError> {
    let mut shown: Vec<_> = topic.partitions().iter().collect();
    shown.sort_by_key(|partition| partition.id());
    let with_leader = shown.iter().filter(|partition| partition.leader() >= 0);
    let led: Vec<_> = with_leader
        .map(|p| (topic.name().to_owned(), p.id()))
        .collect();
    let earliest = client.offsets(&led, Offset::Beginning)?;
    let latest = client.offsets(&led, Offset::End)?;
    let offset_of = |offsets: &[Result<i64, _>], partition: i32| {
        let at = led.iter().position(|(_, led)| *led == partition);
        at.and_then(|at| offsets[at].as_ref().ok().copied())
    };
    let partitions = shown.into_iter().map(|partition| Partition {
        partition: partition.id(),
        leader: (partition.leader() >= 0).then_some(partition.leader()),
        replicas: partition.replicas().to_vec(),
        isr: partition.isr().to_vec(),
        earliest_offset: offset_of(&earliest, partition.id()),
        latest_offset: offset_of(&latest, partition.id()),
    });
    Ok(Described {
        topic: topic.name(),
        internal: is_internal(topic.name()),
        partitions: partitions.collect(),
        configs,
    })
}

fn print(described: &Described<'_>, output: &mut Output) -> Result<(), CliError> {
    let brokers = |ids: &[i32]| {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        ids.join(",")
    };
    let offset = |offset: Option<i64>| offset.map_or_else(String::new, |at| at.to_string());
    let configs = described.configs.iter().map(|(key, value)| {
        let value = value.as_deref().unwrap_or("(hidden)");
        format!("{key}={value}")
    });
    let configs: Vec<_> = configs.collect();
    output.line(format_args!("Topic:    {}", described.topic))?;
    if !configs.is_empty() {
        output.line(format_args!("Configs:  {}", configs.join(" ")))?;
    }
    let mut table = Table::new(&[
        "PARTITION",
        "LEADER",
        "REPLICAS",
        "ISR",
        "EARLIEST-OFFSET",
        "LATEST-OFFSET",
    ]);
    for partition in &described.partitions {
        table.row(vec![
            partition.partition.to_string(),
            partition
                .leader
                .map_or_else(String::new, |leader| leader.to_string()),
            brokers(&partition.replicas),
            brokers(&partition.isr),
            offset(partition.earliest_offset),
            offset(partition.latest_offset),
        ]);
    }
    table.print(output)
}
