//! Connections between consumers and the broker: in order within one, in any order across them.
//!
//! What was sent over a connection that breaks may still reach the broker, its answer never reaches
//! the consumer. Copies of requests arrive by themselves, up to [`COPY_MS_MAX`] late.

use ahash::AHashMap;
use bytestring::ByteString;

use super::super::super::command::Command;
use super::random::Random;

/// How late the copy of a request may arrive.
pub const COPY_MS_MAX: u64 = 30_000;
/// How long a request or an answer takes where nothing is wrong.
const DELAY_MS_MAX: u64 = 12;
/// How long a stalled connection stalls at most.
const STALL_MS_MAX: u64 = 25_000;

/// A request on its way.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The connection; none for a copy.
    pub connection: Option<usize>,
    /// Which broker's process it was sent to.
    pub boot: u64,
    pub consumer: usize,
    /// Tells requests apart; later ones have higher numbers, copies that of the request.
    pub number: u64,
    /// When it reached the broker.
    pub arrived_at: u64,
    pub command: Box<Command>,
}

#[derive(Debug)]
struct Connection {
    boot: u64,
    /// Whether answers get through.
    is_open: bool,
    /// What arrives later than this is lost.
    cut_at: u64,
    /// When the last request, and the last answer, arrive.
    arrives_at: u64,
    answers_at: u64,
}

#[derive(Debug, Default)]
pub struct Network {
    connections: Vec<Connection>,
    /// The last commit of each member and generation that reached the broker.
    newest_commits: AHashMap<(ByteString, i32), u64>,
}

impl Network {
    pub fn connect(&mut self, boot: u64) -> usize {
        self.connections.push(Connection {
            boot,
            is_open: true,
            cut_at: u64::MAX,
            arrives_at: 0,
            answers_at: 0,
        });
        self.connections.len() - 1
    }

    pub fn is_open(&self, connection: usize) -> bool {
        self.connections[connection].is_open
    }

    pub fn boot(&self, connection: usize) -> u64 {
        self.connections[connection].boot
    }

    /// Ends a connection; what arrives at the broker by `cut_at` is carried out all the same.
    pub fn cut(&mut self, connection: usize, cut_at: u64) {
        let connection = &mut self.connections[connection];
        connection.is_open = false;
        connection.cut_at = connection.cut_at.min(cut_at);
    }

    /// The connections that are open.
    pub fn open(&self) -> Vec<usize> {
        let all = self.connections.iter().enumerate();
        let open = all.filter(|(_, it)| it.is_open);
        open.map(|(n, _)| n).collect()
    }

    /// When a request that is sent now arrives. `stalls` is how often in a million that takes long.
    pub fn arrival(&mut self, n: usize, now_ms: u64, stalls: u64, random: &mut Random) -> u64 {
        let connection = &mut self.connections[n];
        let at = now_ms + delay(stalls, random);
        connection.arrives_at = connection.arrives_at.max(at);
        connection.arrives_at
    }

    /// The same for an answer.
    pub fn answer(&mut self, n: usize, now_ms: u64, stalls: u64, random: &mut Random) -> u64 {
        let connection = &mut self.connections[n];
        let at = now_ms + delay(stalls, random);
        connection.answers_at = connection.answers_at.max(at);
        connection.answers_at
    }

    /// Whether a request that arrives now gets to the broker.
    ///
    /// Nothing tells an old commit from a new one of the same member and generation: one that was
    /// overtaken is taken for lost here. All others are the coordinator's to refuse.
    pub fn lets_through(&mut self, sent: &Sent, boot: u64, now_ms: u64) -> bool {
        let is_cut = |n: usize| now_ms > self.connections[n].cut_at;
        let is_bound = sent.connection.is_some() || matches!(*sent.command, Command::Sync(_));
        if (is_bound && sent.boot != boot) || sent.connection.is_some_and(is_cut) {
            return false;
        }
        let Command::Commit(commit) = &*sent.command else {
            return true;
        };
        let of = (commit.member_id.clone(), commit.generation);
        let newest = self.newest_commits.entry(of).or_default();
        let is_newest = *newest <= sent.number;
        *newest = sent.number.max(*newest);
        is_newest
    }
}

fn delay(stalls: u64, random: &mut Random) -> u64 {
    let usual = random.between(1, DELAY_MS_MAX);
    match random.in_a_million(stalls) {
        true => usual + random.below(STALL_MS_MAX),
        false => usual,
    }
}
