//! Makes bytes of any message in any version straight from the facts, without the generated code:
//! what the two of them disagree about is a bug in one of them.

use millrace::base::random::split_mix64;

use crate::schema::{Field, Message, Type};

/// A small pseudo-random sequence (SplitMix64): the same on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        split_mix64(&mut self.0)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// Writes one message in one version.
struct Filler<'a> {
    message: &'a Message,
    version: i16,
    flexible: bool,
    /// Nothing for defaults only.
    random: Option<Random>,
    out: Vec<u8>,
}

/// The bytes of `message` with random contents, in the one form that an encoder may give them.
pub fn random_bytes(message: &Message, version: i16, seed: u64) -> Vec<u8> {
    let mut filler = Filler::new(message, version, Some(Random(seed)));
    filler.fields(&message.fields);
    filler.out
}

/// The bytes of `message` with every field at its default.
pub fn default_bytes(message: &Message, version: i16) -> Vec<u8> {
    let mut filler = Filler::new(message, version, None);
    filler.fields(&message.fields);
    filler.out
}

impl<'a> Filler<'a> {
    fn new(message: &'a Message, version: i16, random: Option<Random>) -> Self {
        Self {
            message,
            version,
            flexible: message.flexible.contains(version),
            random,
            out: Vec::new(),
        }
    }

    fn fields(&mut self, fields: &[Field]) {
        for field in fields {
            if field.is_plain_in(self.version) {
                self.field(field);
            }
        }
        if self.flexible {
            self.tagged_fields(fields);
        }
    }

    fn tagged_fields(&mut self, fields: &[Field]) {
        let mut tagged: Vec<_> = fields
            .iter()
            .filter(|field| field.tagged().contains(self.version))
            .collect();
        tagged.sort_by_key(|field| field.tag.map(|(tag, _)| tag));
        let mut count = 0;
        let mut values = Vec::new();
        for field in tagged {
            // A field at its default is not written, whoever made it so.
            let at_default = fill_field(self.message, self.version, field, None);
            let random = self.random.as_mut().and_then(|random| {
                let is_set = !random.one_in(3);
                is_set.then(|| Random(random.next()))
            });
            let value = fill_field(self.message, self.version, field, random);
            if value != at_default {
                count += 1;
                varint(&mut values, field.tag.expect("it is tagged").0);
                varint(&mut values, value.len() as u32);
                values.extend(value);
            }
        }
        varint(&mut self.out, count);
        self.out.extend(values);
    }

    fn field(&mut self, field: &Field) {
        let nullable = field.nullable.contains(self.version);
        let is_null = match &mut self.random {
            Some(random) => nullable && random.one_in(4),
            None => {
                field.is_nullable()
                    && (field.default.as_deref() == Some("null") || field.kind == Type::Records)
            }
        };
        assert!(!is_null || nullable, "{}: a default of null", field.name);
        let is_tagged = field.tagged().contains(self.version);
        match &field.kind {
            Type::Struct(_) if nullable && is_tagged => {
                varint(&mut self.out, (!is_null).into());
            }
            Type::Struct(_) if nullable => self.out.push(if is_null { 0xff } else { 1 }),
            kind if is_null => return self.length(None, kind, field.inflexible),
            _ => {}
        }
        if !is_null {
            self.value(&field.kind, field.default.as_deref(), field.inflexible);
        }
    }

    fn value(&mut self, kind: &Type, default: Option<&str>, inflexible: bool) {
        match kind {
            Type::Scalar(name) => self.scalar(name, default),
            Type::String => {
                let text = match &mut self.random {
                    Some(random) => "a\u{e9}\u{1f980}z".chars().take(random.below(5)).collect(),
                    None => default.unwrap_or_default().to_owned(),
                };
                self.length(Some(text.len()), kind, inflexible);
                self.out.extend(text.as_bytes());
            }
            Type::Bytes | Type::Records => {
                // Some lengths need two bytes as a variable-length number.
                let length = self.random.as_mut().map_or(0, |random| random.below(200));
                self.length(Some(length), kind, false);
                self.out.extend((0..length).map(|index| index as u8));
            }
            Type::Array(element) => {
                let count = self.random.as_mut().map_or(0, |random| random.below(4));
                self.length(Some(count), kind, false);
                (0..count).for_each(|_| self.value(element, None, false));
            }
            Type::Struct(name) => {
                let message = self.message;
                self.fields(&message.structure(name).fields);
            }
        }
    }

    fn scalar(&mut self, name: &str, default: Option<&str>) {
        let bytes = Type::scalar_bytes(name);
        let value = match &mut self.random {
            Some(random) if name == "bool" => (random.next() & 1) as i64,
            Some(random) => match random.below(4) {
                0 => 0,
                1 => -1,
                2 => i64::MIN >> (64 - 8 * bytes.min(8)),
                _ => random.next() as i64,
            },
            None => match default.unwrap_or("0") {
                "true" => 1,
                text => match text.strip_prefix("0x") {
                    Some(hex) => i64::from_str_radix(hex, 16).expect("a hexadecimal default"),
                    None => text.parse().expect("a default number"),
                },
            },
        };
        let wide = i128::from(value).to_be_bytes();
        self.out.extend(&wide[wide.len() - bytes..]);
    }

    fn length(&mut self, length: Option<usize>, kind: &Type, inflexible: bool) {
        let length = length.map_or(-1, |length| length as i32);
        if self.flexible && !inflexible {
            varint(&mut self.out, (length + 1) as u32);
        } else if *kind == Type::String {
            self.out.extend((length as i16).to_be_bytes());
        } else {
            self.out.extend(length.to_be_bytes());
        }
    }
}

fn fill_field(message: &Message, version: i16, field: &Field, random: Option<Random>) -> Vec<u8> {
    let mut filler = Filler::new(message, version, random);
    filler.field(field);
    filler.out
}

fn varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
