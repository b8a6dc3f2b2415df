//! Which protocols a member may bring, and which one a generation gets. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bytestring::ByteString;

use super::command::Protocol;
use super::member::Members;

/// What wins a tie, best first. Kafka counts votes in a hash map, whose order decides there: this
/// is its order for the assignors that Kafka has. Any other name comes behind them, by its bytes.
const TIE_ORDER: [&str; 4] = ["sticky", "range", "roundrobin", "cooperative-sticky"];

/// Drops all but the first protocol of each name. Counting a member twice would leave no protocol
/// that all members list, and a rebalance that cannot end.
pub fn without_duplicates(protocols: &mut Vec<Protocol>) {
    let mut kept: Vec<Protocol> = Vec::with_capacity(protocols.len());
    let mut names = ahash::AHashSet::with_capacity(protocols.len());
    for protocol in protocols.drain(..) {
        if names.insert(protocol.name.clone()) {
            kept.push(protocol);
        }
    }
    *protocols = kept;
}

/// Whether one of `protocols` is listed by all members.
pub fn has_common(members: &Members, protocols: &[Protocol]) -> bool {
    let mut all = protocols.iter();
    all.any(|protocol| members.all_support(&protocol.name))
}

/// The protocol that most members prefer among those that all list. None without members, or
/// without a protocol in common, which joining rules out.
pub fn elect(members: &Members) -> Option<ByteString> {
    let mut votes: BTreeMap<&ByteString, usize> = BTreeMap::new();
    for member in members.iter() {
        let mut names = member.protocols().iter().map(|protocol| &protocol.name);
        let preferred = names.find(|name| members.all_support(name))?;
        *votes.entry(preferred).or_default() += 1;
    }
    let place = |name: &str| TIE_ORDER.iter().position(|known| *known == name);
    let best = votes.into_iter().min_by_key(|(name, count)| {
        (
            Reverse(*count),
            place(name).unwrap_or(TIE_ORDER.len()),
            *name,
        )
    });
    best.map(|(name, _)| name.clone())
}
