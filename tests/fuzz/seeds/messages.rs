//! What clients send: frames, requests of every served API, and sequences of them.

use millrace::protocol::api::{ApiKey, SUPPORTED};

use super::{Inputs, named, short_slice};
use crate::mutate::Random;
use crate::targets::grammar::{self, Known};
use crate::targets::sequences::{BROKEN, CUT, ON_NEW_CONNECTION, WITHOUT_WAITING};
use crate::targets::{Choices, served};

fn frame(contents: &[u8]) -> Vec<u8> {
    [&(contents.len() as u32).to_be_bytes()[..], contents].concat()
}

pub fn frames() -> Inputs {
    let large = [&b"\0\x01e"[..], &[7; 4000]].concat();
    let many = frame(b"\0\0l").repeat(100);
    let whole = short_slice(&[]);
    let pieces = short_slice(&[0, 1, 0, 0, 2, 10]);
    let three = [
        frame(b"\0\x01e one"),
        frame(b"\0\0l two"),
        frame(b"\0\x01n"),
    ]
    .concat();
    named([
        ("three", [&whole[..], &three].concat()),
        ("three-in-pieces", [&pieces[..], &three].concat()),
        (
            "empty",
            [&whole[..], &frame(b""), &frame(b"\0"), &frame(b"\0\0")].concat(),
        ),
        ("large", [&pieces[..], &frame(&large), &three].concat()),
        ("many", [&whole[..], &many].concat()),
        (
            "closed",
            [&whole[..], &three, &frame(b"\0\x01c"), &three].concat(),
        ),
        (
            "closed-behind-others",
            [&whole[..], &many, &frame(b"\0\0c"), &three].concat(),
        ),
        (
            "too-long",
            [&pieces[..], &three, b"\x7f\xff\xff\xff"].concat(),
        ),
        (
            "negative",
            [&whole[..], &three, b"\xff\xff\xff\xff"].concat(),
        ),
        ("cut", [&pieces[..], &three, b"\0\0\0\x20cut"].concat()),
    ])
}

/// Each API in its latest version and in its first, plain and with random choices.
pub fn requests() -> Inputs {
    let mut inputs = Inputs::new();
    for (place, api) in SUPPORTED.iter().enumerate() {
        let versions = (api.min_version..=api.max_version).filter(|v| api.key.serves(*v));
        let oldest = u8::try_from(versions.count() - 1).expect("few versions");
        for (version, seed) in [(0, None), (0, Some(1)), (oldest, Some(2))] {
            let random = seed.map(|seed| Random::new(seed + 100 * place as u64).bytes(60));
            let choices = random.unwrap_or_default();
            let (key, version) = served(place as u8, version);
            let request =
                grammar::request(Choices::new(&choices), &Known::default(), (key, version), 7);
            if let Some(request) = request {
                let kind = if seed.is_none() { "plain" } else { "random" };
                let name = format!("{}-{version}-{kind}", key.name());
                let mut frame = request.chunks.concat().split_off(4);
                // A name as long as may be would be most of the corpus.
                frame.truncate(2000);
                inputs.insert(name, frame);
            }
        }
    }
    inputs
}

fn step(key: ApiKey, version: u8, how: u8, choices: &[u8]) -> Vec<u8> {
    let place = SUPPORTED.iter().position(|served| served.key == key);
    let place = place.expect("a served API") as u8;
    [&[place, version, how][..], &short_slice(choices)].concat()
}

fn steps(keys: &[ApiKey]) -> Vec<u8> {
    keys.iter().flat_map(|key| step(*key, 0, 0, &[])).collect()
}

pub fn sequences() -> Inputs {
    use ApiKey::{
        CreatePartitions, CreateTopics, DeleteGroups, DeleteTopics, Fetch, FindCoordinator,
        Heartbeat, InitProducerId, JoinGroup, LeaveGroup, ListOffsets, OffsetCommit, OffsetDelete,
        OffsetFetch, OffsetForLeaderEpoch, Produce, SyncGroup,
    };
    let every: Vec<_> = SUPPORTED.iter().map(|served| served.key).collect();
    let records = [
        CreateTopics,
        Produce,
        Produce,
        Fetch,
        ListOffsets,
        OffsetForLeaderEpoch,
    ];
    let member = [
        CreateTopics,
        FindCoordinator,
        JoinGroup,
        JoinGroup,
        SyncGroup,
        Heartbeat,
    ];
    let offsets = [
        OffsetCommit,
        OffsetFetch,
        OffsetDelete,
        LeaveGroup,
        DeleteGroups,
    ];
    let again = [
        CreateTopics,
        Produce,
        DeleteTopics,
        CreateTopics,
        CreatePartitions,
        Fetch,
    ];
    let idempotent = [InitProducerId, Produce, Produce, Fetch];
    let pipelined: Vec<_> = (0..8)
        .flat_map(|at| step(Produce, 0, WITHOUT_WAITING, &[0, 0, at]))
        .collect();
    let cut = step(Produce, 0, CUT, &[]);
    let broken: Vec<_> = (0..6)
        .flat_map(|at| [step(Produce, 0, BROKEN, &[]), vec![0, at * 7, 0, 0xff]].concat())
        .collect();
    let others = step(JoinGroup, 0, ON_NEW_CONNECTION | 1, &[]);
    let mut inputs = named([
        ("every", steps(&every)),
        ("records", steps(&records)),
        ("member", [steps(&member), steps(&offsets)].concat()),
        (
            "members",
            [steps(&member), others, steps(&offsets)].concat(),
        ),
        ("again", steps(&again)),
        ("idempotent", [steps(&records), steps(&idempotent)].concat()),
        (
            "pipelined",
            [steps(&records), pipelined, steps(&[Fetch])].concat(),
        ),
        ("broken", [steps(&records), broken, cut].concat()),
    ]);
    inputs.extend(random_sequences());
    inputs
}

/// Steps that are anything at all.
fn random_sequences() -> Inputs {
    let mut inputs = Inputs::new();
    for seed in 0..6 {
        let mut random = Random::new(seed);
        let steps = (0..24).flat_map(|_| {
            let (place, version) = (random.below(SUPPORTED.len()), random.below(16));
            let (how, count) = (random.below(64), random.below(40));
            let choices = random.bytes(count);
            step(SUPPORTED[place].key, version as u8, how as u8, &choices)
        });
        inputs.insert(format!("random-{seed}"), steps.collect());
    }
    inputs
}
