//! What operators are told of groups: the events that answer "why does my group rebalance". Pure;
//! who runs the machine writes the lines.

use std::fmt;

use bytestring::ByteString;

/// Something that happened to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEvent {
    /// The group.
    pub group: ByteString,
    /// Its generation at that moment.
    pub generation: i32,
    /// What happened.
    pub what: What,
}

/// What happened to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It waits for all members to join again.
    Rebalances {
        /// What the coordinator goes by.
        why: Why,
        /// What the client said whose join it is (KIP-800).
        client: Option<ByteString>,
    },
    /// All have joined, and the leader is to assign.
    Joined {
        /// How many members there are.
        members: usize,
    },
    /// The members have their assignments.
    Stable {
        /// How many members there are.
        members: usize,
    },
    /// It has no members any more.
    Empty,
    /// A member said that it leaves.
    Left {
        /// Its id.
        member: ByteString,
        /// What it said, or who took it out (KIP-800).
        client: Option<ByteString>,
    },
    /// A member was silent for its session timeout.
    Expired(ByteString),
    /// A member did not join again in time.
    NotRejoined(ByteString),
    /// A member did not ask for its assignment in time.
    NotSynced(ByteString),
    /// A static member came back and has a new id.
    Replaced {
        /// The id that it had.
        old: ByteString,
        /// The id that it has.
        new: ByteString,
    },
}

/// Why a group rebalances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A client joins that was no member.
    NewMember,
    /// A member joins again: the leader, or one that brings something else than before.
    MemberRejoins,
    /// A static member came back, and the group cannot go on as it was.
    StaticMemberBack,
    /// Members are gone.
    MembersGone,
    /// Members did not ask for their assignments.
    NotSynced,
    /// The assignments could not be written to the log.
    NotWritten,
    /// There are more members than `group.max.size`.
    TooLarge,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NewMember => "a new member joins",
            Self::MemberRejoins => "a member joins again",
            Self::StaticMemberBack => "a static member is back",
            Self::MembersGone => "members are gone",
            Self::NotSynced => "members did not sync",
            Self::NotWritten => "the assignments could not be written",
            Self::TooLarge => "there are more members than group.max.size",
        })
    }
}
