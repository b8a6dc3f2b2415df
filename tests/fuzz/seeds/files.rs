//! The small files, as they are written, and a few as somebody else might have written them.

use millrace::base::ids::{
    LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicIdPartition,
};
use millrace::partition::leader_epoch::LeaderEpochs;
use millrace::partition::producer_snapshot::encode;
use millrace::partition::producer_state::ProducerStates;
use millrace::record::{BatchBuilder, BatchHeader, Codec, RecordToWrite};
use millrace::storage::index::IndexTail;
use millrace::storage::recovery::RecoveryPoint;
use millrace::storage::{checkpoint, layout};

use super::{Inputs, named, slice};

pub fn indexes() -> Inputs {
    let mut tail = IndexTail::new(Offset(0));
    for at in 0..12 {
        let (last, timestamp) = (Offset(i64::from(at) * 10 + 9), 1000 + i64::from(at) * 50);
        tail.append(last, at * 600, 600, timestamp, 1000);
    }
    let [(_, offsets), (_, times)] = tail.to_flush();
    let files = [slice(&offsets), slice(&times)].concat();
    // What is looked for: a kind of number, the number, and how far before it.
    let small = [7, 45, 0, 7, 200, 1, 6, 0, 11, 2];
    let appended: Vec<_> = (0..30).flat_map(|at| [at, 40, 7, at * 5]).collect();
    named([
        ("files", [&small[..], &files].concat()),
        (
            "files-and-appended",
            [&small[..], &files, &appended].concat(),
        ),
        (
            "appended",
            [&[0; 8][..], &slice(&[]), &slice(&[]), &appended].concat(),
        ),
        (
            "torn",
            [&small[..], &slice(&offsets[..13]), &slice(&times[..13])].concat(),
        ),
    ])
}

fn behind(flag: u8, contents: impl AsRef<[u8]>) -> Vec<u8> {
    [&[flag][..], contents.as_ref()].concat()
}

pub fn recovery_checkpoint() -> Inputs {
    let point = |at: i64| RecoveryPoint {
        log_start: Offset(at),
        offset: Offset(at + 100),
        segment: Offset(at + 50),
        position: 4096 + at as u64,
    };
    let id = |at: i32| TopicIdPartition {
        topic_id: TopicId(0x1234_5678_9abc_def0 << 32 | at as u128),
        partition: PartitionIndex(at),
    };
    let points: Vec<_> = (0..3)
        .map(|at| (id(at), point(i64::from(at) << 20)))
        .collect();
    let several = checkpoint::encode(points.iter().map(|(id, point)| (id, point)));
    let none = checkpoint::encode([]);
    let twice = [&several[..], &several].concat();
    named([
        ("several", behind(0, &several)),
        ("sealed", behind(1, &several)),
        ("none", behind(0, &none)),
        ("twice", behind(1, &twice)),
    ])
}

/// A batch of a producer, or of none.
fn header(producer: i64, at: i64, is_transactional: bool) -> BatchHeader {
    let mut builder = BatchBuilder::new(Codec::None);
    if producer >= 0 {
        builder = builder.producer(ProducerId(producer), ProducerEpoch(1), at as i32);
    }
    builder.base_offset = Offset(at);
    builder.is_transactional = is_transactional;
    builder
        .append(&RecordToWrite::default())
        .expect("a small record");
    let batch = builder.build().expect("a small batch");
    BatchHeader::parse(&batch).expect("a whole batch")
}

pub fn producer_snapshot() -> Inputs {
    let none = ProducerStates::new(Offset(7));
    let mut several = ProducerStates::new(Offset(0));
    for at in 0..14 {
        several.apply(&header(at % 3, at, false), None);
    }
    let mut open = several.clone();
    open.apply(&header(9, 14, true), None);
    named([
        ("none", behind(0, encode(&none))),
        ("several", behind(0, encode(&several))),
        ("open", behind(0, encode(&open))),
        ("sealed", behind(1, encode(&open))),
    ])
}

pub fn leader_epochs() -> Inputs {
    let mut epochs = LeaderEpochs::new();
    let none = epochs.to_checkpoint();
    for at in 0..5 {
        epochs.assign(LeaderEpoch(at * 2), Offset(i64::from(at) * 100));
    }
    let several = epochs.to_checkpoint();
    named([
        ("none", none.into_bytes()),
        ("several", several.into_bytes()),
        (
            "largest",
            b"0\n1\n2147483647 9223372036854775807\n".to_vec(),
        ),
        ("backwards", b"0\n2\n3 10\n2 20\n".to_vec()),
        ("spaced", b" 0\r\n1\r\n 1  5 \r\n".to_vec()),
    ])
}

pub fn partition_metadata() -> Inputs {
    let id = TopicId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    let kafkas = format!("version: 0\ntopic_id: {id}");
    named([
        ("ours", layout::partition_metadata(id).into_bytes()),
        ("kafkas", kafkas.into_bytes()),
        ("later-version", b"version: 1\ntopic_id: x\n".to_vec()),
        ("directory", b"a-topic-0".to_vec()),
        ("segment", b"00000000000000000000.log".to_vec()),
        ("last-segment", b"09223372036854775807.timeindex".to_vec()),
    ])
}

pub fn server_properties() -> Inputs {
    let usual = "# A broker\nlisteners=PLAINTEXT://:9393,INTERNAL://127.0.0.1:9394\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT\n\
                 inter.broker.listener.name=INTERNAL\nadvertised.listeners=PLAINTEXT://host:1\n\
                 log.dirs=/data\nnode.id=3\nnum.partitions=6\nlog.retention.hours=168\n";
    let continued = "log.dirs = \\\n    /a\\u0020b\nbroker.rack : r\\tack\n! no setting\n";
    let ours = "millrace.flush=always\nmillrace.shards=4\nmillrace.memory.bytes=1073741824\n";
    let wrong = "num.partitions=-1\nlisteners=SSL://[::1]:0\nmillrace.shard=2\nnum.partition=1\n";
    let kinds = "max.connections.per.ip.overrides=127.0.0.1:5,[::1]:7\nlog.cleanup.policy=compact\n\
                 compression.type=zstd\nlog.roll.hours=2147483647\noffsets.retention.minutes=1\n\
                 log.cleaner.min.cleanable.ratio=0.5\nauto.create.topics.enable=FALSE\n";
    let dynamic = "broker.id=3\nnode.id=4\nprocess.roles=broker\ncontroller.quorum.voters=1@a:1\n";
    named([
        ("empty", Vec::new()),
        ("usual", usual.into()),
        ("continued", continued.into()),
        ("ours", ours.into()),
        ("wrong", wrong.into()),
        ("kinds", kinds.into()),
        ("of-a-cluster", dynamic.into()),
        (
            "utf-8-mark",
            [&b"\xef\xbb\xbf"[..], usual.as_bytes()].concat(),
        ),
        ("utf-16-cut", b"\xfe\xff\0n\0o\0=\0".to_vec()),
    ])
}

pub fn meta_properties() -> Inputs {
    let head = "# Written by Millrace when it first used this directory.\nversion=1\n";
    let ids = "cluster.id=MkU3OEVBNTcwNTJENDM2Qg\nnode.id=1\n\
               directory.id=ASNFZ4mrze8BI0VniavN7w\n";
    let format = |format: &str| format!("{head}millrace.format={format}\n{ids}").into_bytes();
    let others = "millrace.metadata.directory.id=ASNFZ4mrze8BI0VniavN7w\n\
                  millrace.other.directory.ids=MkU3OEVBNTcwNTJENDM2Qg\n";
    let with_others = [format("5"), others.into()].concat();
    let other_letters = format!("{head}millrace.format=1\n{ids}cluster.id=\u{20ac}\n");
    named([
        ("ours", with_others),
        ("former", format("4")),
        ("first", format("1")),
        ("newer", format("6")),
        ("no-format", format("x")),
        ("cluster-id-of-other-letters", other_letters.into()),
        ("kafkas", format!("version=1\n{ids}").into_bytes()),
        ("without-ids", head.into()),
        ("empty", Vec::new()),
    ])
}
