//! What the broker names in ApiVersions, against what Kafka 4.3.1 names.

use std::collections::BTreeMap;

use millrace::protocol::api::{ApiKey, SUPPORTED};

use crate::codecs;

/// Key, name, first and last version.
fn kafkas_table() -> BTreeMap<i16, (&'static str, i16, i16)> {
    include_str!("../data/apis-of-kafka-4.3.1.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let cells: Vec<_> = line.split('\t').collect();
            let number = |cell: &str| cell.parse().expect("a number");
            (
                number(cells[0]),
                (cells[1], number(cells[2]), number(cells[3])),
            )
        })
        .collect()
}

#[test]
fn served_ranges_are_those_of_kafka() {
    let kafkas = kafkas_table();
    assert!(kafkas.len() > 70, "the whole table");
    for served in SUPPORTED {
        let ours = (served.key.name(), served.min_version, served.max_version);
        assert_eq!(Some(&ours), kafkas.get(&served.key.code()));
    }
}

/// Every version that is served can be read and answered; only Produce names older ones.
#[test]
fn every_served_version_has_its_messages() {
    let codecs = codecs();
    for served in SUPPORTED {
        for part in ["Request", "Response"] {
            let name = format!("{}{part}", served.key.name());
            let codec = codecs.iter().find(|codec| codec.facts.name == name);
            let versions = codec.expect("its messages exist").versions.clone();
            for version in served.min_version..=served.max_version {
                let refused = served.key == ApiKey::Produce && version < 3;
                assert_eq!(versions.contains(&version), !refused, "{name} {version}");
                assert_eq!(served.key.serves(version), !refused, "{name} {version}");
            }
        }
    }
}

/// The facts hold every API of the table but those of share and streams groups, and know the same
/// versions; a version that may still change is not in the table.
#[test]
fn the_facts_cover_kafkas_table() {
    let codecs = codecs();
    for (key, (name, first, last)) in kafkas_table() {
        let Some(found) = ApiKey::from_code(key) else {
            assert!(name.contains("Share") || name.contains("Streams"), "{name}");
            continue;
        };
        assert_eq!(found.name(), name);
        let request = format!("{name}Request");
        let codec = codecs.iter().find(|codec| codec.facts.name == request);
        let facts = &codec.expect("its messages exist").facts;
        let stable = facts.versions.last - i16::from(facts.unstable);
        assert_eq!(last, stable, "{name}");
        assert!(first == facts.versions.first || key == 0, "{name}");
    }
}
