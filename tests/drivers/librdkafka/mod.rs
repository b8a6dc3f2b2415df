//! librdkafka (through the `rdkafka` crate) by the contract of `tests/drivers`: one verb, commands
//! in and events out, as JSON lines.
//!
//! It is part of the test program, which starts itself once more to be this driver: librdkafka is
//! linked there already.

mod admin;
mod consume;
mod produce;

use std::io::{BufRead as _, Write as _};

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};

/// What ends a driver or fails a command, with Kafka's name of it where it has one.
struct Failure {
    message: String,
    code: Option<String>,
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        Self {
            message: error.to_string(),
            code: error.rdkafka_error_code().map(name_of),
        }
    }
}

impl From<RDKafkaErrorCode> for Failure {
    fn from(code: RDKafkaErrorCode) -> Self {
        Self {
            message: code.to_string(),
            code: Some(name_of(code)),
        }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self {
            message,
            code: None,
        }
    }
}

impl Failure {
    fn put_into(self, mut event: Value) -> Value {
        event["message"] = json!(self.message);
        event["code"] = json!(self.code);
        event
    }
}

/// `UnknownTopicOrPartition` as Kafka writes it: `UNKNOWN_TOPIC_OR_PARTITION`.
fn name_of(code: RDKafkaErrorCode) -> String {
    let mut name = String::new();
    for (at, letter) in format!("{code:?}").char_indices() {
        if letter.is_uppercase() && at > 0 {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// Serves one verb to its end; gives the exit code.
pub fn run(arguments: &[String]) -> i32 {
    let options = arguments.get(1).map_or("{}", String::as_str);
    let done = serde_json::from_str(options)
        .map_err(|error| Failure::from(error.to_string()))
        .and_then(
            |options: Value| match arguments.first().map(String::as_str) {
                Some("capabilities") => {
                    print(&capabilities());
                    Ok(())
                }
                Some("produce") => produce::run(&options),
                Some("consume") => consume::run(&options),
                Some("admin") => admin::run(&options),
                other => Err(format!("no verb {other:?}").into()),
            },
        );
    match done {
        Ok(()) => 0,
        Err(failure) => {
            print(&failure.put_into(json!({"event": "error"})));
            1
        }
    }
}

fn capabilities() -> Value {
    json!({
        "client": "librdkafka",
        "version": rdkafka::util::get_rdkafka_version().1,
        "codecs": ["none", "gzip", "snappy", "lz4", "zstd"],
        "strategies": ["range", "roundrobin", "cooperative"],
        "admin": admin::KNOWN,
        "idempotent": true,
        "custom_partitioner": true,
        "cooperative": true,
        "static": true,
        "pattern": true,
        "seek_time": true,
        "isolation": true,
        "auto_commit": true,
    })
}

/// One event, at once.
fn print(event: &Value) {
    let mut out = std::io::stdout().lock();
    // Whoever listened has gone: then nobody misses the event either.
    let _ = writeln!(out, "{event}").and_then(|()| out.flush());
}

/// The commands, up to the end of the input.
fn commands() -> impl Iterator<Item = Result<Value, Failure>> {
    std::io::stdin().lock().lines().map(|line| {
        let line = line.map_err(|error| Failure::from(error.to_string()))?;
        serde_json::from_str(&line)
            .map_err(|error| format!("not a command: {line}: {error}").into())
    })
}

fn config(options: &Value) -> ClientConfig {
    let mut config = ClientConfig::new();
    set(&mut config, "bootstrap.servers", options, "bootstrap");
    config.set_log_level(RDKafkaLogLevel::Warning);
    config
}

/// Sets `key` where the options name `option`.
fn set(config: &mut ClientConfig, key: &str, options: &Value, option: &str) {
    match &options[option] {
        Value::Null => (),
        Value::String(text) => {
            config.set(key, text);
        }
        other => {
            config.set(key, other.to_string());
        }
    }
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str, Failure> {
    value[name]
        .as_str()
        .ok_or_else(|| format!("no {name} in {value}").into())
}

fn number(value: &Value, name: &str) -> Result<i64, Failure> {
    value[name]
        .as_i64()
        .ok_or_else(|| format!("no {name} in {value}").into())
}

/// `[[topic, partition, offset], ...]` as the library takes it.
fn offsets_of(rows: &Value) -> Result<TopicPartitionList, Failure> {
    let mut list = TopicPartitionList::new();
    for row in rows.as_array().into_iter().flatten() {
        let (Some(topic), Some(partition), Some(offset)) =
            (row[0].as_str(), row[1].as_i64(), row[2].as_i64())
        else {
            return Err(format!("not an offset: {row}").into());
        };
        let partition = i32::try_from(partition).map_err(|error| error.to_string())?;
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    }
    Ok(list)
}

/// The partitions of a list, in order, each with its offset where it has one.
fn rows(list: &TopicPartitionList) -> Vec<(String, i32, Option<i64>)> {
    let mut rows: Vec<_> = list
        .elements()
        .iter()
        .map(|element| {
            let offset = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            (element.topic().to_owned(), element.partition(), offset)
        })
        .collect();
    rows.sort();
    rows
}

fn partitions(list: &TopicPartitionList) -> Value {
    rows(list)
        .into_iter()
        .map(|(topic, partition, _)| json!([topic, partition]))
        .collect()
}

fn offsets(list: &TopicPartitionList) -> Value {
    rows(list)
        .into_iter()
        .filter_map(|(topic, partition, offset)| Some(json!([topic, partition, offset?])))
        .collect()
}
