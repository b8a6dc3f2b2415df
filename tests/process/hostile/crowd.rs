//! A part of the crowd: one process with many connections, each of its kind, and one thread for all
//! of them. Half of them mean harm, in equal parts, and the others are clients as there are many.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kacrab_protocol::generated::ApiKey;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::support::wire::request_frame;
use crate::support::{Random, batches, requests};

/// The topic with much in it, and the one that the crowd's own producers write to.
pub const LARGE: &str = "large";
pub const SHARED: &str = "shared";

/// Every connection has its turn this often.
const TURN: Duration = Duration::from_millis(250);
const SECOND: Duration = Duration::from_secs(1);
/// Long enough for the kernel to ask once more, where the broker's queue was full.
const CONNECTED_WITHIN: Duration = Duration::from_secs(3);
/// So many connections are begun in one go, and then the broker is given so long to accept some:
/// its queue has 50 places, and the others' first packets would be lost.
const BEGUN_IN_ONE_GO: u64 = 16;
const PAUSE: Duration = Duration::from_millis(5);
const NEVER: Duration = Duration::from_secs(1 << 20);
/// How often a quiet client says something.
const QUIET: Duration = Duration::from_secs(1);
/// What is announced, in turn: by requests with records, and the last by one without.
const ANNOUNCED: [(ApiKey, i32); 4] = [
    (ApiKey::Produce, 1 << 20),
    (ApiKey::Produce, 8 << 20),
    (ApiKey::Produce, 24 << 20),
    (ApiKey::Metadata, 60 << 10),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Asks for little, now and then.
    Quiet,
    /// Produces a record a second.
    Produces,
    /// Connects and says nothing.
    Silent,
    /// Announces a large request and sends its first part only.
    Announces,
    /// The same, and then a byte a second.
    Trickles,
    /// Asks and asks, and reads nothing.
    Deaf,
    /// Asks for much and reads a byte a second.
    ReadsSlowly,
    /// Connects and closes.
    Storms,
    /// Sends what is no request.
    Garbage,
}

impl Kind {
    const GOOD: [Self; 2] = [Self::Quiet, Self::Produces];
    const HOSTILE: [Self; 7] = [
        Self::Silent,
        Self::Announces,
        Self::Trickles,
        Self::Deaf,
        Self::ReadsSlowly,
        Self::Storms,
        Self::Garbage,
    ];

    pub fn all() -> impl Iterator<Item = Self> {
        Self::GOOD.into_iter().chain(Self::HOSTILE)
    }

    /// The kind of the connection of this number: every other one is hostile.
    fn of(number: usize) -> Self {
        let pair = number / 2;
        match number % 2 {
            1 => Self::HOSTILE[pair % Self::HOSTILE.len()],
            _ if pair.is_multiple_of(10) => Self::Produces,
            _ => Self::Quiet,
        }
    }

    pub fn is_hostile(self) -> bool {
        Self::HOSTILE.contains(&self)
    }
}

/// What became of the connections of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Members of the crowd.
    pub members: u64,
    /// Connections that were opened.
    pub opened: u64,
    /// Those that the broker has closed.
    pub evicted: u64,
    /// Good ones that it closed after they had said nothing for as long as they may: on a busy
    /// machine their process has no turn.
    pub lapsed: u64,
    /// Attempts to connect that failed.
    pub refused: u64,
    /// Turns in which an answer came.
    pub answered: u64,
    /// Requests of good clients without an answer when the next one was due.
    pub late: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.members += other.members;
        self.opened += other.opened;
        self.evicted += other.evicted;
        self.lapsed += other.lapsed;
        self.refused += other.refused;
        self.answered += other.answered;
        self.late += other.late;
    }

    /// The counts, in the order of the fields.
    pub fn counts(&self) -> [u64; 7] {
        let Self {
            members,
            opened,
            evicted,
            lapsed,
            refused,
            answered,
            late,
        } = *self;
        [members, opened, evicted, lapsed, refused, answered, late]
    }

    /// Reads what is written by [`Crowd`]'s `Display`, in one line: the kind and the tally.
    pub fn parse(line: &str) -> Option<(Kind, Self)> {
        let mut words = line.split(' ');
        let name = words.next()?;
        let kind = Kind::all().find(|kind| format!("{kind:?}") == name)?;
        let mut number = || words.next()?.parse().ok();
        Some((
            kind,
            Self {
                members: number()?,
                opened: number()?,
                evicted: number()?,
                lapsed: number()?,
                refused: number()?,
                answered: number()?,
                late: number()?,
            },
        ))
    }
}

struct Member {
    kind: Kind,
    number: usize,
    stream: Option<TcpStream>,
    /// When it gives up to connect; none once it has.
    connects_until: Option<Instant>,
    has_connected: bool,
    /// When it said something last, or connected.
    spoke: Instant,
    /// How often it has had its say on this connection.
    said: usize,
    is_waiting: bool,
    /// When it has its next say, or connects again.
    due: Instant,
}

/// The connections of one process.
pub struct Crowd {
    address: SocketAddr,
    members: Vec<Member>,
    tallies: BTreeMap<Kind, Tally>,
    /// `connections.max.idle.ms`.
    idle_max: Duration,
    begun: u64,
    random: Random,
    requests: Requests,
}

/// What is sent, encoded once.
struct Requests {
    little: BytesMut,
    much: BytesMut,
    produce: BytesMut,
}

impl Requests {
    fn new() -> Self {
        let encoded = |key: ApiKey, version, write: &dyn Fn(&mut BytesMut)| {
            let mut body = BytesMut::new();
            write(&mut body);
            request_frame(key as i16, version, 1, &body)
        };
        let fetch = requests::fetch(LARGE, 0, 0);
        let produce = requests::produce(SHARED, 0, 1, &batches::batch(&[b"value"]));
        Self {
            little: encoded(ApiKey::ApiVersions, 0, &|_| ()),
            much: encoded(ApiKey::Fetch, 12, &|body| {
                fetch.write(body, 12).expect("an encodable request");
            }),
            produce: encoded(ApiKey::Produce, 9, &|body| {
                produce.write(body, 9).expect("an encodable request");
            }),
        }
    }
}

impl Crowd {
    /// Those of all connections that have these numbers; none is open yet.
    pub fn new(address: SocketAddr, numbers: std::ops::Range<usize>, idle_max: Duration) -> Self {
        let now = Instant::now();
        let mut tallies = BTreeMap::<Kind, Tally>::new();
        let members: Vec<_> = numbers
            .clone()
            .map(|number| Member {
                kind: Kind::of(number),
                number,
                stream: None,
                connects_until: None,
                has_connected: false,
                spoke: now,
                said: 0,
                is_waiting: false,
                due: now,
            })
            .collect();
        for member in &members {
            tallies.entry(member.kind).or_default().members += 1;
        }
        Self {
            address,
            members,
            tallies,
            idle_max,
            begun: 0,
            random: Random::new(numbers.start as u64 + 1),
            requests: Requests::new(),
        }
    }

    /// Goes on until it is told that it is over, and says when everybody has connected once.
    pub fn run(&mut self, is_over: impl Fn() -> bool, ready: impl FnOnce()) {
        let mut ready = Some(ready);
        while !is_over() {
            let began = Instant::now();
            self.look();
            self.take_turns();
            if self.members.iter().all(|member| member.has_connected)
                && let Some(ready) = ready.take()
            {
                ready();
            }
            std::thread::sleep(TURN.saturating_sub(began.elapsed()));
        }
    }

    /// Takes note of connections that the broker has closed, and of answers.
    fn look(&mut self) {
        let flags = PollFlags::POLLIN | PollFlags::from_bits_retain(libc::POLLRDHUP);
        let open = self
            .members
            .iter()
            .filter_map(|member| member.stream.as_ref());
        let mut polled: Vec<_> = open.map(|open| PollFd::new(open.as_fd(), flags)).collect();
        poll(&mut polled, PollTimeout::ZERO).expect("connections to look at");
        // Where the peer has shut down there is a flag that the library does not name.
        let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
        let seen: Vec<_> = polled
            .iter()
            .map(|one| {
                let events = one.revents();
                let is_gone = events.is_none_or(|events| events.intersects(gone));
                (is_gone, one.any() == Some(true))
            })
            .collect();
        drop(polled);
        let now = Instant::now();
        let open = self.members.iter_mut().filter(|m| m.stream.is_some());
        for (member, (is_gone, has_answer)) in open.zip(seen) {
            let tally = self.tallies.entry(member.kind).or_default();
            if is_gone {
                member.note_end(tally, now, self.idle_max);
            } else if has_answer && !member.kind.is_hostile() {
                let mut answer = [0; 4096];
                let stream = member.stream.as_mut().expect("an open connection");
                let _bytes = stream.read(&mut answer);
                member.is_waiting = false;
                tally.answered += 1;
            }
        }
    }

    fn take_turns(&mut self) {
        for at in 0..self.members.len() {
            let now = Instant::now();
            let member = &mut self.members[at];
            if member.due > now {
                continue;
            }
            if !self.is_connected(at, now) {
                continue;
            }
            self.say(at, now);
        }
    }

    /// Connects, if need be, without waiting for it: who cannot connect keeps nobody from its turn.
    fn is_connected(&mut self, at: usize, now: Instant) -> bool {
        let member = &mut self.members[at];
        let tally = self.tallies.entry(member.kind).or_default();
        if member.kind == Kind::Storms && member.connects_until.is_none() {
            member.hang_up();
        }
        if member.stream.is_none() {
            self.begun += 1;
            if self.begun.is_multiple_of(BEGUN_IN_ONE_GO) {
                std::thread::sleep(PAUSE);
            }
            match begin(self.address) {
                Ok(stream) => member.stream = Some(stream),
                Err(_) => {
                    member.note_refusal(tally, now);
                    return false;
                }
            }
            member.connects_until = Some(now + CONNECTED_WITHIN);
        }
        let Some(until) = member.connects_until else {
            return true;
        };
        let stream = member.stream.as_ref().expect("a socket");
        if stream.peer_addr().is_err() {
            if now >= until {
                member.note_refusal(tally, now);
            }
            return false;
        }
        tally.opened += 1;
        (member.connects_until, member.has_connected) = (None, true);
        (member.said, member.is_waiting, member.spoke) = (0, false, now);
        true
    }

    fn say(&mut self, at: usize, now: Instant) {
        let made = match self.members[at].kind {
            Kind::Garbage => self.garbage(at),
            Kind::Announces | Kind::Trickles => announcement(self.members[at].number),
            _ => Vec::new(),
        };
        let member = &mut self.members[at];
        let tally = self.tallies.entry(member.kind).or_default();
        let is_first = member.said == 0;
        let (bytes, pause): (&[u8], _) = match member.kind {
            Kind::Quiet => (&self.requests.little[..], QUIET),
            Kind::Produces => (&self.requests.produce[..], SECOND),
            Kind::Silent => (&[], NEVER),
            Kind::Announces | Kind::Garbage => (&made[..], NEVER),
            Kind::Trickles if is_first => (&made[..], SECOND),
            Kind::Trickles => (b"x", SECOND),
            Kind::Deaf => (&self.requests.much[..], TURN),
            // It asks again, too: the kernel's answer tells it whether it was closed.
            Kind::ReadsSlowly if member.said.is_multiple_of(4) => (&self.requests.much[..], SECOND),
            Kind::ReadsSlowly => (&[], SECOND),
            Kind::Storms => (&[], TURN),
        };
        if !member.kind.is_hostile() {
            tally.late += u64::from(member.is_waiting);
            member.is_waiting = true;
        }
        let stream = member.stream.as_mut().expect("an open connection");
        let was_sent = bytes.is_empty() || !is_broken(stream.write(bytes));
        let was_read = member.kind != Kind::ReadsSlowly || !is_broken(stream.read(&mut [0]));
        member.said += 1;
        member.due = now + pause;
        if !was_sent || !was_read {
            member.note_end(tally, now, self.idle_max);
        }
        member.spoke = now;
    }

    /// A negative length, one that is too large, another protocol, noise, and a request of which
    /// the body is noise.
    fn garbage(&mut self, at: usize) -> Vec<u8> {
        let noise = self.random.bytes(1000);
        match at / 2 / Kind::HOSTILE.len() % 5 {
            0 => vec![0xff; 8],
            1 => [0x7f, 0xff, 0xff, 0xff, 0, 0].to_vec(),
            2 => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            3 => noise,
            _ => request_frame(ApiKey::Metadata as i16, 12, 1, &noise).to_vec(),
        }
    }
}

/// Begins to connect.
fn begin(address: SocketAddr) -> std::io::Result<TcpStream> {
    let kind = socket2::Type::STREAM.nonblocking().cloexec();
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), kind, None)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

impl Member {
    /// The broker has closed its connection, or never accepted it.
    fn note_end(&mut self, tally: &mut Tally, now: Instant, idle_max: Duration) {
        if self.connects_until.is_some() {
            return self.note_refusal(tally, now);
        }
        let was_silent = now.saturating_duration_since(self.spoke) >= idle_max;
        if was_silent && !self.kind.is_hostile() {
            tally.lapsed += 1;
        } else {
            tally.evicted += 1;
        }
        self.stream = None;
        self.due = now + SECOND;
    }

    fn note_refusal(&mut self, tally: &mut Tally, now: Instant) {
        tally.refused += 1;
        (self.stream, self.connects_until) = (None, None);
        self.due = now + SECOND;
    }

    /// Closes so that the address can be used again at once.
    fn hang_up(&mut self) {
        if let Some(stream) = self.stream.take() {
            let socket = socket2::SockRef::from(&stream);
            let _gone = socket.set_linger(Some(Duration::ZERO));
        }
    }
}

/// The start of a request of which the rest does not come.
fn announcement(number: usize) -> Vec<u8> {
    let turn = number / 2 / Kind::HOSTILE.len();
    let (key, length) = ANNOUNCED[turn % ANNOUNCED.len()];
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend((key as i16).to_be_bytes());
    bytes.resize(200, b'x');
    bytes
}

/// Whether the connection has ended; that nothing goes, or comes, is no end.
fn is_broken(moved: std::io::Result<usize>) -> bool {
    match moved {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

impl fmt::Display for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, tally) in &self.tallies {
            write!(f, "{kind:?}")?;
            for count in tally.counts() {
                write!(f, " {count}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
