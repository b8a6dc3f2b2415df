//! Requests and answers of any API in any version, between bytes and values. It goes by the facts
//! of the formats alone, so that it shares no code with the broker's codec.

use std::sync::OnceLock;

use crate::schema::{self, Field, Message, Type};
use crate::value::Value;

/// Every message that Kafka 4.3.1 knows.
fn facts() -> &'static [Message] {
    static FACTS: OnceLock<Vec<Message>> = OnceLock::new();
    FACTS.get_or_init(|| {
        let facts = include_str!("../../src/protocol/messages.txt");
        schema::parse(facts).expect("the facts are part of the source")
    })
}

/// The facts of a request or response: `find("JoinGroup", "Request")`.
fn find(api: &str, part: &str) -> &'static Message {
    facts()
        .iter()
        .find(|message| message.name.strip_prefix(api) == Some(part))
        .unwrap_or_else(|| panic!("there is no {api}{part}"))
}

/// The key of an API on the wire.
pub fn key(api: &str) -> i16 {
    find(api, "Request").key.expect("a request has its key")
}

/// The first and the last version of an API that clients may use.
pub fn versions(api: &str) -> (i16, i16) {
    let message = find(api, "Request");
    let last = message.versions.last - i16::from(message.unstable);
    (message.versions.first, last)
}

/// The bytes of a request's body. A field that the version does not know is left out; one that
/// `value` does not name has its default.
pub fn encode(api: &str, version: i16, value: &Value) -> Result<Vec<u8>, String> {
    let message = find(api, "Request");
    let mut coder = Coder::new(message, version, Vec::new());
    coder.write_fields(&message.fields, value)?;
    Ok(coder.bytes)
}

/// The value of an answer's body; all of its bytes are read.
pub fn decode(api: &str, version: i16, body: &[u8]) -> Result<Value, String> {
    let message = find(api, "Response");
    let mut coder = Coder::new(message, version, body.to_vec());
    let value = coder.read_fields(&message.fields)?;
    match coder.bytes.len() - coder.at {
        0 => Ok(value),
        rest => Err(format!("{rest} bytes behind the answer")),
    }
}

struct Coder {
    message: &'static Message,
    version: i16,
    flexible: bool,
    bytes: Vec<u8>,
    /// How far the bytes are read.
    at: usize,
}

impl Coder {
    fn new(message: &'static Message, version: i16, bytes: Vec<u8>) -> Self {
        assert!(
            message.versions.contains(version),
            "{} has no version {version}",
            message.name
        );
        Self {
            message,
            version,
            flexible: message.flexible.contains(version),
            bytes,
            at: 0,
        }
    }

    fn sorted_tagged<'a>(&self, fields: &'a [Field]) -> Vec<(u32, &'a Field)> {
        let mut tagged: Vec<_> = fields
            .iter()
            .filter(|field| field.tagged().contains(self.version))
            .filter_map(|field| field.tag.map(|(tag, _)| (tag, field)))
            .collect();
        tagged.sort_by_key(|(tag, _)| *tag);
        tagged
    }

    fn default_of(&self, field: &Field) -> Value {
        if field.default.as_deref() == Some("null") {
            return Value::Null;
        }
        match &field.kind {
            Type::Scalar(name) => scalar_default(name, field.default.as_deref()),
            Type::String => Value::Text(field.default.clone().unwrap_or_default()),
            Type::Bytes => Value::Bytes(Vec::new()),
            Type::Records => Value::Null,
            Type::Array(_) => Value::List(Vec::new()),
            Type::Struct(name) => {
                let fields = self.message.structure(name).fields.iter();
                let fields = fields.filter(|field| field.versions.contains(self.version));
                Value::Struct(
                    fields
                        .map(|field| (field.name.clone(), self.default_of(field)))
                        .collect(),
                )
            }
        }
    }

    fn write_fields(&mut self, fields: &[Field], value: &Value) -> Result<(), String> {
        let Value::Struct(given) = value else {
            return Err(format!("{value} is not a struct"));
        };
        if let Some((unknown, _)) = given
            .iter()
            .find(|(name, _)| !fields.iter().any(|field| field.name == *name))
        {
            return Err(format!("{} has no field {unknown}", self.message.name));
        }
        for field in fields {
            if field.is_plain_in(self.version) {
                let default = self.default_of(field);
                self.write_field(field, value.field(&field.name).unwrap_or(&default))?;
            }
        }
        if !self.flexible {
            return Ok(());
        }
        let mut tagged = self.sorted_tagged(fields);
        tagged.retain(|(_, field)| {
            let given = value.field(&field.name);
            given.is_some_and(|given| *given != self.default_of(field))
        });
        self.write_varint(tagged.len() as u32);
        for (tag, field) in tagged {
            let body = std::mem::take(&mut self.bytes);
            let given = value.field(&field.name).expect("only these are kept");
            self.write_field(field, given)?;
            let content = std::mem::replace(&mut self.bytes, body);
            self.write_varint(tag);
            self.write_varint(content.len() as u32);
            self.bytes.extend(content);
        }
        Ok(())
    }

    fn write_field(&mut self, field: &Field, value: &Value) -> Result<(), String> {
        let nullable = field.nullable.contains(self.version);
        if *value == Value::Null && !nullable && field.kind != Type::Records {
            return Err(format!("{} may not be null", field.name));
        }
        if matches!(field.kind, Type::Struct(_)) && nullable {
            let is_null = *value == Value::Null;
            match field.tagged().contains(self.version) {
                true => self.write_varint((!is_null).into()),
                false => self.bytes.push(if is_null { 0xff } else { 1 }),
            }
            if is_null {
                return Ok(());
            }
        }
        self.write_value(&field.kind, value, field.inflexible)
            .map_err(|error| format!("{}: {error}", field.name))
    }

    fn write_value(&mut self, kind: &Type, value: &Value, inflexible: bool) -> Result<(), String> {
        match (kind, value) {
            (Type::Scalar(name), Value::Bool(value)) if name == "bool" => {
                self.bytes.push((*value).into());
            }
            (Type::Scalar(name), Value::Number(value)) if name.contains("int") => {
                let size = Type::scalar_bytes(name);
                self.bytes.extend(&value.to_be_bytes()[8 - size..]);
            }
            (Type::Scalar(name), Value::Uuid(value)) if name == "uuid" => self.bytes.extend(value),
            (_, Value::Null) => self.write_length(None, kind, inflexible),
            (Type::String, Value::Text(value)) => {
                self.write_length(Some(value.len()), kind, inflexible);
                self.bytes.extend(value.as_bytes());
            }
            (Type::Bytes | Type::Records, Value::Bytes(value)) => {
                self.write_length(Some(value.len()), kind, false);
                self.bytes.extend(value);
            }
            (Type::Array(element), Value::List(items)) => {
                self.write_length(Some(items.len()), kind, false);
                for item in items {
                    self.write_value(element, item, false)?;
                }
            }
            (Type::Struct(name), _) => {
                let message = self.message;
                self.write_fields(&message.structure(name).fields, value)?;
            }
            _ => return Err(format!("{value} is not of the type {kind:?}")),
        }
        Ok(())
    }

    fn write_length(&mut self, length: Option<usize>, kind: &Type, inflexible: bool) {
        let length = length.map_or(-1, |length| length as i32);
        if self.flexible && !inflexible {
            self.write_varint((length + 1) as u32);
        } else if *kind == Type::String {
            self.bytes.extend((length as i16).to_be_bytes());
        } else {
            self.bytes.extend(length.to_be_bytes());
        }
    }

    fn write_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn read_fields(&mut self, fields: &[Field]) -> Result<Value, String> {
        let mut values = Vec::new();
        for field in fields {
            if field.is_plain_in(self.version) {
                values.push((field.name.clone(), self.read_field(field)?));
            }
        }
        if !self.flexible {
            return Ok(Value::Struct(values));
        }
        let tagged = self.sorted_tagged(fields);
        let mut found = Vec::new();
        for _ in 0..self.read_varint()? {
            let tag = self.read_varint()?;
            let length = self.read_varint()? as usize;
            let end = self.at + length;
            let known = tagged.iter().find(|(known, _)| *known == tag);
            let (_, field) = known.ok_or_else(|| format!("an unknown tag {tag}"))?;
            found.push((field.name.clone(), self.read_field(field)?));
            if self.at != end {
                return Err(format!("{} has another length than it says", field.name));
            }
        }
        // A tagged field that is not sent has its default.
        for (_, field) in tagged {
            let at = found.iter().position(|(name, _)| *name == field.name);
            let missing = || (field.name.clone(), self.default_of(field));
            values.push(at.map_or_else(missing, |at| found.swap_remove(at)));
        }
        Ok(Value::Struct(values))
    }

    fn read_field(&mut self, field: &Field) -> Result<Value, String> {
        let nullable = field.nullable.contains(self.version);
        if matches!(field.kind, Type::Struct(_)) && nullable {
            let is_null = match field.tagged().contains(self.version) {
                true => self.read_varint()? == 0,
                false => self.read_bytes(1)?[0] == 0xff,
            };
            if is_null {
                return Ok(Value::Null);
            }
        }
        let value = self.read_value(&field.kind, field.inflexible)?;
        match value {
            Value::Null if !nullable => Err(format!("{} is null", field.name)),
            value => Ok(value),
        }
    }

    fn read_value(&mut self, kind: &Type, inflexible: bool) -> Result<Value, String> {
        if let Type::Scalar(name) = kind {
            return self.read_scalar(name);
        }
        if let Type::Struct(name) = kind {
            let message = self.message;
            return self.read_fields(&message.structure(name).fields);
        }
        let Some(length) = self.read_length(kind, inflexible)? else {
            return Ok(Value::Null);
        };
        match kind {
            Type::String => {
                let bytes = self.read_bytes(length)?;
                let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
                Ok(Value::Text(text))
            }
            Type::Array(element) => {
                let items = (0..length).map(|_| self.read_value(element, false));
                Ok(Value::List(items.collect::<Result<_, _>>()?))
            }
            _ => Ok(Value::Bytes(self.read_bytes(length)?)),
        }
    }

    fn read_scalar(&mut self, name: &str) -> Result<Value, String> {
        let bytes = self.read_bytes(Type::scalar_bytes(name))?;
        if name == "uuid" {
            return Ok(Value::Uuid(bytes.try_into().expect("sixteen bytes")));
        }
        let sign = if bytes[0] & 0x80 == 0 || name == "uint16" {
            0
        } else {
            0xff
        };
        let mut wide = [sign; 8];
        wide[8 - bytes.len()..].copy_from_slice(&bytes);
        let number = i64::from_be_bytes(wide);
        Ok(match name {
            "bool" => Value::Bool(number != 0),
            "float64" => Value::Float(f64::from_bits(number as u64)),
            _ => Value::Number(number),
        })
    }

    /// A length that the remaining bytes can hold, or nothing for null.
    fn read_length(&mut self, kind: &Type, inflexible: bool) -> Result<Option<usize>, String> {
        let length = if self.flexible && !inflexible {
            i64::from(self.read_varint()?) - 1
        } else if *kind == Type::String {
            let bytes = self.read_bytes(2)?;
            i64::from(i16::from_be_bytes([bytes[0], bytes[1]]))
        } else {
            let bytes = self.read_bytes(4)?;
            i64::from(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        match usize::try_from(length) {
            Ok(length) if length <= self.bytes.len() - self.at => Ok(Some(length)),
            Ok(length) => Err(format!("a length of {length}")),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(format!("a length of {length}")),
        }
    }

    fn read_varint(&mut self) -> Result<u32, String> {
        let mut value = 0;
        for shift in (0..32).step_by(7) {
            let byte = self.read_bytes(1)?[0];
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number of more than five bytes".to_owned())
    }

    fn read_bytes(&mut self, count: usize) -> Result<Vec<u8>, String> {
        let bytes = self.bytes.get(self.at..self.at + count);
        let bytes = bytes.ok_or("the answer ends too early")?.to_vec();
        self.at += count;
        Ok(bytes)
    }
}

fn scalar_default(name: &str, default: Option<&str>) -> Value {
    match (name, default.unwrap_or("0")) {
        ("bool", text) => Value::Bool(text == "true"),
        ("uuid", _) => Value::Uuid([0; 16]),
        ("float64", text) => Value::Float(text.parse().expect("a default number")),
        (_, text) => Value::Number(match text.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16).expect("a hexadecimal default"),
            None => text.parse().expect("a default number"),
        }),
    }
}
