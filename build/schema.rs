//! The message facts as data: what `src/protocol/messages.txt` says, parsed. Used by the build
//! script and by the protocol's tests; it knows nothing of Rust code.

/// An inclusive range of versions; empty if `first > last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The first version of the range.
    pub first: i16,
    /// The last one; `i16::MAX` for a range without end.
    pub last: i16,
}

/// What a message is for: `request`, `response`, `header`, `metadata`, and so on.
#[derive(Clone, Debug)]
pub struct Message {
    /// Kafka's word for the kind of message.
    pub kind: String,
    /// Kafka's name of it, such as `ProduceRequest`.
    pub name: String,
    /// The versions that exist.
    pub versions: Versions,
    /// The versions with compact lengths and tagged fields.
    pub flexible: Versions,
    /// The API key, or the number of a record's type.
    pub key: Option<i16>,
    /// Whether the last version may still change.
    pub unstable: bool,
    /// The message's own fields, in the order of the wire.
    pub fields: Vec<Field>,
    /// The structs that its fields are made of.
    pub structs: Vec<Struct>,
}

/// A struct within a message.
#[derive(Clone, Debug)]
pub struct Struct {
    /// Kafka's name of it.
    pub name: String,
    /// The versions of the message in which it occurs.
    pub versions: Versions,
    /// Its fields, in the order of the wire.
    pub fields: Vec<Field>,
}

/// A field of a message or struct.
#[derive(Clone, Debug)]
pub struct Field {
    /// Kafka's name of it, in upper camel case.
    pub name: String,
    /// Its type.
    pub kind: Type,
    /// The versions that have it.
    pub versions: Versions,
    /// The versions in which it may be null.
    pub nullable: Versions,
    /// Its tag and the versions in which it is a tagged field.
    pub tag: Option<(u32, Versions)>,
    /// Its default where that is not zero or empty.
    pub default: Option<String>,
    /// Whether a value is silently left out of a version that does not know the field.
    pub ignorable: bool,
    /// Whether it keeps the old length prefix in flexible versions.
    pub inflexible: bool,
}

/// A field's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// A number, bool or uuid, by Kafka's name.
    Scalar(String),
    /// A string.
    String,
    /// Bytes.
    Bytes,
    /// Record batches.
    Records,
    /// A struct of the message, by name.
    Struct(String),
    /// An array of any of the above.
    Array(Box<Type>),
}

impl Versions {
    /// No version at all.
    pub const NONE: Self = Self { first: 0, last: -1 };

    /// Whether the range holds no version.
    pub fn is_empty(self) -> bool {
        self.first > self.last
    }

    /// Whether the range holds `version`.
    pub fn contains(self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }

    /// The versions that are in both.
    pub fn intersect(self, other: Self) -> Self {
        Self {
            first: self.first.max(other.first),
            last: self.last.min(other.last),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::NONE);
        }
        let (first, last) = match text.strip_suffix('+') {
            Some(first) => (first.parse().ok()?, i16::MAX),
            None => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                (first.parse().ok()?, last.parse().ok()?)
            }
        };
        Some(Self { first, last })
    }
}

impl Message {
    /// The struct of the message that is called `name`.
    pub fn structure(&self, name: &str) -> &Struct {
        self.structs
            .iter()
            .find(|structure| structure.name == name)
            .unwrap_or_else(|| panic!("{} has no struct {name}", self.name))
    }
}

impl Field {
    /// The versions in which it is a tagged field.
    pub fn tagged(&self) -> Versions {
        self.tag.map_or(Versions::NONE, |(_, versions)| versions)
    }

    /// Whether it stands in the body of `version`, outside the tagged fields.
    pub fn is_plain_in(&self, version: i16) -> bool {
        self.versions.contains(version) && !self.tagged().contains(version)
    }

    /// Whether any version lets it be null.
    pub fn is_nullable(&self) -> bool {
        !self.nullable.is_empty()
    }
}

impl Type {
    fn parse(text: &str) -> Self {
        match text {
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            _ => match text.strip_prefix("[]") {
                Some(element) => Self::Array(Box::new(Self::parse(element))),
                None if text.starts_with(char::is_uppercase) => Self::Struct(text.into()),
                None => Self::Scalar(text.into()),
            },
        }
    }

    /// The bytes of a number, bool or uuid.
    pub fn scalar_bytes(name: &str) -> usize {
        match name {
            "bool" | "int8" => 1,
            "int16" | "uint16" => 2,
            "int32" => 4,
            "int64" | "float64" => 8,
            "uuid" => 16,
            _ => panic!("unknown type {name}"),
        }
    }
}

/// Parses the whole file.
///
/// # Errors
/// The number of the first line that means nothing, and the line.
pub fn parse(text: &str) -> Result<Vec<Message>, String> {
    let mut messages = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        parse_line(line, &mut messages).ok_or_else(|| format!("line {}: {line}", index + 1))?;
    }
    Ok(messages)
}

fn parse_line(line: &str, messages: &mut Vec<Message>) -> Option<()> {
    let depth = (line.len() - line.trim_start().len()) / 2;
    let mut words = line.split_whitespace();
    match depth {
        0 => messages.push(parse_message(&mut words)?),
        1 if line.trim_start().starts_with("struct ") => {
            words.next();
            let structure = Struct {
                name: words.next()?.into(),
                versions: Versions::parse(words.next()?.strip_prefix("versions=")?)?,
                fields: Vec::new(),
            };
            messages.last_mut()?.structs.push(structure);
        }
        1 => messages.last_mut()?.fields.push(parse_field(&mut words)?),
        2 => {
            let structure = messages.last_mut()?.structs.last_mut()?;
            structure.fields.push(parse_field(&mut words)?);
        }
        _ => return None,
    }
    Some(())
}

fn parse_message<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Message> {
    let mut message = Message {
        kind: words.next()?.into(),
        name: words.next()?.into(),
        versions: Versions::NONE,
        flexible: Versions::NONE,
        key: None,
        unstable: false,
        fields: Vec::new(),
        structs: Vec::new(),
    };
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("versions", range) => message.versions = Versions::parse(range)?,
            ("flexible", range) => message.flexible = Versions::parse(range)?,
            ("key", key) => message.key = Some(key.parse().ok()?),
            ("unstable", "") => message.unstable = true,
            _ => return None,
        }
    }
    (!message.versions.is_empty()).then_some(message)
}

fn parse_field<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Field> {
    let mut field = Field {
        name: words.next()?.into(),
        kind: Type::parse(words.next()?),
        versions: Versions::parse(words.next()?)?,
        nullable: Versions::NONE,
        tag: None,
        default: None,
        ignorable: false,
        inflexible: false,
    };
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("null", range) => field.nullable = Versions::parse(range)?,
            ("tag", tag) => {
                let (tag, range) = tag.split_once(':')?;
                field.tag = Some((tag.parse().ok()?, Versions::parse(range)?));
            }
            ("default", value) => field.default = Some(value.into()),
            ("ignorable", "") => field.ignorable = true,
            // A set on the wire is an array here: duplicates are the handler's business.
            ("map-key", "") => {}
            ("flexible", "none") => field.inflexible = true,
            _ => return None,
        }
    }
    Some(field)
}
