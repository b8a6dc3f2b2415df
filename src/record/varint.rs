//! Zigzag varints as records carry them. Any shard; pure functions.
//!
//! Protocol Buffers' encoding: 7 bits a byte, least significant first, the sign in bit 0. Bits
//! beyond the type's width are refused, where Kafka drops them silently.

/// The longest encoding of an i32.
pub const VARINT_BYTES_MAX: usize = 5;
/// The longest encoding of an i64.
pub const VARLONG_BYTES_MAX: usize = 10;

/// Appends `value` as a varint.
pub fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_unsigned(out, u64::from(zigzag32(value)));
}

/// Appends `value` as a varlong.
pub fn put_varlong(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, zigzag64(value));
}

/// How many bytes `value` takes as a varint.
pub fn varint_bytes(value: i32) -> usize {
    unsigned_bytes(u64::from(zigzag32(value)))
}

/// How many bytes `value` takes as a varlong.
pub fn varlong_bytes(value: i64) -> usize {
    unsigned_bytes(zigzag64(value))
}

/// Reads a varint with `next_byte`. `None` where it is longer or wider than an i32.
#[inline(always)]
pub fn read_varint<E>(mut next_byte: impl FnMut() -> Result<u8, E>) -> Result<Option<i32>, E> {
    let first = next_byte()?;
    // Most varints of a record are below 64: lengths, deltas, counts.
    if first < 0x80 {
        return Ok(Some(unzigzag32(u32::from(first))));
    }
    let mut value = u32::from(first & 0x7f);
    for shift in [7, 14, 21, 28] {
        let byte = next_byte()?;
        if shift == 28 && byte > 0x0f {
            return Ok(None);
        }
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(Some(unzigzag32(value)));
        }
    }
    Ok(None)
}

/// Reads a varlong with `next_byte`. `None` where it is longer or wider than an i64.
#[inline(always)]
pub fn read_varlong<E>(mut next_byte: impl FnMut() -> Result<u8, E>) -> Result<Option<i64>, E> {
    let mut value = 0_u64;
    for index in 0..VARLONG_BYTES_MAX {
        let byte = next_byte()?;
        if index + 1 == VARLONG_BYTES_MAX && byte > 0x01 {
            return Ok(None);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok(Some((value >> 1) as i64 ^ -((value & 1) as i64)));
        }
    }
    Ok(None)
}

fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The signed value behind an unsigned one.
#[inline(always)]
pub fn unzigzag32(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn unsigned_bytes(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn decode(bytes: &[u8], long: bool) -> Option<i64> {
        let mut bytes = bytes.iter().copied();
        let next = || bytes.next().ok_or(());
        let value = if long {
            read_varlong(next)
        } else {
            read_varint(next).map(|value| value.map(i64::from))
        };
        value.ok().flatten()
    }

    #[test]
    fn both_widths_round_trip_at_their_edges() {
        let mut values = vec![0_i64];
        for bit in 0..63 {
            for near in [-1, 0, 1] {
                values.extend([(1_i64 << bit) + near, -(1_i64 << bit) + near]);
            }
        }
        values.extend([i64::MAX, i64::MIN, i32::MAX.into(), i32::MIN.into()]);
        for value in values {
            let mut bytes = Vec::new();
            put_varlong(&mut bytes, value);
            assert_eq!(bytes.len(), varlong_bytes(value), "{value}");
            assert_eq!(decode(&bytes, true), Some(value));
            if let Ok(small) = i32::try_from(value) {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, small);
                assert_eq!(bytes.len(), varint_bytes(small), "{small}");
                assert_eq!(decode(&bytes, false), Some(value));
            }
        }
    }

    #[test]
    fn what_is_too_long_too_wide_or_cut_is_refused() {
        let table: &[(&[u8], bool, Option<i64>)] = &[
            (
                &[0xff, 0xff, 0xff, 0xff, 0x0f],
                false,
                Some(i32::MIN.into()),
            ),
            (&[0xff, 0xff, 0xff, 0xff, 0x10], false, None),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00], false, None),
            (&[0x80, 0x80], false, None),
            (&[], false, None),
            (&[0x80, 0x00], false, Some(0)),
            (&[0xff; 10], true, None),
            (&[0x80, 0x80], true, None),
        ];
        for (bytes, long, expected) in table {
            assert_eq!(decode(bytes, *long), *expected, "{bytes:x?}");
        }
        let widest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(decode(&widest, true), Some(i64::MIN));
        let endless = read_varlong(|| Ok::<u8, Infallible>(0x80));
        assert_eq!(endless, Ok(None));
    }
}
