//! Revives an executor that sleeps although tasks are ready.
//!
//! glommio-ng 0.12 can park with runnable tasks when the operating system takes its thread away for
//! longer than the preemption timer between arming that timer and running the first task: only the
//! next completion wakes it. So each shard keeps one timer: short while it has work, so that such a
//! sleep ends soon, and long while it is idle, when there is nothing to sleep through. To be
//! removed with the bug.

use std::time::Duration;

use glommio::timer::Timer;

/// While the shard has work: about a hundredth of a core at most.
const BUSY: Duration = Duration::from_millis(10);
/// While it has none: four wakes a second.
const IDLE: Duration = Duration::from_millis(250);
/// Tasks that run in an interval in which nothing but this timer happens.
const OWN_TASKS_MAX: u64 = 4;

/// Beats until it is dropped.
pub(super) async fn beat() {
    loop {
        // Each look at the statistics empties them: the count is that of the last interval.
        let executed = glommio::executor().executor_stats().tasks_executed();
        let busy = executed > OWN_TASKS_MAX;
        Timer::new(if busy { BUSY } else { IDLE }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glommio::{LocalExecutorBuilder, Placement};

    #[test]
    fn it_beats_on_when_work_ends() {
        let run = LocalExecutorBuilder::new(Placement::Unbound).spawn(|| async {
            let heart = glommio::spawn_local(beat());
            for _ in 0..100 {
                glommio::spawn_local(async {}).await;
            }
            Timer::new(BUSY * 3 + IDLE * 2).await;
            assert!(heart.cancel().await.is_none(), "it never ends by itself");
        });
        run.expect("an executor").join().expect("no panic");
    }
}
