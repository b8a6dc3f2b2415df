//! Rust code from the message facts. The code is kept small, for the compiler's sake: what a field
//! needs is a call of the reader or writer of `src/protocol`, which know about lengths and nulls.
//! Everything is `#[inline]`, so that a message costs nothing to compile until something uses it.

use std::fmt::Write as _;

use crate::schema::{Field, Message, Type, Versions};

const KEYWORDS: &[&str] = &[
    "type", "match", "use", "ref", "where", "loop", "move", "final",
];

/// One module per message, with its structs.
pub fn messages(messages: &[Message]) -> String {
    let mut out = String::new();
    for message in messages {
        let module = snake_case(&message.name);
        let name = &message.name;
        let _ = writeln!(out, "/// [`{module}::{name}`] and the structs in it.");
        let _ = writeln!(out, "pub mod {module} {{\nuse crate::protocol::wire::*;");
        structure(&mut out, message, name, message.versions, &message.fields);
        for part in &message.structs {
            let versions = part.versions.intersect(message.versions);
            structure(&mut out, message, &part.name, versions, &part.fields);
        }
        message_impl(&mut out, message, messages);
        out.push_str("}\n");
    }
    out
}

/// A macro for the tests: `every_message!(function(arguments))` calls a generic function for each
/// message of the crate `millrace`.
pub fn every_message(messages: &[Message]) -> String {
    let mut out = String::from("macro_rules! every_message { ($check:ident $arguments:tt) => {{\n");
    for message in messages {
        let (module, name) = (snake_case(&message.name), &message.name);
        let path = format!("millrace::protocol::messages::{module}::{name}");
        let _ = writeln!(out, "$check::<{path}> $arguments;");
    }
    out.push_str("}} }\n");
    out
}

/// The `ApiKey` enum and the table behind it.
pub fn api_keys(messages: &[Message]) -> String {
    let requests: Vec<_> = messages.iter().filter(|m| m.kind == "request").collect();
    let mut out = String::from(
        "/// An API of the protocol, by its key. Also those that the broker does not serve.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\n\
         #[repr(i16)]\npub enum ApiKey {\n",
    );
    for request in &requests {
        let (name, key) = (api_name(request), api_key(request));
        let _ = writeln!(out, "/// {name}, key {key}.\n{name} = {key},");
    }
    out.push_str("}\nconst APIS: &[ApiFacts] = &[\n");
    for request in &requests {
        let _ = writeln!(
            out,
            "ApiFacts {{ key: ApiKey::{0}, name: \"{0}\", first: {1}, last: {2}, flexible: {3} }},",
            api_name(request),
            request.versions.first,
            request.versions.last,
            flexible_since(request),
        );
    }
    out.push_str("];\n");
    out
}

fn api_key(request: &Message) -> i16 {
    request.key.expect("a request has an API key")
}

fn api_name(request: &Message) -> &str {
    request
        .name
        .strip_suffix("Request")
        .expect("its name ends so")
}

fn flexible_since(message: &Message) -> i16 {
    if message.flexible.is_empty() {
        i16::MAX
    } else {
        message.flexible.first
    }
}

fn message_impl(out: &mut String, message: &Message, messages: &[Message]) {
    let name = &message.name;
    let _ = writeln!(
        out,
        "impl Message for {name} {{\n\
         const NAME: &'static str = \"{name}\";\n\
         const VERSIONS: RangeInclusive<i16> = {}..={};\n\
         const FLEXIBLE_SINCE: i16 = {};\nconst KEY: i16 = {};\n}}",
        message.versions.first,
        message.versions.last,
        flexible_since(message),
        message.key.unwrap_or(-1),
    );
    if message.kind == "request" {
        let response = messages
            .iter()
            .find(|other| other.kind == "response" && other.key == message.key)
            .expect("every request has a response");
        let _ = writeln!(
            out,
            "impl Request for {name} {{\n\
             type Response = super::{}::{};\nconst API: ApiKey = ApiKey::{};\n}}",
            snake_case(&response.name),
            response.name,
            api_name(message),
        );
    }
}

/// A struct, its default, and how it is read and written. `scope` are the versions that it meets.
fn structure(out: &mut String, message: &Message, name: &str, scope: Versions, fields: &[Field]) {
    let plain_default = fields.iter().all(has_plain_default);
    let is_message = name == message.name;
    let whose = if is_message { "" } else { "A part of " };
    let _ = writeln!(
        out,
        "/// {whose}Kafka's `{}`, versions {}.",
        message.name,
        range(scope)
    );
    let derived = if plain_default { "Default, " } else { "" };
    let _ = writeln!(
        out,
        "#[derive({derived}Clone, Debug, PartialEq)]\npub struct {name} {{"
    );
    for field in fields {
        let _ = writeln!(out, "/// {}", field_doc(field, scope));
        let _ = writeln!(out, "pub {}: {},", ident(field), rust_type(message, field));
    }
    out.push_str("}\n");
    if !plain_default {
        let _ = writeln!(
            out,
            "impl Default for {name} {{ #[inline] fn default() -> Self {{ Self {{"
        );
        for field in fields {
            let _ = writeln!(out, "{}: {},", ident(field), default_value(field));
        }
        out.push_str("} } }\n");
    }
    let bytes_min = message_versions(message, scope)
        .map(|version| bytes_min(message, fields, version))
        .min()
        .expect("a struct occurs in some version");
    let _ = writeln!(
        out,
        "impl Wire for {name} {{\nconst BYTES_MIN: usize = {bytes_min};"
    );
    read_fn(out, message, scope, fields);
    write_fn(out, scope, fields);
    out.push_str("}\n");
}

fn read_fn(out: &mut String, message: &Message, scope: Versions, fields: &[Field]) {
    let mut tagged: Vec<_> = fields.iter().filter(|field| field.tag.is_some()).collect();
    tagged.sort_by_key(|field| field.tag.map(|(tag, _)| tag));
    let binding = if tagged.is_empty() {
        "let this"
    } else {
        "let mut this"
    };
    out.push_str(
        "#[inline]\nfn read(r: &mut Reader, v: i16) -> Result<Self, DecodeError> {\nlet _ = v;\n",
    );
    let _ = writeln!(out, "{binding} = Self {{");
    for field in fields {
        let read = read_expression(message, field, scope, false);
        let value = match plain_condition(field, scope) {
            Condition::Always => read,
            Condition::Never => default_value(field),
            Condition::If(test) => {
                format!("if {test} {{ {read} }} else {{ {} }}", default_value(field))
            }
        };
        let _ = writeln!(out, "{}: {value},", ident(field));
    }
    out.push_str("};\n");
    if tagged.is_empty() {
        out.push_str("r.skip_tags()?;\n");
    } else {
        out.push_str("r.tags(|r, tag| { match tag {\n");
        for field in tagged {
            let (tag, versions) = field.tag.expect("only tagged fields are here");
            if let Condition::If(test) = condition(versions, flexible_scope(message, scope)) {
                let _ = writeln!(
                    out,
                    "{tag} if !({test}) => return Err(r.misplaced_tag(tag)),"
                );
            }
            let read = read_expression(message, field, scope, true);
            let _ = writeln!(out, "{tag} => this.{} = {read},", ident(field));
        }
        out.push_str("_ => return Ok(false),\n} Ok(true) })?;\n");
    }
    out.push_str("Ok(this)\n}\n");
}

fn write_fn(out: &mut String, scope: Versions, fields: &[Field]) {
    out.push_str(
        "#[inline]\nfn write(&self, w: &mut Writer, v: i16) -> Result<(), EncodeError> {\n",
    );
    out.push_str("let _ = v;\n");
    for field in fields {
        if !field.ignorable {
            let test = match condition(field.versions, scope) {
                Condition::Always => None,
                Condition::Never => Some(is_set(field)),
                Condition::If(test) => Some(format!("!({test}) && {}", is_set(field))),
            };
            if let Some(test) = test {
                let name = snake_case(&field.name);
                let _ = writeln!(
                    out,
                    "if {test} {{ return Err(w.unknown_field(\"{name}\", v)); }}"
                );
            }
        }
        let write = write_statement(field, scope);
        match plain_condition(field, scope) {
            Condition::Always => drop(writeln!(out, "{write}")),
            Condition::Never => {}
            Condition::If(test) => drop(writeln!(out, "if {test} {{ {write} }}")),
        }
    }
    let mut tagged: Vec<_> = fields.iter().filter(|field| field.tag.is_some()).collect();
    tagged.sort_by_key(|field| field.tag.map(|(tag, _)| tag));
    if tagged.is_empty() {
        out.push_str("w.no_tags();\n");
    } else {
        out.push_str("if let Some(tags) = w.begin_tags() {\n");
        for field in tagged {
            let (tag, versions) = field.tag.expect("only tagged fields are here");
            let known = match condition(versions, scope) {
                Condition::Always => String::new(),
                Condition::Never => continue,
                Condition::If(test) => format!("{test} && "),
            };
            let _ = writeln!(
                out,
                "if {known}{} {{ let at = w.begin_tag(&tags, {tag}); {} w.end_tag(at); }}",
                is_set(field),
                write_tagged_statement(field),
            );
        }
        out.push_str("}\n");
    }
    out.push_str("Ok(())\n}\n");
}

enum Condition {
    Always,
    Never,
    If(String),
}

/// The test on `v` for `versions`, given that `v` is in `scope`.
fn condition(versions: Versions, scope: Versions) -> Condition {
    let inner = versions.intersect(scope);
    if inner.is_empty() {
        return Condition::Never;
    }
    match (inner.first > scope.first, inner.last < scope.last) {
        (false, false) => Condition::Always,
        (true, false) => Condition::If(format!("v >= {}", inner.first)),
        (false, true) => Condition::If(format!("v <= {}", inner.last)),
        (true, true) => Condition::If(format!("({}..={}).contains(&v)", inner.first, inner.last)),
    }
}

/// The same for the versions in which the field stands outside the tagged fields.
fn plain_condition(field: &Field, scope: Versions) -> Condition {
    let tagged = field.tagged();
    if tagged.is_empty() {
        return condition(field.versions, scope);
    }
    // Tagged versions have no end, so the plain ones are those before them.
    let plain = Versions {
        first: field.versions.first,
        last: tagged.first - 1,
    };
    condition(plain, scope)
}

fn flexible_scope(message: &Message, scope: Versions) -> Versions {
    message.flexible.intersect(scope)
}

fn message_versions(message: &Message, scope: Versions) -> impl Iterator<Item = i16> {
    let versions = message.versions.intersect(scope);
    versions.first..=versions.last
}

/// A Rust expression that says in which versions the field may be null: a test, `true` or `false`.
fn nullable_test(field: &Field, scope: Versions) -> String {
    match condition(field.nullable, scope.intersect(field.versions)) {
        Condition::Always => "true".into(),
        Condition::Never => "false".into(),
        Condition::If(test) => test,
    }
}

fn read_expression(message: &Message, field: &Field, scope: Versions, tagged: bool) -> String {
    assert!(
        !field.inflexible || field.is_nullable(),
        "only such a field exists"
    );
    if !field.is_nullable() {
        return match &field.kind {
            Type::Scalar(name) => format!("r.{}()?", scalar_method(field, name)),
            Type::String => "r.string()?".into(),
            Type::Bytes => "r.bytes()?".into(),
            Type::Records if records_are_bytes(message) => "r.bytes()?".into(),
            Type::Records => "r.bytes()?.into()".into(),
            Type::Struct(_) => "Wire::read(r, v)?".into(),
            Type::Array(_) => "r.array(v)?".into(),
        };
    }
    let nullable = nullable_test(field, scope);
    match &field.kind {
        Type::Scalar(name) => panic!("{name} cannot be null"),
        Type::String if field.inflexible => format!("r.legacy_nullable_string({nullable})?"),
        Type::String => format!("r.nullable_string({nullable})?"),
        Type::Bytes => format!("r.nullable_bytes({nullable})?"),
        Type::Records if records_are_bytes(message) => format!("r.nullable_bytes({nullable})?"),
        Type::Records => format!("r.nullable_bytes({nullable})?.map(Records::from)"),
        Type::Struct(_) if tagged => format!("r.nullable_tagged_struct(v, {nullable})?"),
        Type::Struct(_) => format!("r.nullable_struct(v, {nullable})?"),
        Type::Array(_) => format!("r.nullable_array(v, {nullable})?"),
    }
}

fn write_statement(field: &Field, scope: Versions) -> String {
    let place = format!("self.{}", ident(field));
    if !field.is_nullable() {
        return match &field.kind {
            Type::Scalar(name) => format!("w.{}({place});", scalar_method(field, name)),
            Type::String => format!("w.string(&{place})?;"),
            Type::Bytes => format!("w.bytes(&{place})?;"),
            Type::Records => format!("w.records(&{place})?;"),
            Type::Struct(_) => format!("{place}.write(w, v)?;"),
            Type::Array(_) => format!("w.array(&{place}, v)?;"),
        };
    }
    let nullable = nullable_test(field, scope);
    match &field.kind {
        Type::Scalar(name) => panic!("{name} cannot be null"),
        Type::String if field.inflexible => {
            format!("w.legacy_nullable_string(&{place}, {nullable})?;")
        }
        Type::String => format!("w.nullable_string(&{place}, {nullable})?;"),
        Type::Bytes => format!("w.nullable_bytes(&{place}, {nullable})?;"),
        Type::Records => format!("w.nullable_records(&{place}, {nullable})?;"),
        Type::Struct(_) => format!("w.nullable_struct(&{place}, v, {nullable})?;"),
        Type::Array(_) => format!("w.nullable_array(&{place}, v, {nullable})?;"),
    }
}

fn write_tagged_statement(field: &Field) -> String {
    match &field.kind {
        Type::Struct(_) if field.is_nullable() => {
            format!("w.nullable_tagged_struct(&self.{}, v)?;", ident(field))
        }
        _ => write_statement(field, field.tagged()),
    }
}

/// A test that the field does not hold its default.
fn is_set(field: &Field) -> String {
    let place = format!("self.{}", ident(field));
    match &field.kind {
        _ if field.is_nullable() && default_is_null(field) => format!("{place}.is_some()"),
        Type::Struct(_) if field.is_nullable() => {
            format!("{place}.as_ref() != Some(&Default::default())")
        }
        _ if field.is_nullable() => format!("!{place}.as_ref().is_some_and(|it| it.is_empty())"),
        Type::Scalar(name) if name == "bool" && field.default.is_none() => place,
        Type::Scalar(_) => format!("{place} != {}", default_value(field)),
        Type::Struct(_) => format!("{place} != Default::default()"),
        Type::String if field.default.is_some() => {
            format!(
                "{place} != {:?}",
                field.default.as_deref().unwrap_or_default()
            )
        }
        _ => format!("!{place}.is_empty()"),
    }
}

fn default_is_null(field: &Field) -> bool {
    field.default.as_deref() == Some("null") || field.kind == Type::Records
}

/// Whether Rust's own default for the type is the field's.
fn has_plain_default(field: &Field) -> bool {
    if field.is_nullable() {
        default_is_null(field)
    } else {
        field.default.is_none()
    }
}

fn default_value(field: &Field) -> String {
    if field.is_nullable() && default_is_null(field) {
        return "None".into();
    }
    let value = match (&field.kind, field.default.as_deref()) {
        (Type::Scalar(name), Some(value)) if name != "uuid" => value.into(),
        (Type::Scalar(name), None) if name == "bool" => "false".into(),
        (Type::Scalar(name), None) if name == "float64" => "0.0".into(),
        (Type::Scalar(name), None) if name != "uuid" => "0".into(),
        (Type::String, Some(value)) => format!("ByteString::from_static({value:?})"),
        (_, None) => "Default::default()".into(),
        (_, Some(value)) => panic!("{}: a default of {value}", field.name),
    };
    if field.is_nullable() {
        format!("Some({value})")
    } else {
        value
    }
}

fn rust_type(message: &Message, field: &Field) -> String {
    let inner = match &field.kind {
        Type::Records if records_are_bytes(message) => "Bytes".into(),
        Type::Records => "Records".into(),
        Type::Array(element) => format!("Vec<{}>", element_type(element)),
        Type::Scalar(name) if scalar_method(field, name) == "topic_id" => "TopicId".into(),
        kind => element_type(kind),
    };
    if field.is_nullable() {
        format!("Option<{inner}>")
    } else {
        inner
    }
}

/// Whether a `records` field is one handle to bytes: in a request they lie in its frame.
fn records_are_bytes(message: &Message) -> bool {
    message.kind == "request"
}

/// The reader's and the writer's method: a uuid is a topic's id if its name says so.
fn scalar_method<'a>(field: &Field, kind: &'a str) -> &'a str {
    if kind == "uuid" && snake_case(&field.name).ends_with("topic_id") {
        "topic_id"
    } else {
        kind
    }
}

fn element_type(kind: &Type) -> String {
    match kind {
        Type::Scalar(name) => match name.as_str() {
            "bool" => "bool".into(),
            "uuid" => "Uuid".into(),
            "uint16" => "u16".into(),
            "float64" => "f64".into(),
            name => name.replacen("int", "i", 1),
        },
        Type::String => "ByteString".into(),
        Type::Bytes => "Bytes".into(),
        Type::Struct(name) => name.clone(),
        Type::Records | Type::Array(_) => panic!("an array of {kind:?}"),
    }
}

/// The fewest bytes that the fields can take in `version`.
fn bytes_min(message: &Message, fields: &[Field], version: i16) -> usize {
    let flexible = message.flexible.contains(version);
    let plain = fields.iter().filter(|field| field.is_plain_in(version));
    let body: usize = plain
        .map(|field| match &field.kind {
            Type::Scalar(name) => Type::scalar_bytes(name),
            Type::String if field.inflexible || !flexible => 2,
            Type::Struct(_) if field.nullable.contains(version) => 1,
            Type::Struct(name) => bytes_min(message, &message.structure(name).fields, version),
            Type::String | Type::Bytes | Type::Records | Type::Array(_) if flexible => 1,
            _ => 4,
        })
        .sum();
    body + usize::from(flexible)
}

fn field_doc(field: &Field, scope: Versions) -> String {
    let mut words = match &field.kind {
        Type::Scalar(name) => name.clone(),
        kind => format!("{kind:?}")
            .split(['(', ' '])
            .next()
            .unwrap_or_default()
            .to_lowercase(),
    };
    if let Condition::If(_) | Condition::Never = condition(field.versions, scope) {
        let _ = write!(words, ", versions {}", range(field.versions));
    }
    if field.is_nullable() {
        let _ = write!(words, ", nullable in {}", range(field.nullable));
    }
    if let Some((tag, versions)) = field.tag {
        let _ = write!(words, ", tag {tag} in {}", range(versions));
    }
    if let Some(default) = &field.default {
        let _ = write!(words, ", default {default}");
    }
    if field.ignorable {
        words.push_str(", left out of versions without it");
    }
    words + "."
}

fn range(versions: Versions) -> String {
    match versions {
        Versions { first, last } if first == last => format!("{first}"),
        Versions {
            first,
            last: i16::MAX,
        } => format!("{first}+"),
        Versions { first, last } => format!("{first}-{last}"),
    }
}

fn ident(field: &Field) -> String {
    let name = snake_case(&field.name);
    if KEYWORDS.contains(&name.as_str()) {
        format!("r#{name}")
    } else {
        name
    }
}

/// `TopicId` is `topic_id`, `ISRVersion` is `isr_version`.
fn snake_case(name: &str) -> String {
    let chars: Vec<char> = name.replace("KRaft", "Kraft").chars().collect();
    let mut snake = String::new();
    for (index, c) in chars.iter().enumerate() {
        let after_lower = index > 0 && !chars[index - 1].is_uppercase();
        let before_lower = chars.get(index + 1).is_some_and(|next| next.is_lowercase());
        if c.is_uppercase() && index > 0 && (after_lower || before_lower) {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}
