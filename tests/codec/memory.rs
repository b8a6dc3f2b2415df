//! What decoding takes in memory, measured: never more than a small multiple of the frame.

use bytes::Bytes;
use millrace::base::limits::{DECODED_BYTES_PER_FRAME_BYTE_MAX, DECODED_BYTES_SLACK};

use crate::filler::Random;
use crate::held::most_held;
use crate::{codecs, damaged};

/// What the decoded message may take, and the writer, which doubles its buffer as it grows.
fn allowed(frame_bytes: usize) -> usize {
    let decoded = frame_bytes * DECODED_BYTES_PER_FRAME_BYTE_MAX + DECODED_BYTES_SLACK;
    decoded + 4 * frame_bytes + 4096
}

#[test]
fn the_count_sees_what_is_held() {
    let ((), held) = most_held(|| drop(Vec::<u8>::with_capacity(100_000)));
    assert!((100_000..110_000).contains(&held), "{held}");
}

#[test]
fn damaged_messages_take_no_more_than_allowed() {
    for codec in codecs() {
        codec.fill(20, |version, name, seed, bytes| {
            let mut random = Random(seed);
            for _ in 0..20 {
                let damaged = damaged(&bytes, &mut random);
                let length = damaged.len();
                let ((), held) = most_held(|| drop((codec.recode)(damaged, version)));
                assert!(held <= allowed(length), "{name}: {held} bytes for {length}");
            }
        });
    }
}

/// Bytes without sense: noise, and one value repeated, which makes many small elements.
#[test]
fn noise_takes_no_more_than_allowed() {
    let mut random = Random(7);
    let mut noise = vec![0; 3000];
    noise.fill_with(|| random.next() as u8);
    let noise = Bytes::from(noise);
    let repeated = [0, 1, 2, 3, 0x7f, 0x80, 0xff];
    let repeated = repeated.map(|byte| Bytes::from(vec![byte; 40_000]));
    for codec in codecs() {
        for version in codec.versions.clone() {
            let starts = (0..200).map(|_| random.below(noise.len()));
            let frames = starts.map(|start| noise.slice(start..));
            for frame in frames.chain(repeated.iter().cloned()) {
                let length = frame.len();
                let ((), held) = most_held(|| drop((codec.recode)(frame, version)));
                let name = &codec.facts.name;
                assert!(
                    held <= allowed(length),
                    "{name} {version}: {held} for {length}"
                );
            }
        }
    }
}
