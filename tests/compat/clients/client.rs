//! The clients, how each driver is started, and what each client can.
//!
//! What is written here about a client is checked against what its driver says of itself.

use std::process::Command;

use serde_json::Value;

use self::Need::{Ability, Admin};
use crate::AS_DRIVER;
use crate::support::node::node;
use crate::support::python::{self, python};
use crate::support::{go, java};

/// Something that a scenario needs of a client and not every client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Codec(&'static str),
    Admin(&'static str),
    /// An ability by the name that `capabilities` has for it; a client has it unless it denies it.
    Ability(&'static str),
}

impl Need {
    /// Whether `capabilities`, as a driver prints them, has it.
    pub fn is_met(self, capabilities: &Value) -> bool {
        let has = |list: &str, wanted: &str| {
            let list = capabilities[list].as_array();
            list.is_some_and(|list| list.iter().any(|one| one == wanted))
        };
        match self {
            Self::Codec(codec) => has("codecs", codec),
            Self::Admin(name) => has("admin", name),
            Self::Ability(name) => capabilities[name] != false,
        }
    }
}

/// One client library.
pub struct Client {
    /// As trials are named.
    pub name: &'static str,
    /// As people call it, with its language.
    pub title: &'static str,
    /// The strategy of its groups where a scenario does not ask for one.
    pub strategy: &'static str,
    /// What it lacks of all that scenarios need.
    pub lacks: &'static [Need],
    command: fn() -> Option<Command>,
}

/// How a driver is started.
pub type Program = fn() -> Option<Command>;

impl Client {
    pub fn can(&self, needs: &[Need]) -> bool {
        needs.iter().all(|need| !self.lacks.contains(need))
    }

    /// How its driver is started; `None` after saying so when something for it is not installed.
    pub fn program(&self) -> Option<Program> {
        (self.command)().map(|_| self.command)
    }
}

/// Every client that the table has a column for. Neighbours read each other's batches.
pub const CLIENTS: &[Client] = &[
    Client {
        name: "kafka_clients",
        title: "Java kafka-clients",
        strategy: "range",
        lacks: &[],
        command: kafka_clients,
    },
    Client {
        name: "librdkafka",
        title: "C librdkafka",
        strategy: "range",
        lacks: &[],
        command: librdkafka,
    },
    Client {
        name: "confluent_kafka",
        title: "Python confluent-kafka",
        strategy: "range",
        lacks: &[Ability("custom_partitioner")],
        command: || Some(python()?.driver(python::Client::ConfluentKafka)),
    },
    Client {
        name: "franz_go",
        title: "Go franz-go",
        strategy: "range",
        lacks: &[],
        command: || Some(go::drivers()?.driver("franz")),
    },
    Client {
        name: "kafka_python",
        title: "Python kafka-python",
        strategy: "range",
        lacks: &[Ability("fenced")],
        command: || Some(python()?.driver(python::Client::KafkaPython)),
    },
    Client {
        name: "sarama",
        title: "Go sarama",
        strategy: "range",
        lacks: &[Ability("pattern"), Ability("seek_in_group")],
        command: || Some(go::drivers()?.driver("sarama")),
    },
    Client {
        name: "aiokafka",
        title: "Python aiokafka",
        strategy: "range",
        lacks: &[
            Ability("cooperative"),
            Admin("delete_group"),
            Ability("fenced"),
        ],
        command: || Some(python()?.driver(python::Client::Aiokafka)),
    },
    Client {
        name: "kafka_go",
        title: "Go kafka-go",
        strategy: "range",
        lacks: &[
            Ability("idempotent"),
            Ability("empty_kept"),
            Ability("cooperative"),
            Ability("static"),
            Ability("pattern"),
            Ability("pause"),
            Ability("mixed_group"),
        ],
        command: || Some(go::drivers()?.driver("kafkago")),
    },
    Client {
        name: "kafkajs",
        title: "Node kafkajs",
        strategy: "roundrobin",
        lacks: &[
            Ability("assign"),
            Ability("cooperative"),
            Ability("static"),
            Ability("pattern"),
            Ability("fenced"),
        ],
        command: || Some(node()?.driver()),
    },
];

fn kafka_clients() -> Option<Command> {
    let libraries = java::libraries()?;
    Some(java::command(&libraries, "Driver"))
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "the other drivers may be missing a tool"
)]
fn librdkafka() -> Option<Command> {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.arg(AS_DRIVER);
    Some(command)
}
