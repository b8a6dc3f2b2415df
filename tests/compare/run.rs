//! Holds one conversation with one broker and keeps what it answered.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::expression::{Expression, Scope};
use crate::message;
use crate::script::{Action, Body, Conversation, Request};
use crate::support::wire::Wire;
use crate::value::Value;

const REPEATED_AFTER: Duration = Duration::from_millis(20);

/// The error of a join that gives a member its id first.
const MEMBER_ID_REQUIRED: Value = Value::Number(79);

/// What a broker answered to one request.
pub struct Answer {
    pub place: String,
    pub api: String,
    pub version: i16,
    pub request: Value,
    pub answer: Value,
}

/// What a broker answered in a conversation, and why that ended early if it did.
pub struct Transcript {
    pub answers: Vec<Answer>,
    pub stopped: Option<String>,
}

/// A request that was sent.
struct Sent {
    api: String,
    version: i16,
    correlation: i32,
    request: Value,
    name: Option<String>,
}

struct Run<'a> {
    port: u16,
    conversation: &'a Conversation,
    variant: i16,
    scope: Scope,
    wires: HashMap<String, Wire>,
    /// What was sent on each connection and is not answered yet.
    parked: HashMap<String, Vec<Sent>>,
    answers: Vec<Answer>,
}

/// What tells the groups and topics of a conversation from those of all others.
pub fn prefix(conversation: &Conversation, variant: i16) -> String {
    format!("{}-{variant}-", conversation.name)
}

/// Holds a variant of `conversation` with the broker on `port`.
pub fn run(port: u16, conversation: &Conversation, variant: i16) -> Transcript {
    let mut run = Run {
        port,
        conversation,
        variant,
        scope: Scope {
            prefix: prefix(conversation, variant),
            answers: HashMap::new(),
        },
        wires: HashMap::new(),
        parked: HashMap::new(),
        answers: Vec::new(),
    };
    let mut stopped = None;
    for step in &conversation.steps {
        if let Err(error) = run.act(&step.action, &step.place) {
            stopped = Some(format!("{}: {error}", step.place));
            break;
        }
    }
    Transcript {
        answers: run.answers,
        stopped,
    }
}

impl Run<'_> {
    fn act(&mut self, action: &Action, place: &str) -> Result<(), String> {
        match action {
            Action::Topic {
                name,
                partitions,
                configs,
            } => self.create_topic(name, *partitions, configs),
            Action::Request {
                connection,
                request,
                is_parked,
                until,
                is_compared,
            } => {
                let mut request = request.clone();
                if request.gets_member_id {
                    self.get_member_id(connection, &mut request, place)?;
                }
                match until {
                    Some((path, value)) => {
                        self.ask_until(connection, &request, path, value, place)?;
                        if !is_compared {
                            self.answers.pop();
                        }
                    }
                    None => {
                        self.send(connection, &request)?;
                        if !is_parked {
                            self.receive(connection, place)?;
                        }
                    }
                }
                Ok(())
            }
            Action::Receive { connection } => self.receive(connection, place),
            Action::Answered { connection, within } => {
                let is_answered = self.wire(connection).is_answered_within(*within);
                let parked = self.parked.get(connection).and_then(|sent| sent.first());
                let parked = parked.ok_or("nothing is sent")?;
                self.answers.push(Answer {
                    place: place.to_owned(),
                    api: parked.api.clone(),
                    version: parked.version,
                    request: parked.request.clone(),
                    answer: Value::Struct(vec![(
                        format!("(answered within {within:?})"),
                        Value::Bool(is_answered),
                    )]),
                });
                Ok(())
            }
        }
    }

    fn wire(&mut self, connection: &str) -> &mut Wire {
        let port = self.port;
        self.wires
            .entry(connection.to_owned())
            .or_insert_with(|| Wire::connect(port))
    }

    fn send(&mut self, connection: &str, request: &Request) -> Result<(), String> {
        let Request { api, name, .. } = request;
        let version = self.version_of(request);
        let (value, body) = match &request.body {
            Body::Raw(bytes) => (Value::Bytes(bytes.clone()), bytes.clone()),
            Body::Fields(fields) => {
                let value = fields.resolve(&self.scope)?;
                let body = message::encode(api, version, &value)?;
                (value, body)
            }
        };
        let key = message::key(api);
        let correlation = self.wire(connection).send_request(key, version, &body);
        let sent = Sent {
            api: api.clone(),
            version,
            correlation,
            request: value,
            name: name.clone(),
        };
        let parked = self.parked.entry(connection.to_owned()).or_default();
        parked.push(sent);
        Ok(())
    }

    fn version_of(&self, request: &Request) -> i16 {
        let own = || self.conversation.version(&request.api, self.variant);
        request.version.unwrap_or_else(own)
    }

    /// Takes the next answer on `connection` and keeps it.
    fn receive(&mut self, connection: &str, place: &str) -> Result<(), String> {
        let (sent, answer) = self.take(connection)?;
        if let Some(name) = sent.name {
            self.scope.answers.insert(name, answer.clone());
        }
        self.answers.push(Answer {
            place: place.to_owned(),
            api: sent.api,
            version: sent.version,
            request: sent.request,
            answer,
        });
        Ok(())
    }

    fn take(&mut self, connection: &str) -> Result<(Sent, Value), String> {
        let parked = self.parked.get_mut(connection);
        let parked = parked.filter(|parked| !parked.is_empty());
        let sent = parked.ok_or("nothing is sent")?.remove(0);
        let within = self.conversation.within;
        let wire = self.wire(connection);
        if !wire.is_answered_within(within) {
            // Whatever still comes must not be taken for a later answer.
            self.wires.remove(connection);
            return Ok((sent, not_answered()));
        }
        let key = message::key(&sent.api);
        let answer = match wire.receive_answer(key, sent.version, sent.correlation) {
            Some(body) => decoded(&sent, &body)?,
            None => {
                // Later requests go over a new connection.
                self.wires.remove(connection);
                whole("closes the connection")
            }
        };
        Ok((sent, answer))
    }

    fn ask_until(
        &mut self,
        connection: &str,
        request: &Request,
        path: &str,
        value: &Expression,
        place: &str,
    ) -> Result<(), String> {
        let value = value.resolve(&self.scope)?;
        let end = Instant::now() + self.conversation.within;
        loop {
            self.send(connection, request)?;
            self.receive(connection, place)?;
            let last = self.answers.last().expect("one was just received");
            if last.answer.at(path) == Some(&value) || Instant::now() >= end {
                return Ok(());
            }
            self.answers.pop();
            thread::sleep(REPEATED_AFTER);
        }
    }

    /// From version 4 on a dynamic member's first join only gets it an id: sends that join, and
    /// puts the id into `request`.
    fn get_member_id(
        &mut self,
        connection: &str,
        request: &mut Request,
        place: &str,
    ) -> Result<(), String> {
        if self.version_of(request) < 4 {
            return Ok(());
        }
        let first = Request {
            name: Some("first-join".to_owned()),
            ..request.clone()
        };
        self.send(connection, &first)?;
        self.receive(connection, place)?;
        let answer = &self.scope.answers["first-join"];
        if answer.field("ErrorCode") != Some(&MEMBER_ID_REQUIRED) {
            return Err(format!("a first join was answered {answer}"));
        }
        let id = answer.field("MemberId").ok_or("no member id")?.clone();
        if let Body::Fields(Expression::Struct(fields)) = &mut request.body {
            fields.retain(|(name, _)| name != "MemberId");
            fields.push(("MemberId".to_owned(), Expression::Literal(id)));
        }
        Ok(())
    }

    /// Creates a topic, and waits until each partition serves: Kafka answers before it does.
    fn create_topic(
        &mut self,
        name: &str,
        partitions: i64,
        configs: &[(String, Expression)],
    ) -> Result<(), String> {
        let full_name = Value::Text(format!("{}{name}", self.scope.prefix));
        let configs = configs.iter().map(|(key, value)| {
            let value = value.resolve(&self.scope)?;
            Ok(fields(&[("Name", text(key)), ("Value", value)]))
        });
        let configs = configs.collect::<Result<_, String>>()?;
        let topic = fields(&[
            ("Name", full_name.clone()),
            ("NumPartitions", Value::Number(partitions)),
            ("ReplicationFactor", Value::Number(1)),
            ("Configs", Value::List(configs)),
        ]);
        let request = fields(&[("Topics", Value::List(vec![topic]))]);
        let answer = self.ask_aside("CreateTopics", &request)?;
        let created = answer.at("Topics.0").ok_or("no topic is answered")?.clone();
        if created.field("ErrorCode") != Some(&Value::Number(0)) {
            return Err(format!("the topic {name} is not created: {created}"));
        }
        self.scope.answers.insert(name.to_owned(), created);
        for partition in 0..partitions {
            self.await_partition(&full_name, partition)?;
        }
        Ok(())
    }

    fn await_partition(&mut self, topic: &Value, partition: i64) -> Result<(), String> {
        let partition = fields(&[
            ("PartitionIndex", Value::Number(partition)),
            ("Timestamp", Value::Number(-1)),
        ]);
        let topic = fields(&[
            ("Name", topic.clone()),
            ("Partitions", Value::List(vec![partition])),
        ]);
        let request = fields(&[
            ("ReplicaId", Value::Number(-1)),
            ("Topics", Value::List(vec![topic])),
        ]);
        let end = Instant::now() + self.conversation.within;
        while Instant::now() < end {
            let answer = self.ask_aside("ListOffsets", &request)?;
            if answer.at("Topics.0.Partitions.0.ErrorCode") == Some(&Value::Number(0)) {
                return Ok(());
            }
            thread::sleep(REPEATED_AFTER);
        }
        Err("a created topic does not serve".to_owned())
    }

    /// Asks what is no part of the comparison, in the latest version.
    fn ask_aside(&mut self, api: &str, request: &Value) -> Result<Value, String> {
        ask(self.wire("aside"), api, request)
    }
}

/// Asks in the latest version.
pub fn ask(wire: &mut Wire, api: &str, request: &Value) -> Result<Value, String> {
    let version = message::versions(api).1;
    let body = message::encode(api, version, request)?;
    let answer = wire.ask(message::key(api), version, &body);
    message::decode(api, version, &answer.ok_or("the connection is closed")?)
}

/// A struct of these fields.
pub fn fields(fields: &[(&str, Value)]) -> Value {
    let fields = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    Value::Struct(fields.collect())
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// What stands in the place of an answer that does not come.
pub fn not_answered() -> Value {
    whole("is not answered")
}

/// What stands in an answer's place.
fn whole(what: &str) -> Value {
    fields(&[("(answer)", text(what))])
}

fn decoded(sent: &Sent, body: &Bytes) -> Result<Value, String> {
    // A broker that does not know the version answers ApiVersions in version 0.
    message::decode(&sent.api, sent.version, body)
        .map_err(|error| format!("{} version {}: {error}", sent.api, sent.version))
}
