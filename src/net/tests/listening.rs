//! When a port lets clients in.

use std::io::ErrorKind;
use std::net::TcpStream;

use crate::net::listener::{ListenConfig, bind};

#[test]
fn clients_are_refused_until_a_shard_listens() {
    let config = ListenConfig {
        address: "127.0.0.1:0".parse().expect("an address"),
        backlog: 8,
        receive_buffer_bytes: None,
        send_buffer_bytes: None,
    };
    let mut bound = bind(&config, 2).expect("a free port").into_iter();
    let (first, second) = (bound.next().expect("one"), bound.next().expect("two"));
    let address = first.address();
    assert_eq!(second.address(), address);
    let refused = TcpStream::connect(address).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let _listening = second.listen().expect("a port of our own");
    TcpStream::connect(address).expect("somebody listens");
}
