//! Tests of the codec over every message and version. Pure; no I/O.

use bytes::Bytes;

use crate::protocol::messages::{self, every_message};
use crate::protocol::wire::Message;

fn default_round_trips<M: Message + PartialEq + std::fmt::Debug>() {
    for version in M::VERSIONS {
        let name = format!("{} version {version}", M::NAME);
        let written = M::default().to_bytes(version).expect(&name);
        assert!(written.len() >= M::BYTES_MIN, "{name}");
        let read = M::from_bytes(written.clone(), version).expect(&name);
        assert_eq!(read.to_bytes(version).as_ref(), Ok(&written), "{name}");
        for length in 0..written.len() {
            let cut = written.slice(..length);
            assert!(
                M::from_bytes(cut, version).is_err(),
                "{name}, cut at {length}"
            );
        }
    }
    let after = M::VERSIONS.end() + 1;
    assert!(M::default().to_bytes(after).is_err());
    assert!(M::from_bytes(Bytes::from_static(&[0; 64]), after).is_err());
}

#[test]
fn defaults_round_trip_and_no_part_of_them_is_a_message() {
    macro_rules! check {
        ($($module:ident :: $message:ident,)*) => {
            $(default_round_trips::<messages::$module::$message>();)*
        };
    }
    every_message!(check);
}
