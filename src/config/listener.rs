//! Listeners: the addresses on which the broker is reached. Parsing and rules; opens no socket.

use std::collections::BTreeMap;

use super::ConfigError;
use super::read::Read;

/// An address on which clients and brokers are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, in upper case, which settings and other brokers refer to it by.
    pub name: String,
    /// A host name or address; empty for every interface.
    pub host: String,
    /// The TCP port; 0 takes any free one.
    pub port: u16,
}

/// An address that clients are told to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisedListener {
    /// The listener that it stands for.
    pub name: String,
    /// A host name or address; empty for this machine's own name.
    pub host: String,
    /// The TCP port; 0 for the port that the listener got.
    pub port: u16,
}

/// What the settings about listeners come to.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) listeners: Vec<Listener>,
    pub(super) advertised: Vec<AdvertisedListener>,
}

impl Listeners {
    pub(super) fn read(read: &Read<'_>) -> Result<Self, ConfigError> {
        let controllers = names(&read.list("controller.listener.names")?);
        let protocols = protocols(&read.text("listener.security.protocol.map")?)?;
        let is_controller = |listener: &Listener| controllers.contains(&listener.name);

        let mut listeners = parse("listeners", &read.list("listeners")?)?;
        check_apart(&listeners)?;
        listeners.retain(|listener| !is_controller(listener));
        for listener in &listeners {
            check_protocol(listener, &protocols)?;
        }
        if listeners.is_empty() {
            return Err(ConfigError::Conflict(
                "listeners names no listener for clients: all of them are in \
                 controller.listener.names"
                    .to_owned(),
            ));
        }

        let mut advertised = parse("advertised.listeners", &read.list("advertised.listeners")?)?;
        advertised.retain(|listener| !is_controller(listener));
        let is_advertised = !advertised.is_empty();
        if !is_advertised {
            advertised.clone_from(&listeners);
        }
        check_advertised(&advertised, &listeners, is_advertised)?;
        check_inter_broker(read, &advertised)?;
        let advertised = advertised
            .into_iter()
            .map(|Listener { name, host, port }| AdvertisedListener { name, host, port })
            .collect();
        Ok(Self {
            listeners,
            advertised,
        })
    }
}

fn invalid(key: &str, value: &str, reason: String) -> ConfigError {
    ConfigError::InvalidValue {
        key: key.to_owned(),
        value: value.to_owned(),
        reason,
    }
}

fn names(list: &[String]) -> Vec<String> {
    list.iter().map(|name| name.to_uppercase()).collect()
}

/// Reads `name://host:port`; an IPv6 address stands in brackets.
fn parse(key: &str, list: &[String]) -> Result<Vec<Listener>, ConfigError> {
    list.iter()
        .map(|text| {
            let listener = parse_one(text).ok_or_else(|| {
                let form = "a listener is written name://host:port, such as \
                            PLAINTEXT://127.0.0.1:9092";
                invalid(key, text, form.to_owned())
            })?;
            listener.map_err(|OutOfRange| {
                invalid(key, text, "the port must be from 0 to 65535".to_owned())
            })
        })
        .collect()
}

/// The port is a number, and none of a port.
struct OutOfRange;

/// None where the text does not have the form of a listener.
fn parse_one(text: &str) -> Option<Result<Listener, OutOfRange>> {
    let (name, address) = text.split_once("://")?;
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None => host,
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-%._:".contains(c);
    (!name.is_empty() && host.chars().all(is_host)).then_some(())?;
    let digits = port.strip_prefix('-').unwrap_or(port);
    let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
    is_number.then_some(())?;
    let Ok(port) = port.parse() else {
        return Some(Err(OutOfRange));
    };
    Some(Ok(Listener {
        name: name.to_uppercase(),
        host: host.to_owned(),
        port,
    }))
}

/// Two listeners may share neither a name nor a port, as in Kafka.
fn check_apart(listeners: &[Listener]) -> Result<(), ConfigError> {
    for (index, listener) in listeners.iter().enumerate() {
        for other in &listeners[..index] {
            let shared = if other.name == listener.name {
                "name"
            } else if other.port == listener.port && listener.port != 0 {
                "port"
            } else {
                continue;
            };
            return Err(invalid(
                "listeners",
                &format!("{}://{}:{}", listener.name, listener.host, listener.port),
                format!("each listener must have a different {shared}"),
            ));
        }
    }
    Ok(())
}

fn protocols(map: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let key = "listener.security.protocol.map";
    let known = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
    map.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let (name, protocol) = entry
                .split_once(':')
                .ok_or_else(|| invalid(key, entry, "it is written name:protocol".to_owned()))?;
            let protocol = protocol.trim().to_uppercase();
            if !known.contains(&protocol.as_str()) {
                let reason = format!("the protocol must be one of {}", known.join(", "));
                return Err(invalid(key, entry, reason));
            }
            Ok((name.trim().to_uppercase(), protocol))
        })
        .collect()
}

fn check_protocol(
    listener: &Listener,
    protocols: &BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    let Listener { name, host, port } = listener;
    let value = format!("{name}://{host}:{port}");
    match protocols.get(name).map(String::as_str) {
        Some("PLAINTEXT") => Ok(()),
        Some(protocol) => Err(ConfigError::Unsupported {
            key: "listeners".to_owned(),
            value,
            reason: format!(
                "the listener asks for {protocol}, and only PLAINTEXT is served so far; it is not \
                 opened without the protection that it asks for"
            ),
        }),
        None => Err(invalid(
            "listeners",
            &value,
            "listener.security.protocol.map names no security protocol for it".to_owned(),
        )),
    }
}

/// `is_own`: whether they were given as such, and are not the listeners themselves.
fn check_advertised(
    advertised: &[Listener],
    listeners: &[Listener],
    is_own: bool,
) -> Result<(), ConfigError> {
    let key = match is_own {
        true => "advertised.listeners",
        false => "listeners",
    };
    for Listener { name, host, port } in advertised {
        let value = format!("{name}://{host}:{port}");
        if !listeners.iter().any(|listener| listener.name == *name) {
            let reason = "listeners has no listener of this name".to_owned();
            return Err(invalid(key, &value, reason));
        }
        if matches!(host.as_str(), "0.0.0.0" | "::") {
            let told = "clients cannot connect to an address that stands for every interface";
            let what = match is_own {
                true => "give",
                false => "set advertised.listeners to",
            };
            let reason =
                format!("{told}; {what} the name or address under which they reach this machine");
            return Err(invalid(key, &value, reason));
        }
    }
    Ok(())
}

/// The listener between brokers, told by its name or its protocol, must be one that is advertised.
fn check_inter_broker(read: &Read<'_>, advertised: &[Listener]) -> Result<(), ConfigError> {
    let named = read.optional_text("inter.broker.listener.name")?;
    let protocol = read.text("security.inter.broker.protocol")?;
    let Some(name) = named else {
        if protocol == "PLAINTEXT" {
            return Ok(());
        }
        return Err(ConfigError::Unsupported {
            key: "security.inter.broker.protocol".to_owned(),
            value: protocol,
            reason: "only PLAINTEXT is served so far".to_owned(),
        });
    };
    let name = name.to_uppercase();
    if advertised.iter().any(|listener| listener.name == name) {
        return Ok(());
    }
    let reason = "advertised.listeners has no listener of this name".to_owned();
    Err(invalid("inter.broker.listener.name", &name, reason))
}
