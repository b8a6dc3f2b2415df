//! Order, giving up and closing.

use futures_lite::future::{block_on, poll_once};
use std::pin::pin;

use super::*;

#[test]
fn permits_go_in_order_and_come_back() {
    block_on(async {
        let semaphore = Semaphore::new(2);
        let first = semaphore.acquire_permit(1).await.expect("open");
        let mut large = pin!(semaphore.acquire_permit(2));
        assert!(poll_once(&mut large).await.is_none());
        let mut small = Box::pin(semaphore.acquire_permit(1));
        assert!(
            poll_once(&mut small).await.is_none(),
            "a large one is not passed"
        );
        drop(first);
        let large = poll_once(&mut large)
            .await
            .expect("all are free")
            .expect("open");
        assert!(poll_once(&mut small).await.is_none());
        drop(large);
        drop(small);
        let both = poll_once(pin!(semaphore.acquire_permit(2))).await;
        assert!(
            both.is_some(),
            "who was let in and never looked gives them back"
        );
    });
}

#[test]
fn who_gives_up_holds_nobody_back() {
    block_on(async {
        let semaphore = Semaphore::new(1);
        let first = semaphore.acquire_permit(1).await.expect("open");
        let mut gone = Box::pin(semaphore.acquire_permit(5));
        let mut next = pin!(semaphore.acquire_permit(1));
        assert!(poll_once(&mut gone).await.is_none());
        assert!(poll_once(&mut next).await.is_none());
        drop(first);
        assert!(poll_once(&mut next).await.is_none());
        drop(gone);
        assert!(poll_once(&mut next).await.is_some());
    });
}

#[test]
fn a_closed_one_refuses_all() {
    block_on(async {
        let semaphore = Semaphore::new(1);
        let held = semaphore.acquire_permit(1).await.expect("open");
        let mut waits = pin!(semaphore.acquire_permit(1));
        assert!(poll_once(&mut waits).await.is_none());
        semaphore.close();
        assert_eq!(waits.await.err(), Some(Closed));
        drop(held);
        assert_eq!(semaphore.acquire_permit(1).await.err(), Some(Closed));
    });
}
