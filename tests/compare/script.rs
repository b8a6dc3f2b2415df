//! The conversations, read from the files in `scripts/`, whose README describes the notation.

use std::collections::HashMap;
use std::time::Duration;

use crate::expression::Expression;
use crate::message;
use crate::value::Value;

/// How long an answer may take, unless the conversation says otherwise: a cold JVM among a dozen
/// conversations on a slow machine must not look like one that does not answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// A series of requests over some connections, each answer held against the other broker's.
pub struct Conversation {
    pub name: String,
    /// The APIs whose versions it goes through, and the range of each.
    pub versions: Vec<(String, i16, i16)>,
    /// How long an answer may take.
    pub within: Duration,
    pub steps: Vec<Step>,
}

pub struct Step {
    /// The file and the line where it stands.
    pub place: String,
    pub action: Action,
}

pub enum Action {
    /// Creates a topic and waits until it serves.
    Topic {
        name: String,
        partitions: i64,
        configs: Vec<(String, Expression)>,
    },
    /// Sends a request and, unless it is parked, waits for its answer.
    Request {
        connection: String,
        request: Request,
        is_parked: bool,
        /// Repeats it until the answer has this value at this path; only the last one counts.
        until: Option<(String, Expression)>,
        /// Whether its answer is held against the other broker's.
        is_compared: bool,
    },
    /// Waits for the next answer of a parked request.
    Receive { connection: String },
    /// Whether an answer is there within this time; it is not taken.
    Answered {
        connection: String,
        within: Duration,
    },
}

#[derive(Clone)]
pub struct Request {
    pub api: String,
    /// The version, where it is not the conversation's.
    pub version: Option<i16>,
    pub body: Body,
    /// Later steps find the answer by this name.
    pub name: Option<String>,
    /// Whether a first request without a member id gets one, in the versions that need it.
    pub gets_member_id: bool,
}

#[derive(Clone)]
pub enum Body {
    Fields(Expression),
    /// Bytes in the body's place.
    Raw(Vec<u8>),
}

impl Conversation {
    /// How many times it is held, each time in other versions.
    pub fn variants(&self) -> i16 {
        let counts = self
            .versions
            .iter()
            .map(|(_, first, last)| last - first + 1);
        counts.max().unwrap_or(1)
    }

    /// The version of `api` in a variant. Ranges end together: the last variant has the last
    /// version of each, and the shorter range stays at its first version longest.
    pub fn version(&self, api: &str, variant: i16) -> i16 {
        let range = self.versions.iter().find(|(name, ..)| name == api);
        let Some((_, first, last)) = range else {
            return message::versions(api).1;
        };
        (last - (self.variants() - 1 - variant)).max(*first)
    }
}

/// The conversations of one file.
pub fn parse(file: &str, text: &str) -> Result<Vec<Conversation>, String> {
    let mut conversations: Vec<Conversation> = Vec::new();
    let mut defaults = HashMap::new();
    for (line, statement) in statements(text) {
        let place = format!("{file}:{line}");
        let mut parser = Parser::new(&statement);
        parse_statement(&mut parser, &place, &mut conversations, &mut defaults)
            .map_err(|error| format!("{place}: {error} at {:?}", parser.rest()))?;
    }
    Ok(conversations)
}

/// The statements with the lines where they begin. One ends with its line, or where its brackets
/// are closed.
fn statements(text: &str) -> Vec<(usize, String)> {
    let mut statements: Vec<(usize, String)> = Vec::new();
    let mut depth = 0;
    for (index, line) in text.lines().enumerate() {
        let (mut code, mut in_text) = (String::new(), false);
        let (before, mut opened) = (depth, 0);
        for letter in line.chars() {
            match letter {
                '"' => in_text = !in_text,
                '#' if !in_text => break,
                '{' | '[' | '(' if !in_text => opened += 1,
                '}' | ']' | ')' if !in_text => opened -= 1,
                _ => {}
            }
            code.push(letter);
        }
        depth += opened;
        if code.trim().is_empty() {
            continue;
        }
        match statements.last_mut() {
            Some((_, statement)) if before > 0 => {
                statement.push(' ');
                statement.push_str(&code);
            }
            _ => statements.push((index + 1, code)),
        }
    }
    statements
}

fn parse_statement(
    parser: &mut Parser,
    place: &str,
    conversations: &mut Vec<Conversation>,
    defaults: &mut HashMap<String, Expression>,
) -> Result<(), String> {
    let word = parser.word()?;
    if word == "conversation" {
        let name = parser.word()?;
        conversations.push(Conversation {
            name,
            versions: Vec::new(),
            within: ANSWERED_WITHIN,
            steps: Vec::new(),
        });
        return parser.end();
    }
    if word == "default" {
        let api = parser.word()?;
        defaults.insert(api, parser.expression()?);
        return parser.end();
    }
    let conversation = conversations.last_mut().ok_or("no conversation yet")?;
    if word == "versions" {
        conversation.versions = parser.versions()?;
        return parser.end();
    }
    if word == "within" {
        conversation.within = parser.milliseconds()?;
        return parser.end();
    }
    let action = match word.as_str() {
        "topic" => parser.topic()?,
        "until" | "await" => {
            let path = parser.word()?;
            parser.expect("=")?;
            let value = parser.expression()?;
            let connection = parser.word()?;
            parser.expect(":")?;
            Action::Request {
                connection,
                request: parser.request(defaults)?,
                is_parked: false,
                until: Some((path, value)),
                is_compared: word == "until",
            }
        }
        _ => parser.exchange(word, defaults)?,
    };
    parser.end()?;
    conversation.steps.push(Step {
        place: place.to_owned(),
        action,
    });
    Ok(())
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text[self.at..].trim_start()
    }

    /// Whether `token` comes next; it is taken then.
    fn takes(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at = self.text.len() - self.rest().len() + token.len();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        self.takes(token)
            .then_some(())
            .ok_or_else(|| format!("{token} is missing"))
    }

    fn end(&self) -> Result<(), String> {
        self.rest()
            .is_empty()
            .then_some(())
            .ok_or_else(|| "the statement should end".to_owned())
    }

    /// A run of letters, digits and the signs that names and paths are made of.
    fn word(&mut self) -> Result<String, String> {
        let rest = self.rest();
        let is_part = |letter: char| letter.is_alphanumeric() || "-_.".contains(letter);
        let length = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
        if length == 0 {
            return Err("a word is missing".to_owned());
        }
        let word = rest[..length].to_owned();
        self.expect(&word)?;
        Ok(word)
    }

    fn number(&mut self) -> Result<i64, String> {
        let word = self.word()?;
        word.parse().map_err(|_| format!("{word} is not a number"))
    }

    fn milliseconds(&mut self) -> Result<Duration, String> {
        let number = u64::try_from(self.number()?).map_err(|error| error.to_string())?;
        Ok(Duration::from_millis(number))
    }

    /// `JoinGroup 4-9, SyncGroup`: an API alone means all its versions.
    fn versions(&mut self) -> Result<Vec<(String, i16, i16)>, String> {
        let mut versions = Vec::new();
        loop {
            let api = self.word()?;
            let (mut first, mut last) = message::versions(&api);
            if self
                .rest()
                .starts_with(|letter: char| letter.is_ascii_digit())
            {
                let range = self.word()?;
                let (from, to) = range.split_once('-').unwrap_or((&range, &range));
                first = from.parse().map_err(|_| "a range is missing".to_owned())?;
                last = to.parse().map_err(|_| "a range is missing".to_owned())?;
            }
            versions.push((api, first, last));
            if !self.takes(",") {
                return Ok(versions);
            }
        }
    }

    fn topic(&mut self) -> Result<Action, String> {
        let name = self.word()?;
        let partitions = self.number()?;
        let mut configs = Vec::new();
        while !self.rest().is_empty() {
            let key = self.word()?;
            self.expect("=")?;
            configs.push((key, self.expression()?));
        }
        Ok(Action::Topic {
            name,
            partitions,
            configs,
        })
    }

    fn exchange(
        &mut self,
        connection: String,
        defaults: &HashMap<String, Expression>,
    ) -> Result<Action, String> {
        if self.takes("<") {
            return Ok(Action::Receive { connection });
        }
        if self.takes("?") {
            let within = self.milliseconds()?;
            return Ok(Action::Answered { connection, within });
        }
        let is_parked = self.takes(">");
        if !is_parked {
            self.expect(":")?;
        }
        Ok(Action::Request {
            connection,
            request: self.request(defaults)?,
            is_parked,
            until: None,
            is_compared: true,
        })
    }

    /// `JoinGroup/4 {...} as name`.
    fn request(&mut self, defaults: &HashMap<String, Expression>) -> Result<Request, String> {
        let word = self.word()?;
        let gets_member_id = word == "join";
        let api = if gets_member_id {
            "JoinGroup".to_owned()
        } else {
            word
        };
        let version = match self.takes("/") {
            true => Some(self.number()? as i16),
            false => None,
        };
        let body = match self.takes("raw") {
            true => match self.expression()? {
                Expression::Literal(Value::Bytes(bytes)) => Body::Raw(bytes),
                other => return Err(format!("{other:?} are not bytes")),
            },
            false => Body::Fields(self.expression()?.over(defaults.get(&api))),
        };
        let name = match self.takes("as ") {
            true => Some(self.word()?),
            false => None,
        };
        Ok(Request {
            api,
            version,
            body,
            name,
            gets_member_id,
        })
    }

    fn expression(&mut self) -> Result<Expression, String> {
        if self.takes("{") {
            let mut fields = Vec::new();
            while !self.takes("}") {
                let name = self.word()?;
                self.expect(":")?;
                fields.push((name, self.expression()?));
                self.takes(",");
            }
            return Ok(Expression::Struct(fields));
        }
        if self.takes("[") {
            return Ok(Expression::List(self.until_closed("]")?));
        }
        if self.takes("$") {
            let word = self.word()?;
            let (name, path) = word.split_once('.').ok_or("a path is missing")?;
            return Ok(Expression::Variable {
                name: name.to_owned(),
                path: path.to_owned(),
            });
        }
        if self.takes("x\"") {
            let hex = self.text_end()?;
            return Ok(Expression::Literal(Value::Bytes(from_hex(&hex)?)));
        }
        if self.takes("uuid\"") {
            let id = from_hex(&self.text_end()?)?;
            let id = id.try_into().map_err(|_| "sixteen bytes are a uuid")?;
            return Ok(Expression::Literal(Value::Uuid(id)));
        }
        if self.takes("\"") {
            return Ok(Expression::Text(self.text_end()?));
        }
        let word = self.word()?;
        if self.takes("(") {
            return Ok(Expression::Call {
                function: word,
                arguments: self.until_closed(")")?,
            });
        }
        Ok(Expression::Literal(match word.as_str() {
            "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            number => {
                let number = number.parse();
                Value::Number(number.map_err(|_| format!("{word} is no value"))?)
            }
        }))
    }

    fn until_closed(&mut self, bracket: &str) -> Result<Vec<Expression>, String> {
        let mut items = Vec::new();
        while !self.takes(bracket) {
            items.push(self.expression()?);
            self.takes(",");
        }
        Ok(items)
    }

    fn text_end(&mut self) -> Result<String, String> {
        let rest = &self.text[self.at..];
        let length = rest.find('"').ok_or("a text does not end")?;
        self.at += length + 1;
        Ok(rest[..length].to_owned())
    }
}

fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: String = text.split_whitespace().collect();
    let pairs = (0..digits.len()).step_by(2).map(|at| {
        let pair = digits.get(at..at + 2);
        pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())
    });
    pairs
        .collect::<Option<_>>()
        .ok_or_else(|| format!("{text} is not hexadecimal"))
}
