//! Snapshots that were written, changed, cut and made up. Tests only.

use proptest::prelude::*;

use super::*;
use crate::record::BatchHeader;
use crate::record::control::EndTransactionMarker;
use crate::record::fixtures;

/// Producers with and without batches, open and ended transactions.
fn states() -> ProducerStates {
    let template = BatchHeader::parse(&fixtures::plain_batch(3)).expect("a whole header");
    let mut states = ProducerStates::new(Offset(100));
    for index in 0..20 {
        let producer = index % 4;
        let is_marker = index == 13 || index == 18;
        let transactional = i16::from(producer < 2) << 4;
        let header = BatchHeader {
            base_offset: states.end_offset(),
            producer_id: ProducerId(producer),
            producer_epoch: ProducerEpoch(producer as i16),
            base_sequence: (index / 4 * 3) as i32,
            attributes: transactional | i16::from(is_marker) << 5,
            ..template
        };
        let marker = is_marker.then_some(EndTransactionMarker {
            is_commit: true,
            coordinator_epoch: 2,
        });
        states.apply(&header, marker);
    }
    states
}

fn reseal(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes[CRC_COVERS_FROM..]);
    bytes[1..CRC_COVERS_FROM].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn what_was_encoded_is_decoded_and_the_bytes_are_the_same_each_time() {
    let states = states();
    assert!(states.first_undecided_offset().is_some());
    assert!(states.ended().len() > 0);
    let bytes = encode(&states);
    assert_eq!(decode(&bytes).as_ref(), Ok(&states));
    assert_eq!(encode(&decode(&bytes).expect("just written")), bytes);
    let empty = ProducerStates::new(Offset(7));
    assert_eq!(decode(&encode(&empty)), Ok(empty));
}

#[test]
fn a_cut_or_a_flipped_bit_anywhere_is_found() {
    let bytes = encode(&states());
    for cut in 0..bytes.len() {
        assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        assert!(decode(&bytes).is_err(), "byte {at}");
    }
}

#[test]
fn counts_and_values_are_held_against_the_bytes_even_under_a_right_crc() {
    let bytes = encode(&states());
    let at_ended = CRC_COVERS_FROM + 8;
    let changed = |at: usize, value: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        decode(&reseal(bytes))
    };
    let impossible = |what| Err(SnapshotError::Impossible { what });
    assert_eq!(changed(0, &[2]), Err(SnapshotError::Version { version: 2 }));
    assert_eq!(changed(CRC_COVERS_FROM, &[0xff]), impossible("end offset"));
    assert_eq!(changed(at_ended, &[0xff; 4]), Err(SnapshotError::Length));
    assert_eq!(changed(at_ended + 4, &[0x7f; 8]), impossible("marker"));

    let one = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = encode(&ProducerStates::new(Offset(0)));
        let mut state = ProducerState::new(ProducerEpoch(0));
        state.keep(KeptBatch::default());
        bytes.truncate(bytes.len() - 4);
        bytes.extend_from_slice(&1_u32.to_be_bytes());
        put_producer(&mut bytes, ProducerId(5), &state);
        change(&mut bytes);
        decode(&reseal(bytes))
    };
    let at_count = CRC_COVERS_FROM + 8 + 4;
    let at_producer = at_count + 4;
    assert!(one(&|_| {}).is_ok());
    assert_eq!(
        one(&|bytes| bytes[at_count] = 0xff),
        Err(SnapshotError::Length)
    );
    assert_eq!(one(&|bytes| bytes.push(0)), Err(SnapshotError::Length));
    assert_eq!(
        one(&|bytes| bytes[at_producer] = 0xff),
        impossible("producer id")
    );
    assert_eq!(
        one(&|bytes| bytes[at_producer + 30] = 6),
        impossible("number of batches")
    );
    assert_eq!(
        one(&|bytes| bytes[at_producer + 39] = 0xff),
        impossible("batch offset")
    );
    let twice = one(&|bytes| {
        let producer = bytes[at_producer..].to_vec();
        bytes.extend_from_slice(&producer);
        bytes[at_count + 3] = 2;
    });
    assert_eq!(twice, impossible("second producer"));
}

proptest! {
    #[test]
    fn noise_under_a_right_crc_never_panics(
        noise in prop::collection::vec(any::<u8>(), 5..300),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut damaged = encode(&states());
        for (at, byte) in &flips {
            let at = at.index(damaged.len());
            damaged[at] ^= byte;
        }
        for mut bytes in [noise, damaged] {
            bytes[0] = VERSION;
            let bytes = reseal(bytes);
            if let Ok(states) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&states)), Ok(states));
            }
        }
    }
}
