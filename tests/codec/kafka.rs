//! The codec against Kafka's own classes: every message in every version, as our codec writes it,
//! is read by Kafka 4.3.1 and written again byte for byte, and defaults are Kafka's.

use std::fmt::Write as _;

use crate::codecs;
use crate::support::java;

#[test]
fn kafka_reads_what_the_codec_writes_and_writes_the_same() {
    let Some(libraries) = java::libraries() else {
        return;
    };
    let (mut lines, mut count) = (String::new(), 0);
    let mut add = |name: &str, version: i16, kind: &str, bytes: bytes::Bytes| {
        count += 1;
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{name} {version} {kind} {bytes:x}");
    };
    for codec in codecs() {
        let message = &codec.facts.name;
        for version in codec.versions.clone() {
            let bytes = (codec.default)(version).expect(message);
            add(message, version, "default", bytes);
        }
        codec.fill(20, |version, name, _, bytes| {
            let ours = codec.read(bytes.into(), version, name).written.expect(name);
            add(message, version, "random", ours);
        });
    }
    let finished = java::run_class(&libraries, "Messages", &[], lines.as_bytes());
    let printed = finished.success("Messages");
    assert_eq!(printed, format!("{count}\n"));
}
