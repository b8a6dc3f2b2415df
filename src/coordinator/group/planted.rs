//! Bugs that tests plant, to see that the simulation of groups finds them. Pure; nothing but a test
//! can plant one: in any other build there is none.

/// A bug that a test can plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A commit is accepted whatever generation it is of.
    CommitOfAnyGeneration,
    /// A commit is acknowledged before its records are in the log.
    CommitAcknowledgedAtOnce,
    /// A sync is answered whatever generation it is of.
    SyncOfAnyGeneration,
    /// Members learn their assignments before these are in the log.
    AssignedAtOnce,
    /// The assignments of any member are taken, not only the leader's.
    AnyoneAssigns,
    /// After a load nobody waits for the members' signs of life.
    SessionsForgottenByLoad,
    /// Nobody waits for members that do not sync.
    SyncsAwaitedForEver,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug into all machines of this thread, or removes it.
#[cfg(test)]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether the bug is there.
#[cfg(test)]
pub fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether the bug is there.
#[cfg(not(test))]
pub const fn is(_bug: Bug) -> bool {
    false
}
