//! What the drivers of clients in other languages run: the versions that their lock files name.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::support::command::run;
use crate::support::go;
use crate::support::install::drivers_dir;
use crate::support::node::node;
use crate::support::python::{Client, python};

/// What `driver` says that its client is and can.
fn capabilities(mut driver: Command) -> String {
    driver.arg("capabilities");
    run(&mut driver, b"", Duration::from_secs(60)).success("a driver")
}

#[test]
fn python_clients_are_those_of_the_list() {
    let Some(python) = python() else {
        return;
    };
    let list = drivers_dir().join("python/requirements.txt");
    let list = fs::read_to_string(list).expect("the list");
    for (client, name) in [
        (Client::ConfluentKafka, "confluent-kafka"),
        (Client::KafkaPython, "kafka-python"),
        (Client::Aiokafka, "aiokafka"),
    ] {
        let line = list.lines().find(|line| line.starts_with(name));
        let (_, version) = line.and_then(|line| line.split_once("==")).expect(name);
        let said = capabilities(python.driver(client));
        for part in [name, version] {
            assert!(
                said.contains(&format!("\"{part}\"")),
                "no {part:?} in {said}"
            );
        }
    }
}

#[test]
fn kafkajs_is_that_of_the_lock() {
    let Some(node) = node() else {
        return;
    };
    let lock = drivers_dir().join("node/package-lock.json");
    let lock = fs::read_to_string(lock).expect("the lock");
    // An address would bind the lock to one registry.
    assert!(!lock.contains("\"resolved\""));
    let (_, version) = lock
        .split_once("\"node_modules/kafkajs\": {\n      \"version\": \"")
        .expect("kafkajs in the lock");
    let (version, _) = version.split_once('"').expect("the version's end");
    let said = capabilities(node.driver());
    assert!(said.contains("\"kafkajs\""), "{said}");
    assert!(
        said.contains(&format!("\"{version}\"")),
        "no {version:?} in {said}"
    );
}

#[test]
fn go_clients_are_those_of_the_module() {
    let Some(drivers) = go::drivers() else {
        return;
    };
    let module = drivers_dir().join("go/go.mod");
    let module = fs::read_to_string(module).expect("the module");
    let paths = [
        "github.com/twmb/franz-go",
        "github.com/IBM/sarama",
        "github.com/segmentio/kafka-go",
    ];
    for (client, path) in go::CLIENTS.into_iter().zip(paths) {
        let line = module.split_once(&format!("{path} v")).expect(path).1;
        let version = line.lines().next().expect("a version");
        let (_, name) = path.rsplit_once('/').expect("a path");
        let said = capabilities(drivers.driver(client));
        for part in [name, version] {
            assert!(
                said.contains(&format!("\"{part}\"")),
                "no {part:?} in {said}"
            );
        }
    }
}
