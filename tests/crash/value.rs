//! Values that say who sent them: no two are alike, and a damaged one is told from a whole one.

use crate::support::Random;

const HEAD_BYTES: usize = 12;
const FILLING_BYTES_MAX: u64 = 1_500;

/// The record of a producer: which producer, and its how-manieth record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    pub producer: u32,
    pub number: u64,
}

impl Value {
    /// The bytes of the value: who and how-manieth, and a filling that follows from both.
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend_from_slice(&self.producer.to_be_bytes());
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend(self.filling());
        bytes
    }

    /// The value that these bytes are, if they are one and undamaged.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let producer = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
        let number = u64::from_be_bytes(bytes.get(4..HEAD_BYTES)?.try_into().ok()?);
        let value = Self { producer, number };
        (bytes[HEAD_BYTES..] == value.filling()).then_some(value)
    }

    fn filling(self) -> Vec<u8> {
        let seed = (u64::from(self.producer) << 48) ^ self.number;
        let mut random = Random::new(seed.wrapping_add(1));
        // Most records are small; a few are large enough to fill a block by themselves.
        let bound = if random.range(0, 8) == 0 {
            FILLING_BYTES_MAX
        } else {
            100
        };
        let count = random.range(0, bound);
        random.bytes(usize::try_from(count).expect("a small count"))
    }
}

#[test]
fn a_damaged_value_is_none() {
    let value = Value {
        producer: 3,
        number: 77,
    };
    let bytes = value.encode();
    assert_eq!(Value::decode(&bytes), Some(value));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert_ne!(
            Value::decode(&damaged),
            Some(value),
            "a flipped bit in byte {at}"
        );
    }
    assert_eq!(Value::decode(&bytes[..bytes.len() - 1]), None);
}
