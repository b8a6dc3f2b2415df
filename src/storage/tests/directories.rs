//! Two directories of one shard: the failure of one is not that of the other.

use super::*;
use crate::base::ids::Uuid;
use crate::storage::error::FileError;

#[test]
fn a_failed_write_takes_its_own_directory_out_of_service_and_no_other() {
    for only in [Call::Write, Call::Preallocate] {
        let (sound, broken) = (home(Faults::default()), home(Faults::default()));
        let (faulty, plan) = failing(&broken, Some(only), ".log", libc::EIO);
        let directories =
            LogDirectories::new(sound.directory.clone(), vec![faulty.clone()], true, true);
        let (path_a, path_b) = (sound.log.clone(), broken.log.clone());
        let end = on_shard(directories, limits(), async move |storage| {
            let (a, _) = open(&storage, &path_a, config(), None, false);
            let (b, _) = open(&storage, &path_b, config(), None, false);
            assert!(a.directory().is(storage.directory()) && b.directory().is(&faulty));
            fill(&a, 0, 20).await;
            let end = fill(&b, 0, 20).await;
            plan.fail_next();
            let refused = loop {
                let appended = append(&b, &batch(1, 1, 3000)).await;
                let durable = match appended {
                    Ok(_) => b.make_durable(b.end()).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = durable {
                    break error;
                }
            };
            assert!(matches!(refused, LogError::Failed(_)), "{refused:?}");
            let directories = storage.directories();
            assert!(directories.have_lost(b.directory()) && !directories.are_complete());
            assert_eq!(a.directory().failure(), None);
            assert!(b.durable() >= end);
            fill(&a, 20, 1000).await;
            assert!(a.segments() > 1, "it rolls");
            a.park().await.expect("a sound directory");
            assert!(b.park().await.is_err());
            b.durable()
        });
        on_shard(broken.directory.clone(), limits(), async move |storage| {
            let (b, _) = open(&storage, &broken.log, config(), None, false);
            assert!(b.end() >= end, "{} of {end}", b.end());
            read_all(&b, Offset(0), 5000).await;
        });
    }
}

#[test]
fn what_is_dispensable_and_what_has_partitions() {
    let directory = |name: &str, id| {
        LogDirectory::with_id(Some(Uuid(id)), name.into(), false, Faults::default())
    };
    let (metadata, one, two) = (directory("m", 1), directory("a", 2), directory("b", 3));
    let others = vec![one.clone(), two.clone()];
    for has_partitions in [true, false] {
        let all = LogDirectories::new(metadata.clone(), others.clone(), has_partitions, true);
        assert_eq!(all.to_string(), "m,a,b");
        assert!(all.are_complete() && !all.is_dispensable(&metadata));
        assert!(all.is_dispensable(&one) && !all.have_lost(&one));
        assert_eq!(all.number_of(&two), 2);
        let ids: &[u128] = if has_partitions { &[1, 2, 3] } else { &[2, 3] };
        let in_service: Vec<_> = all.ids_in_service().iter().map(|id| id.0).collect();
        assert_eq!(in_service, ids);
    }
    let all = LogDirectories::new(metadata, others.clone(), true, false);
    assert!(!all.are_complete(), "one is missing");
    let reason = std::io::Error::from_raw_os_error(libc::EIO);
    one.fail(&FileError::new("write", Path::new("a/t-0"), reason));
    assert!(all.have_lost(&one) && !all.have_lost(&two));
    assert_eq!(all.ids_in_service(), [Uuid(1), Uuid(3)]);
}
