//! Mutations of inputs: small, blind, and the same for the same seed.

use millrace::base::random::split_mix64;

/// A pseudo-random sequence (SplitMix64), the same on every machine.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        split_mix64(&mut self.0)
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// Changes done to one input, at most.
const CHANGES_MAX: usize = 8;
/// Inputs do not grow beyond this.
const BYTES_MAX: usize = 64 << 10;
/// Values at which lengths, counts and numbers change their meaning.
const BYTES: [u8; 10] = [0, 1, 2, 0x0f, 0x10, 0x7f, 0x80, 0x81, 0xfe, 0xff];
const NUMBERS: [i64; 12] = [
    0,
    1,
    -1,
    -2,
    61,
    4096,
    i16::MAX as i64,
    i16::MIN as i64,
    i32::MAX as i64,
    i32::MIN as i64,
    i64::MAX,
    i64::MIN,
];

/// An input made from one of `corpus`, and of parts of others.
pub fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = corpus
        .get(random.below(corpus.len()))
        .cloned()
        .unwrap_or_default();
    for _ in 0..=random.below(CHANGES_MAX) {
        change(&mut input, corpus, random);
    }
    input.truncate(BYTES_MAX);
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len());
    match random.below(10) {
        0 | 1 if !input.is_empty() => input[at] ^= 1 << random.below(8),
        2 | 3 if !input.is_empty() => input[at] = BYTES[random.below(BYTES.len())],
        4 if !input.is_empty() => {
            input[at] = input[at]
                .wrapping_add(random.below(9) as u8)
                .wrapping_sub(4)
        }
        5 => set_number(input, at, random),
        6 => drop(input.drain(at..(at + random.below(16)).min(input.len()))),
        7 => {
            let count = random.below(16);
            let bytes = random.bytes(count);
            input.splice(at..at, bytes);
        }
        8 if random.below(8) == 0 => input.truncate(at),
        8 => repeat(input, at, random),
        _ => splice(input, corpus, random),
    }
}

/// A number of any width, in either order of its bytes.
fn set_number(input: &mut [u8], at: usize, random: &mut Random) {
    let number = match random.below(3) {
        0 => random.next() as i64 >> random.below(64),
        _ => NUMBERS[random.below(NUMBERS.len())],
    };
    let width = [2, 4, 8][random.below(3)];
    let (big, little) = (number.to_be_bytes(), number.to_le_bytes());
    let bytes = match random.below(4) {
        0 => &little[..width],
        _ => &big[8 - width..],
    };
    for (to, from) in input[at..].iter_mut().zip(bytes) {
        *to = *from;
    }
}

fn repeat(input: &mut Vec<u8>, at: usize, random: &mut Random) {
    let end = (at + random.below(32)).min(input.len());
    let part = input[at..end].to_vec();
    for _ in 0..=random.below(4) {
        input.splice(at..at, part.iter().copied());
    }
}

/// Puts a part of another input into this one, over what is there or between.
fn splice(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let Some(other) = corpus.get(random.below(corpus.len())) else {
        return;
    };
    let from = random.below(other.len());
    let part = &other[from..(from + random.below(128)).min(other.len())];
    let at = random.below(input.len() + 1);
    let over = [0, part.len()][random.below(2)];
    let end = (at + over).min(input.len());
    input.splice(at..end, part.iter().copied());
}
