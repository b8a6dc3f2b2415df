//! How the kernel shares a core between a shard's executor and its threads for blocking calls.
//!
//! Both may stand on one core. A blocking thread that is woken must not take the core from the
//! executor for a whole slice, and the executor must get it back as soon as it has something to do:
//! `kernel-notes/cold-reads.md`. Neither setting needs a privilege.

#![allow(unsafe_code)]

use std::io;
use std::mem;

/// The kernel's shortest slice for an ordinary thread, in nanoseconds. Kernels before 6.12 take no
/// slice, and ignore it.
const SHORTEST_SLICE_NS: u64 = 100_000;

/// Lets this thread, and those that it makes, run when nothing else wants the core: they preempt no
/// one when they wake.
pub fn give_way() -> io::Result<()> {
    set(libc::SCHED_BATCH, 0)
}

/// Makes this thread an ordinary one again, with short slices: when it wakes it preempts those with
/// longer ones.
pub fn run_promptly() -> io::Result<()> {
    set(libc::SCHED_OTHER, SHORTEST_SLICE_NS)
}

fn set(policy: libc::c_int, slice_ns: u64) -> io::Result<()> {
    // SAFETY: the call takes no pointer. It asks for this thread's niceness, which is to stay.
    let niceness = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    // SAFETY: the structure is plain numbers, for which zeros are valid.
    let mut attributes: libc::sched_attr = unsafe { mem::zeroed() };
    attributes.size = mem::size_of::<libc::sched_attr>() as u32;
    attributes.sched_policy = policy as u32;
    attributes.sched_nice = niceness;
    attributes.sched_runtime = slice_ns;
    // SAFETY: the structure states its size, lives across the call and is only read.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> i32 {
        // SAFETY: the call takes no pointer.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn a_thread_hands_its_manners_down_and_may_take_them_back() {
        let run = || {
            give_way().expect("no privilege is needed");
            assert_eq!(policy(), libc::SCHED_BATCH);
            let child = std::thread::spawn(policy).join().expect("a policy");
            run_promptly().expect("no privilege is needed");
            (child, policy())
        };
        let policies = std::thread::spawn(run).join().expect("policies");
        assert_eq!(policies, (libc::SCHED_BATCH, libc::SCHED_OTHER));
    }
}
