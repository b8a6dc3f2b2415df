//! The format string of a record, as kcat has it. Pure.

use std::str::FromStr;

use rdkafka::message::Message;

use crate::cli::native::Header;

/// How a record is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Format(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Value,
    ValueBytes,
    Key,
    KeyBytes,
    Headers,
    Topic,
    Partition,
    Offset,
    Timestamp,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let piece = match c {
                '%' => match chars.next() {
                    Some('%') => {
                        plain.push(b'%');
                        continue;
                    }
                    letter => piece(letter)?,
                },
                '\\' => {
                    plain.push(escape(&mut chars)?);
                    continue;
                }
                c => {
                    plain.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece);
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }
}

fn piece(letter: Option<char>) -> Result<Piece, String> {
    Ok(match letter {
        Some('s') => Piece::Value,
        Some('S') => Piece::ValueBytes,
        Some('k') => Piece::Key,
        Some('K') => Piece::KeyBytes,
        Some('h') => Piece::Headers,
        Some('t') => Piece::Topic,
        Some('p') => Piece::Partition,
        Some('o') => Piece::Offset,
        Some('T') => Piece::Timestamp,
        Some(other) => {
            return Err(format!(
                "there is no %{other}: it is one of %s %k %h %t %p %o %T %S %K %%"
            ));
        }
        None => return Err("it ends in a single %, which is written %%".to_owned()),
    })
}

fn escape(chars: &mut std::str::Chars<'_>) -> Result<u8, String> {
    Ok(match chars.next() {
        Some('n') => b'\n',
        Some('t') => b'\t',
        Some('r') => b'\r',
        Some('\\') => b'\\',
        Some('0') => 0,
        Some('x') => {
            let digits: String = chars.by_ref().take(2).collect();
            let byte = u8::from_str_radix(&digits, 16);
            byte.map_err(|_| format!("\\x{digits} is no byte: it is written \\x1f"))?
        }
        Some(other) => return Err(format!("there is no \\{other}: \\n, \\t, \\r, \\\\, \\x1f")),
        None => return Err("it ends in a single \\, which is written \\\\".to_owned()),
    })
}

impl Format {
    /// The key, a separator and the value, as a line.
    pub(super) fn with_key(separator: &str) -> Self {
        let separator = separator.replace("\\t", "\t").into_bytes();
        let (separator, end) = (Piece::Text(separator), Piece::Text(b"\n".to_vec()));
        Self(vec![Piece::Key, separator, Piece::Value, end])
    }

    /// Writes a record behind what `out` has; its headers are only asked for where they are shown.
    pub(in crate::cli) fn write<'a, M: Message>(
        &self,
        record: &'a M,
        headers: impl Fn(&'a M) -> Vec<Header<'a>>,
        out: &mut Vec<u8>,
    ) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Value => out.extend_from_slice(record.payload().unwrap_or_default()),
                Piece::Key => out.extend_from_slice(record.key().unwrap_or_default()),
                Piece::ValueBytes => push(out, bytes(record.payload())),
                Piece::KeyBytes => push(out, bytes(record.key())),
                Piece::Headers => write_headers(&headers(record), out),
                Piece::Topic => push(out, record.topic()),
                Piece::Partition => push(out, record.partition()),
                Piece::Offset => push(out, record.offset()),
                Piece::Timestamp => push(out, record.timestamp().to_millis().unwrap_or(-1)),
            }
        }
    }
}

fn push(out: &mut Vec<u8>, what: impl ToString) {
    out.extend_from_slice(what.to_string().as_bytes());
}

/// The length, as kcat has it: -1 for null.
fn bytes(data: Option<&[u8]>) -> i64 {
    data.map_or(-1, |data| i64::try_from(data.len()).unwrap_or(i64::MAX))
}

fn write_headers(headers: &[Header<'_>], out: &mut Vec<u8>) {
    for (index, (name, value)) in headers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value.unwrap_or(b"NULL"));
    }
}
