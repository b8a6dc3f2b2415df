//! Records come back as they were sent, however they were packed and wherever they were put.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::client::{CLIENTS, Client, Need, Program};
use crate::member::Record;
use crate::scene::Scene;

const FIRST_TIMESTAMP: i64 = 1_700_000_000_000;

/// `count` records for partition 0 of the scenario's topic, each with a key, a header and a value
/// that codecs like.
fn plain(scene: &Scene<'_>, count: usize) -> Vec<Record> {
    (0..count)
        .zip(0..)
        .map(|(at, offset)| Record {
            partition: (scene.name.clone(), 0),
            offset,
            key: Some(format!("key-{}", at % 7)),
            value: Some(format!("the same words again and again, record {at}")),
            headers: vec![("trace".to_owned(), format!("{at}"))],
            timestamp: FIRST_TIMESTAMP + offset * 10,
        })
        .collect()
}

fn reads_back(scene: &Scene<'_>, sent: &[Record]) {
    let reader = scene.read_all(&BTreeSet::from([(scene.name.clone(), 0)]));
    assert_eq!(
        reader.reads(sent.len()),
        sent,
        "read by {}",
        scene.client.name
    );
    reader.close();
}

pub fn shapes(scene: &Scene<'_>) {
    scene.topic(1);
    let some = |text: &str| Some(text.to_owned());
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut sent = plain(scene, 6);
    sent[0].headers.clear();
    sent[1].key = some("schlüssel ключ 鍵");
    sent[1].value = some("wert значение 値 \u{1f511} \"quoted\"\n\ttwice");
    sent[2].headers = vec![
        header("twice", "1"),
        header("twice", "2"),
        header("other", "значение"),
    ];
    sent[3].timestamp = 1;
    sent[4].value = some(&"long ".repeat(20_000));
    sent[5].timestamp = FIRST_TIMESTAMP - 1;
    scene.produce(&json!({}), &sent);
    reads_back(scene, &sent);
}

/// No key or value is one thing, an empty one another: the first deletes what is compacted.
pub fn absent_and_empty(scene: &Scene<'_>) {
    scene.topic(1);
    let mut sent = plain(scene, 5);
    sent[0].key = None;
    sent[1].value = None;
    sent[2].value = Some(String::new());
    sent[3].key = Some(String::new());
    sent[4].headers = vec![("empty".to_owned(), String::new())];
    scene.produce(&json!({}), &sent);
    reads_back(scene, &sent);
}

/// Another client that knows the codec and whose driver can be started: the next in the list, so
/// that the list is gone round.
fn another(scene: &Scene<'_>, codec: &'static str) -> Option<(&'static Client, Program)> {
    let at = CLIENTS
        .iter()
        .position(|client| client.name == scene.client.name);
    let at = at.expect("a client of the list");
    (1..CLIENTS.len())
        .map(|step| &CLIENTS[(at + step) % CLIENTS.len()])
        .filter(|client| client.can(&[Need::Codec(codec)]))
        .find_map(|client| Some((client, client.program()?)))
}

pub fn codec(scene: &Scene<'_>, codec: &'static str, number: u8) {
    scene.topic(1);
    let sent = plain(scene, 200);
    scene.produce(&json!({"codec": codec}), &sent);
    let stored = scene.stage.batches(&(scene.name.clone(), 0));
    // A batch that its codec would make longer may be stored as it is.
    assert!(
        stored.iter().any(|batch| batch.codec == number),
        "{stored:?}"
    );
    let is_known = |batch: u8| batch == number || batch == 0;
    assert!(
        stored.iter().all(|batch| is_known(batch.codec)),
        "{stored:?}"
    );
    reads_back(scene, &sent);
    if let Some((client, program)) = another(scene, codec) {
        reads_back(&scene.with(client, program), &sent);
    }
}

pub fn batches(scene: &Scene<'_>) {
    scene.topic(1);
    let sent = plain(scene, 1_000);
    let places = scene.produce(&json!({"batch": 100}), &sent);
    let expected: Vec<_> = sent.iter().map(|record| (0, record.offset)).collect();
    assert_eq!(places, expected);
    let stored = scene.stage.batches(&(scene.name.clone(), 0));
    assert!(
        stored.iter().any(|batch| batch.record_count > 1),
        "{stored:?}"
    );
    reads_back(scene, &sent);
}

pub fn idempotent(scene: &Scene<'_>) {
    scene.topic(1);
    let sent = plain(scene, 300);
    let places = scene.produce(&json!({"idempotent": true, "batch": 10}), &sent);
    let expected: Vec<_> = sent.iter().map(|record| (0, record.offset)).collect();
    assert_eq!(places, expected);
    let stored = scene.stage.batches(&(scene.name.clone(), 0));
    assert!(
        stored.iter().all(|batch| batch.producer_id >= 0),
        "{stored:?}"
    );
    reads_back(scene, &sent);
}

/// What was acknowledged where is read back there, in the order of the sending.
fn reads_back_by_partition(scene: &Scene<'_>, sent: &[Record], places: &[(i32, i64)]) {
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let mut expected = Vec::new();
    for (record, (partition, offset)) in sent.iter().zip(places) {
        let end = next.entry(*partition).or_default();
        assert_eq!(offset, end, "the next offset of partition {partition}");
        *end += 1;
        expected.push(Record {
            partition: (scene.name.clone(), *partition),
            offset: *offset,
            ..record.clone()
        });
    }
    let partitions = next.keys().map(|number| (scene.name.clone(), *number));
    let reader = scene.read_all(&partitions.collect());
    let mut read = reader.reads(sent.len());
    read.sort();
    expected.sort();
    assert_eq!(read, expected);
    reader.close();
}

pub fn manual_partition(scene: &Scene<'_>) {
    scene.topic(4);
    let mut sent = plain(scene, 100);
    for (at, record) in sent.iter_mut().enumerate() {
        // Neither in turn nor by the key.
        record.partition.1 = [3, 0, 0, 2, 1, 3, 3][at % 7];
    }
    let places = scene.produce(&json!({}), &sent);
    for (record, (partition, _)) in sent.iter().zip(&places) {
        assert_eq!(record.partition.1, *partition, "{record:?}");
    }
    reads_back_by_partition(scene, &sent, &places);
}

pub fn custom_partitioner(scene: &Scene<'_>) {
    const PARTITIONS: i32 = 5;
    scene.topic(PARTITIONS);
    let mut sent = plain(scene, 100);
    for (at, record) in sent.iter_mut().enumerate() {
        record.key = Some(format!("{}{at}", "k".repeat(at % 4)));
    }
    let places = scene.produce_to(&json!({"partitioner": "custom"}), &sent, false);
    for (record, (partition, _)) in sent.iter().zip(&places) {
        let key = record.key.as_deref().unwrap_or_default();
        let sum: i32 = key.bytes().map(i32::from).sum();
        assert_eq!(sum % PARTITIONS, *partition, "{record:?}");
    }
    reads_back_by_partition(scene, &sent, &places);
}

pub fn read_committed(scene: &Scene<'_>) {
    scene.topic(1);
    let sent = plain(scene, 50);
    scene.produce(&json!({}), &sent);
    let member = scene.member(&json!({"isolation": "read_committed"}));
    assert_eq!(member.reads(sent.len()), sent);
    let more = scene.stage.feed(&(scene.name.clone(), 0), "more", 3);
    let read = member.reads(sent.len() + 3);
    let values: Vec<_> = read[sent.len()..]
        .iter()
        .map(|record| record.value.clone())
        .collect();
    assert_eq!(values, more.into_iter().map(Some).collect::<Vec<_>>());
    member.close();
}
