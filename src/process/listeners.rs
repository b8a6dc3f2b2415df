//! The ports: checked and kept before the shards open them. The main thread holds the
//! reservations as long as the process runs; it never accepts a connection.
//!
//! Every shard opens the same port with SO_REUSEPORT, and so could a second broker without an
//! error: the two would share the clients. So the port is first probed without SO_REUSEPORT, which
//! fails while anybody listens, and a lock of the address and port keeps out another Millrace that
//! starts and does not listen yet. A lock of every address of a port overlaps with each single one.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::base::ids::ShardId;
use crate::config::{AdvertisedListener, Listener};
use crate::shard::advertised::AdvertisedShards;

/// How long the port of a broker that was killed may stay taken.
const FREED_WITHIN: Duration = Duration::from_secs(2);

/// How often a port is sought behind which others are free.
const FREE_RANGE_ATTEMPTS: usize = 16;

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody listens there.
    #[error(
        "the port {port} of {address} is taken: stop the process that has it (ss -ltnp shows it), \
         or set another port in listeners, such as --override listeners={}",
        elsewhere(*address, *port)
    )]
    Taken {
        /// The address.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// Another Millrace has it and may not listen yet, or another listener of this one.
    #[error(
        "another Millrace has the port {port} of {address}, or another listener does: stop the one \
         or set another port in listeners, such as --override listeners={}",
        elsewhere(*address, *port)
    )]
    Locked {
        /// The address that it has.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// With millrace.advertise.shards each shard has a port, and there are not so many.
    #[error(
        "the listener {name} needs a port for each shard, the first being {first}, and there is \
         none above 65535: set a lower one in listeners and advertised.listeners"
    )]
    NoPorts {
        /// The listener's name.
        name: String,
        /// The port of the first shard.
        first: u16,
    },
    /// The host of a listener has no address.
    #[error("the host {host} of the listener {name} cannot be resolved: {error}")]
    Unresolved {
        /// The listener's name.
        name: String,
        /// Its host.
        host: String,
        /// What the system says.
        error: io::Error,
    },
    /// The system refuses the address or the port.
    #[error("the listener {name} cannot be opened on {address}: {error}{advice}")]
    Refused {
        /// The listener's name.
        name: String,
        /// Where.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
        /// What to do.
        advice: &'static str,
    },
}

/// The same listener on another port, as `listeners` has it. The wildcards are written without a
/// host: clients cannot be told to connect to them.
fn elsewhere(address: IpAddr, port: u16) -> String {
    let other = if port == 9393 { 9394 } else { 9393 };
    match address.is_unspecified() {
        true => format!("PLAINTEXT://:{other}"),
        false => format!("PLAINTEXT://{}", SocketAddr::new(address, other)),
    }
}

/// A port that is kept for the shards.
#[derive(Debug)]
pub struct ReservedListener {
    /// The listener's name.
    pub name: String,
    /// The shard that opens it, where each is advertised by itself; otherwise 0, and all do.
    pub shard: ShardId,
    /// Where it is opened, with SO_REUSEPORT; the port is never 0.
    pub address: SocketAddr,
    /// Bound and never listening, so that nobody else gets the port; takes no connection.
    _reservation: Socket,
    /// Gone with the process.
    _lock: UnixListener,
}

/// Checks and keeps the ports of all listeners: of each one a port for every shard that is
/// advertised, the first first.
pub(super) fn reserve(
    listeners: &[Listener],
    advertised: AdvertisedShards,
) -> Result<Vec<ReservedListener>, ListenError> {
    let reserve = |listener| reserve_ports(listener, advertised);
    let ports: Vec<_> = listeners.iter().map(reserve).collect::<Result<_, _>>()?;
    Ok(ports.into_iter().flatten().collect())
}

fn reserve_ports(
    listener: &Listener,
    advertised: AdvertisedShards,
) -> Result<Vec<ReservedListener>, ListenError> {
    let mut attempts = if listener.port == 0 {
        FREE_RANGE_ATTEMPTS
    } else {
        1
    };
    loop {
        attempts -= 1;
        let mut reserved: Vec<ReservedListener> = Vec::new();
        let all = advertised.iter().try_for_each(|shard| {
            let first = reserved.first().map(|first| first.address.port());
            let first = first.unwrap_or(listener.port);
            let port = advertised.port(first, shard);
            let port = port.ok_or_else(|| ListenError::NoPorts {
                name: listener.name.clone(),
                first,
            })?;
            reserved.push(reserve_one(
                &Listener {
                    port,
                    ..listener.clone()
                },
                shard,
            )?);
            Ok(())
        });
        match all {
            Ok(()) => return Ok(reserved),
            // What follows a free port need not be free.
            Err(_) if attempts > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

fn reserve_one(listener: &Listener, shard: ShardId) -> Result<ReservedListener, ListenError> {
    let wanted = resolve(listener)?;
    let refused = |error: io::Error| refusal(&listener.name, wanted, error);
    if wanted.port() != 0 {
        probe(wanted).map_err(refused)?;
    }
    let reservation = socket(wanted, true).map_err(refused)?;
    let bound = reservation.local_addr().map_err(refused)?;
    let port = bound
        .as_socket()
        .map_or(wanted.port(), |bound| bound.port());
    let address = SocketAddr::new(wanted.ip(), port);
    let lock = lock(address, &listener.name)?;
    Ok(ReservedListener {
        name: listener.name.clone(),
        shard,
        address,
        _reservation: reservation,
        _lock: lock,
    })
}

/// Whether nobody listens there. The kernel takes the rings of a killed process down only after it
/// has told its parent of the end, and until then they hold the port: who restarts a broker at once
/// must not be told that it still runs.
fn probe(address: SocketAddr) -> io::Result<()> {
    let began = Instant::now();
    loop {
        match socket(address, false) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && began.elapsed() < FREED_WITHIN =>
            {
                thread::sleep(FREED_WITHIN / 100);
            }
            probed => return probed.map(drop),
        }
    }
}

/// The address that a listener opens. Without a host it is every interface, of IPv6 with IPv4
/// inside where the machine has IPv6.
fn resolve(listener: &Listener) -> Result<SocketAddr, ListenError> {
    let Listener { name, host, port } = listener;
    if host.is_empty() {
        let every = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), *port);
        let has_ipv6 = Socket::new(Domain::IPV6, Type::STREAM, None).is_ok();
        let ipv4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), *port);
        return Ok(if has_ipv6 { every } else { ipv4 });
    }
    let unresolved = |error| ListenError::Unresolved {
        name: name.clone(),
        host: host.clone(),
        error,
    };
    let found: Vec<_> = (host.as_str(), *port)
        .to_socket_addrs()
        .map_err(unresolved)?
        .collect();
    // As Java does, IPv4 first.
    let ipv4 = found.iter().find(|address| address.is_ipv4());
    let first = ipv4.or_else(|| found.first()).copied();
    first.ok_or_else(|| unresolved(io::ErrorKind::NotFound.into()))
}

/// Binds the address; with `shared` as the shards will.
fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

/// Starts the name of each lock; an address with its port follows.
const LOCK_PREFIX: &str = "millrace/tcp/";

/// A name that only one process can hold, and that the kernel takes back when it ends. Like ports,
/// such names belong to a network namespace.
///
/// The own lock comes first and the look at the others after it: of two that overlap and start
/// together both may be refused, but never none.
fn lock(address: SocketAddr, name: &str) -> Result<UnixListener, ListenError> {
    let refused = |error: io::Error| refusal(name, address, error);
    let lock = UnixAddr::from_abstract_name(format!("{LOCK_PREFIX}{address}"));
    let lock = lock.and_then(|lock| UnixListener::bind_addr(&lock));
    let lock = lock.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::Locked {
            address: address.ip(),
            port: address.port(),
        },
        _ => refused(error),
    })?;
    let held = fs::read_to_string("/proc/net/unix").map_err(refused)?;
    match overlapping(&held, address) {
        None => Ok(lock),
        Some(other) => Err(ListenError::Locked {
            address: other.ip(),
            port: other.port(),
        }),
    }
}

/// A lock in `/proc/net/unix` that overlaps with that of `address` and is not the same.
pub(super) fn overlapping(held: &str, address: SocketAddr) -> Option<SocketAddr> {
    let locks = held.lines().filter_map(|line| {
        let name = line.split_whitespace().last()?.strip_prefix('@')?;
        name.strip_prefix(LOCK_PREFIX)?.parse::<SocketAddr>().ok()
    });
    // The IPv6 wildcard serves IPv4 as well; that of IPv4 serves nothing else.
    let covers =
        |wide: IpAddr, other: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || other.is_ipv4());
    let mut others = locks.filter(|other| *other != address && other.port() == address.port());
    others.find(|other| covers(other.ip(), address.ip()) || covers(address.ip(), other.ip()))
}

fn refusal(name: &str, address: SocketAddr, error: io::Error) -> ListenError {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            return ListenError::Taken {
                address: address.ip(),
                port: address.port(),
            };
        }
        io::ErrorKind::AddrNotAvailable => {
            ": no interface of this machine has the address; set another host in listeners, or \
             none for every interface"
        }
        io::ErrorKind::PermissionDenied => {
            ": ports below 1024 are for privileged users; set another port in listeners, or give \
             the process CAP_NET_BIND_SERVICE"
        }
        _ => "",
    };
    ListenError::Refused {
        name: name.to_owned(),
        address,
        error,
        advice,
    }
}

/// The addresses that clients are told, with this machine's name and the ports filled in.
pub(super) fn advertise(
    advertised: &[AdvertisedListener],
    reserved: &[ReservedListener],
    shards: AdvertisedShards,
) -> Result<Vec<AdvertisedListener>, ListenError> {
    let of = |listener: &AdvertisedListener| {
        let mut listener = listener.clone();
        if listener.host.is_empty() {
            listener.host = machine_name();
        }
        let bound = reserved.iter().find(|bound| bound.name == listener.name);
        if let (0, Some(bound)) = (listener.port, bound) {
            listener.port = bound.address.port();
        }
        let has_port = |shard| shards.port(listener.port, shard).is_some();
        if shards.iter().all(has_port) {
            return Ok(listener);
        }
        Err(ListenError::NoPorts {
            name: listener.name,
            first: listener.port,
        })
    };
    advertised.iter().map(of).collect()
}

/// The machine's name, if at least the machine itself can resolve it.
fn machine_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if !name.is_empty() && (name, 0).to_socket_addrs().is_ok() {
        return name.to_owned();
    }
    tracing::warn!(
        "the machine's name '{name}' cannot be resolved, so clients are told to connect to \
         localhost: set advertised.listeners"
    );
    "localhost".to_owned()
}
