//! A record's bytes: a value that says who sent it and is the only one of its kind, and behind it
//! as many dots as follow from it, so that a record that was cut or damaged shows. Pure.

/// The dots of a record that is too large for its topic, whose `max.message.bytes` is less.
const TOO_LARGE: usize = 2 * MESSAGE_BYTES_MAX;

/// `max.message.bytes` of a run's topic.
pub const MESSAGE_BYTES_MAX: usize = 32 << 10;

/// Behind a value that the one of the bytes is not.
const DAMAGED: &str = "?";

pub fn encode(value: &str, is_too_large: bool) -> Vec<u8> {
    let dots = match is_too_large {
        true => TOO_LARGE,
        false => dots(value),
    };
    let mut bytes = value.as_bytes().to_vec();
    bytes.resize(bytes.len() + dots, b'.');
    bytes
}

/// The value of these bytes; nobody's, if they are not as they were sent.
pub fn decode(bytes: Option<&[u8]>) -> String {
    let text = String::from_utf8_lossy(bytes.unwrap_or_default());
    // The dot between process and client is no filling.
    let value = text.trim_end_matches('.');
    let filling = text.len() - value.len();
    let is_whole = filling == dots(value) || filling == TOO_LARGE;
    match is_whole && !value.is_empty() {
        true => value.to_owned(),
        false => format!("{}{DAMAGED}", value.chars().take(40).collect::<String>()),
    }
}

/// How many dots follow a value: few mostly, so that batches are small and large.
fn dots(value: &str) -> usize {
    let mixed = crc32c::crc32c(value.as_bytes()) as usize;
    match mixed % 8 {
        0 => mixed / 8 % 1_500,
        _ => mixed / 8 % 100,
    }
}

#[test]
fn a_damaged_record_has_a_value_of_nobody() {
    for value in ["0.1-1", "12.34-567"] {
        let bytes = encode(value, false);
        assert_eq!(decode(Some(&bytes)), value);
        assert_eq!(decode(Some(&encode(value, true))), value);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_ne!(decode(Some(&damaged)), value, "byte {at}");
        }
        assert_ne!(decode(Some(&[&bytes[..], b"."].concat())), value);
    }
    assert_eq!(decode(None), DAMAGED);
}
