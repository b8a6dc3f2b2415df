//! What scripts write in the place of values: literals, what an earlier answer said, and calls.

use std::collections::HashMap;

use crate::support::batches;
use crate::value::Value;

/// A value that may depend on earlier answers.
#[derive(Clone, Debug)]
pub enum Expression {
    Literal(Value),
    /// A text in which `@` stands for the conversation's own prefix.
    Text(String),
    /// `$name.path`: the value at that path of the answer called so.
    Variable {
        name: String,
        path: String,
    },
    List(Vec<Expression>),
    Struct(Vec<(String, Expression)>),
    Call {
        function: String,
        arguments: Vec<Expression>,
    },
}

/// What expressions are resolved against.
pub struct Scope {
    /// What keeps the names of one conversation apart from those of all others.
    pub prefix: String,
    pub answers: HashMap<String, Value>,
}

impl Expression {
    pub fn resolve(&self, scope: &Scope) -> Result<Value, String> {
        Ok(match self {
            Self::Literal(value) => value.clone(),
            Self::Text(text) => Value::Text(text.replace('@', &scope.prefix)),
            Self::Variable { name, path } => {
                let answer = scope.answers.get(name);
                let value = answer.and_then(|answer| answer.at(path));
                value
                    .cloned()
                    .ok_or_else(|| format!("no answer gave ${name}.{path}"))?
            }
            Self::List(items) => {
                let items = items.iter().map(|item| item.resolve(scope));
                Value::List(items.collect::<Result<_, _>>()?)
            }
            Self::Struct(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), value.resolve(scope)?)));
                Value::Struct(fields.collect::<Result<_, String>>()?)
            }
            Self::Call {
                function,
                arguments,
            } => {
                let arguments = arguments.iter().map(|argument| argument.resolve(scope));
                call(function, &arguments.collect::<Result<Vec<_>, _>>()?)?
            }
        })
    }

    /// The fields of this struct over those of `defaults`.
    pub fn over(self, defaults: Option<&Expression>) -> Self {
        match (self, defaults) {
            (Self::Struct(mut fields), Some(Self::Struct(defaults))) => {
                for (name, value) in defaults {
                    if !fields.iter().any(|(given, _)| given == name) {
                        fields.push((name.clone(), value.clone()));
                    }
                }
                Self::Struct(fields)
            }
            (own, _) => own,
        }
    }
}

fn call(function: &str, arguments: &[Value]) -> Result<Value, String> {
    let text = |at: usize| match arguments.get(at) {
        Some(Value::Text(text)) => Ok(text.clone()),
        other => Err(format!("{function}: {other:?} is not a text")),
    };
    let number = |at: usize| match arguments.get(at) {
        Some(Value::Number(number)) => Ok(*number),
        other => Err(format!("{function}: {other:?} is not a number")),
    };
    let bytes = |at: usize| match arguments.get(at) {
        Some(Value::Bytes(bytes)) => Ok(bytes.clone()),
        other => Err(format!("{function}: {other:?} is not bytes")),
    };
    let size = |at: usize| number(at).and_then(|it| it.try_into().map_err(|_| "a size".to_owned()));
    let texts = |from: usize| {
        (from..arguments.len())
            .map(text)
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(match function {
        // A batch of records with these values.
        "batch" => {
            let values = texts(0)?;
            let values: Vec<_> = values.iter().map(|value| value.as_bytes()).collect();
            Value::Bytes(batches::batch(&values))
        }
        "keyless" => {
            let values = texts(0)?;
            let values: Vec<_> = values.iter().map(|value| value.as_bytes()).collect();
            Value::Bytes(batches::batch_with_key(None, &values))
        }
        // A batch of an idempotent producer: its id, epoch, sequence, values.
        "sequenced" => {
            let values = texts(3)?;
            let values: Vec<_> = values.iter().map(|value| value.as_bytes()).collect();
            let epoch = number(1)? as i16;
            let sequence = number(2)? as i32;
            Value::Bytes(batches::sequenced(number(0)?, epoch, sequence, &values))
        }
        // A batch with other bytes at a place, and its CRC as it was, or right.
        "bent" => Value::Bytes(batches::with(bytes(0)?, size(1)?, &bytes(2)?)),
        "sealed" => Value::Bytes(batches::sealed_with(bytes(0)?, size(1)?, &bytes(2)?)),
        // A message of format 0 or 1.
        "old_message" => {
            let magic = u8::try_from(number(0)?).map_err(|error| error.to_string())?;
            Value::Bytes(batches::old_message(magic, text(1)?.as_bytes()))
        }
        // The bytes of a text, one text many times, and several bytes one after the other.
        "bytes" => Value::Bytes(text(0)?.into_bytes()),
        "repeat" => Value::Text(text(0)?.repeat(size(1)?)),
        "join" => {
            let parts = (0..arguments.len()).map(bytes);
            Value::Bytes(parts.collect::<Result<Vec<_>, _>>()?.concat())
        }
        "first" => Value::Bytes(bytes(0)?[..size(1)?].to_vec()),
        "subscription" => Value::Bytes(subscription(&texts(0)?)),
        _ => return Err(format!("there is no function {function}")),
    })
}

/// What a consumer of these topics sends in a join: version 0, no user data.
fn subscription(topics: &[String]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes
}
