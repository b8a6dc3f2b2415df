//! The verb `admin`: one answer for each command.
//!
//! What the library has no call for, it does as its users do: groups are listed by the old call for
//! them, offsets are read and set by a consumer of the group.

use std::time::Duration;

use futures_lite::future::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::groups::GroupMemberInfo;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use super::{Failure, commands, config, number, offsets, offsets_of, print, text};

/// What it can do.
pub const KNOWN: &[&str] = &[
    "create",
    "list",
    "describe",
    "add_partitions",
    "delete",
    "configs",
    "list_groups",
    "describe_group",
    "offsets",
    "reset_offsets",
    "delete_group",
    "list_offsets",
];

const WITHIN: Duration = Duration::from_secs(30);

struct Admin<'a> {
    options: &'a Value,
    client: AdminClient<DefaultClientContext>,
    consumer: BaseConsumer,
}

/// Answers commands until they end.
pub fn run(options: &Value) -> Result<(), Failure> {
    let admin = Admin {
        options,
        client: config(options).create()?,
        consumer: config(options).set("group.id", "none").create()?,
    };
    for command in commands() {
        let command = command?;
        let name = text(&command, "do")?;
        match admin.perform(name, &command) {
            Ok(mut done) => {
                done["event"] = json!("done");
                done["do"] = json!(name);
                print(&done);
            }
            Err(failure) => {
                print(&failure.put_into(json!({"event": "failed", "do": name})));
            }
        }
    }
    Ok(())
}

impl Admin<'_> {
    fn perform(&self, name: &str, command: &Value) -> Result<Value, Failure> {
        let topic = command["topic"].as_str().unwrap_or_default();
        let group = command["group"].as_str().unwrap_or_default();
        let options = AdminOptions::new().operation_timeout(Some(WITHIN));
        match name {
            "create" => self.create(topic, command, &options),
            "list" => self.list(),
            "describe" => self.describe(topic),
            "add_partitions" => {
                let count = usize::try_from(number(command, "count")?);
                let count = count.map_err(|error| error.to_string())?;
                let wanted = [NewPartitions::new(topic, count)];
                only(block_on(self.client.create_partitions(&wanted, &options))?)
            }
            "delete" => only(block_on(self.client.delete_topics(&[topic], &options))?),
            "configs" => self.configs(topic, &options),
            "list_groups" => self.list_groups(),
            "describe_group" => self.describe_group(group),
            "offsets" => self.offsets(group),
            "reset_offsets" => {
                let wanted = offsets_of(&command["offsets"])?;
                self.consumer_of(group)?.commit(&wanted, CommitMode::Sync)?;
                Ok(json!({}))
            }
            "delete_group" => only(block_on(self.client.delete_groups(&[group], &options))?),
            "list_offsets" => self.list_offsets(topic, &command["at"]),
            other => Err(format!("no command {other}").into()),
        }
    }

    fn create(
        &self,
        topic: &str,
        command: &Value,
        options: &AdminOptions,
    ) -> Result<Value, Failure> {
        let partitions = i32::try_from(number(command, "partitions")?);
        let partitions = partitions.map_err(|error| error.to_string())?;
        let mut wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (key, value) in command["configs"].as_object().into_iter().flatten() {
            wanted = wanted.set(key, value.as_str().unwrap_or_default());
        }
        only(block_on(self.client.create_topics(&[wanted], options))?)
    }

    fn list(&self) -> Result<Value, Failure> {
        let metadata = self.consumer.fetch_metadata(None, WITHIN)?;
        let mut topics: Vec<_> = metadata.topics().iter().map(|topic| topic.name()).collect();
        topics.sort_unstable();
        Ok(json!({"topics": topics}))
    }

    fn describe(&self, topic: &str) -> Result<Value, Failure> {
        let metadata = self.consumer.fetch_metadata(Some(topic), WITHIN)?;
        let [described] = metadata.topics() else {
            return Err(format!("asked for {topic}, told of others").into());
        };
        if let Some(error) = described.error() {
            return Err(RDKafkaErrorCode::from(error).into());
        }
        let mut partitions: Vec<_> = described.partitions().iter().collect();
        partitions.sort_by_key(|partition| partition.id());
        let rows = partitions.into_iter().map(|partition| {
            json!({
                "partition": partition.id(),
                "leader": partition.leader(),
                "replicas": partition.replicas(),
                "isr": partition.isr(),
            })
        });
        Ok(json!({"partitions": rows.collect::<Vec<_>>()}))
    }

    fn configs(&self, topic: &str, options: &AdminOptions) -> Result<Value, Failure> {
        let resource = ResourceSpecifier::Topic(topic);
        let described = block_on(self.client.describe_configs(&[resource], options))?;
        let mut configs = json!({});
        for resource in described {
            for entry in resource?.entries {
                configs[entry.name] = json!(entry.value);
            }
        }
        Ok(json!({"configs": configs}))
    }

    fn list_groups(&self) -> Result<Value, Failure> {
        let list = self.consumer.fetch_group_list(None, WITHIN)?;
        let groups: Vec<_> = list
            .groups()
            .iter()
            .map(|group| json!({"group": group.name(), "state": group.state()}))
            .collect();
        Ok(json!({"groups": groups}))
    }

    fn describe_group(&self, group: &str) -> Result<Value, Failure> {
        let list = self.consumer.fetch_group_list(Some(group), WITHIN)?;
        let [described] = list.groups() else {
            return Err(RDKafkaErrorCode::GroupIdNotFound.into());
        };
        let members: Vec<_> = described.members().iter().map(member).collect();
        Ok(json!({
            "state": described.state(),
            "protocol": described.protocol(),
            "members": members,
        }))
    }

    /// The committed offsets of all partitions there are.
    fn offsets(&self, group: &str) -> Result<Value, Failure> {
        let metadata = self.consumer.fetch_metadata(None, WITHIN)?;
        let mut asked = TopicPartitionList::new();
        for topic in metadata.topics() {
            for partition in topic.partitions() {
                asked.add_partition(topic.name(), partition.id());
            }
        }
        let committed = self.consumer_of(group)?.committed_offsets(asked, WITHIN)?;
        Ok(json!({"offsets": offsets(&committed)}))
    }

    fn list_offsets(&self, topic: &str, at: &Value) -> Result<Value, Failure> {
        let metadata = self.consumer.fetch_metadata(Some(topic), WITHIN)?;
        let mut found = TopicPartitionList::new();
        for partition in metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions())
        {
            let id = partition.id();
            let (low, high) = self.consumer.fetch_watermarks(topic, id, WITHIN)?;
            let offset = match at.as_str() {
                Some("earliest") => low,
                Some(_) => high,
                None => at.as_i64().unwrap_or_default(),
            };
            found.add_partition_offset(topic, id, Offset::Offset(offset))?;
        }
        if at.is_number() {
            found = self.consumer.offsets_for_times(found, WITHIN)?;
        }
        Ok(json!({"offsets": offsets(&found)}))
    }

    fn consumer_of(&self, group: &str) -> Result<BaseConsumer, Failure> {
        let mut config = config(self.options);
        config.set("group.id", group);
        Ok(config.create()?)
    }
}

/// The outcome of a call about one thing.
fn only(outcome: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Result<Value, Failure> {
    match outcome.into_iter().next() {
        Some(Ok(_)) => Ok(json!({})),
        Some(Err((_, code))) => Err(code.into()),
        None => Err("no outcome".to_owned().into()),
    }
}

fn member(member: &GroupMemberInfo) -> Value {
    json!({
        "member": member.id(),
        // The call does not tell the static member's id.
        "instance": Value::Null,
        "client": member.client_id(),
        "host": member.client_host(),
        "assignment": member.assignment().and_then(decode_assignment),
    })
}

/// The partitions of a `ConsumerProtocolAssignment`: a version, then topics, each with partitions.
fn decode_assignment(bytes: &[u8]) -> Option<Vec<Value>> {
    let mut rest = bytes.get(2..)?;
    let mut take = |count: usize| {
        let (taken, left) = rest.split_at_checked(count)?;
        rest = left;
        Some(taken)
    };
    let mut partitions = Vec::new();
    let topics = i32::from_be_bytes(take(4)?.try_into().ok()?);
    for _ in 0..topics {
        let length = u16::from_be_bytes(take(2)?.try_into().ok()?);
        let topic = String::from_utf8(take(length.into())?.to_vec()).ok()?;
        let count = i32::from_be_bytes(take(4)?.try_into().ok()?);
        for _ in 0..count {
            let partition = i32::from_be_bytes(take(4)?.try_into().ok()?);
            partitions.push(json!([topic, partition]));
        }
    }
    Some(partitions)
}
