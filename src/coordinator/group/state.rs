//! The states of a classic group. Pure.

/// Where a group is in its life. A group that is being unloaded, Kafka's `Dead`, is gone at once
/// here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupState {
    /// It has no members.
    #[default]
    Empty,
    /// It waits for members to join the next generation.
    PreparingRebalance,
    /// It waits for the leader to assign.
    CompletingRebalance,
    /// Its members know what they are assigned.
    Stable,
}

impl GroupState {
    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}
