//! What the log tells and to whom: its filter, the lines about connections and refused requests.

use std::time::{Duration, Instant};

use kacrab_protocol::generated::ApiKey;
use nix::sys::signal::Signal;

use super::deletion::create;
use super::program::{Broker, PATIENCE, command, directory, run, told, with_override};
use super::support::requests;
use super::support::wire::Wire;

fn filtered(mut start: std::process::Command, filter: &str) -> std::process::Command {
    start.env("MILLRACE_LOG", filter);
    start
}

#[test]
fn a_wrong_log_filter_is_told() {
    for filter in [
        "=loud=",
        "verbose",
        "off",
        "debug,millrace::net=loud",
        "millrace::net=off",
        "info,millrace",
    ] {
        let data = directory();
        let (code, log) = told(&run(filtered(command(data.path()), filter)));
        assert_eq!(code, Some(78), "{filter}: {log}");
        let error = log.lines().find(|line| line.contains("ERROR"));
        let error = error.unwrap_or_else(|| panic!("{filter}: no error in {log}"));
        assert!(
            error.contains(&format!("MILLRACE_LOG={filter} ")) && error.contains("warn"),
            "{filter}: {error}"
        );
    }
}

#[test]
fn no_filter_hides_why_the_start_failed() {
    for filter in ["error", "millrace::net=debug", "no_such=warn", ""] {
        let data = directory();
        let start = with_override(command(data.path()), "num.partitions=abc");
        let (code, log) = told(&run(filtered(start, filter)));
        assert_eq!(code, Some(78), "{filter}: {log}");
        let is_told = |line: &str| line.contains("ERROR") && line.contains("num.partitions=abc");
        assert!(log.lines().any(is_told), "{filter}: {log}");
    }
}

#[test]
fn a_filter_of_one_module_leaves_the_rest_as_it_is() {
    let data = directory();
    let start = filtered(command(data.path()), "millrace::storage=debug");
    // Its ready line is what the start waits for.
    let (broker, _) = Broker::start(start);
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopped cleanly"), "{log}");
}

#[test]
fn debug_tells_of_connections_and_refused_requests_and_info_does_not() {
    for (filter, is_told) in [("debug", true), ("info", false)] {
        let data = directory();
        let (mut broker, ready) = Broker::start(filtered(command(data.path()), filter));
        let mut wire = Wire::connect(ready.port());
        create(&mut wire, "known", 1);
        let fetch = requests::fetch("unknown", 0, 0);
        let mut answer = wire.call(ApiKey::Fetch, 12, |body, version| {
            fetch.write(body, version)
        });
        assert_eq!(requests::fetched(&mut answer, 12).error_code, 3);
        drop(wire);
        if is_told {
            let began = Instant::now();
            while broker.log().matches("connection closed").count() < 2 {
                assert!(began.elapsed() < PATIENCE, "{}", broker.log());
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        assert!(broker.is_running());
        let (code, log) = broker.stop();
        assert_eq!(code, Some(0), "{log}");
        for expected in [
            "connection opened",
            "connection closed",
            "fetch refused topic=Name(\"unknown\") partition=0 code=UNKNOWN_TOPIC_OR_PARTITION",
        ] {
            let lines = log.lines().filter(|line| line.contains("DEBUG"));
            let found = lines.filter(|line| line.contains(expected)).count();
            assert_eq!(found > 0, is_told, "{filter}, {expected}: {log}");
        }
        assert_eq!(log.matches("fetch refused").count(), usize::from(is_told));
    }
}

#[test]
fn a_client_of_another_protocol_is_named() {
    let data = directory();
    let (broker, ready) = Broker::start(command(data.path()));
    // The start of a TLS 1.2 or 1.3 handshake, and of a request of HTTP.
    for start in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"GET / HTTP/1.1\r\n"] {
        let mut wire = Wire::connect(ready.port());
        wire.send(start);
        assert!(wire.receive().is_none(), "not a request of Kafka's");
    }
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    for expected in ["looks like TLS", "looks like HTTP"] {
        assert_eq!(log.matches(expected).count(), 1, "{expected}: {log}");
    }
}

#[test]
fn a_terminal_that_closes_stops_the_broker_cleanly() {
    let data = directory();
    // Whoever runs the tests may have asked for no hangups, which is inherited.
    let program = command(data.path());
    let mut start = std::process::Command::new("/usr/bin/env");
    start.env_clear().stdin(std::process::Stdio::null());
    start.stdout(std::process::Stdio::piped());
    start.stderr(std::process::Stdio::piped());
    start.arg("--default-signal=HUP");
    start.arg(program.get_program()).args(program.get_args());
    let (broker, _) = Broker::start(start);
    broker.signal(Signal::SIGHUP);
    let (code, log) = broker.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("SIGHUP: stopping"), "{log}");
    assert!(log.contains("stopped cleanly"), "{log}");
}

#[test]
fn who_asks_for_no_hangups_gets_none() {
    let data = directory();
    let program = command(data.path());
    let mut start = std::process::Command::new("/usr/bin/nohup");
    start.env_clear().stdin(std::process::Stdio::null());
    start.stdout(std::process::Stdio::piped());
    start.stderr(std::process::Stdio::piped());
    start.arg(program.get_program()).args(program.get_args());
    let (mut broker, ready) = Broker::start(start);
    broker.signal(Signal::SIGHUP);
    std::thread::sleep(Duration::from_millis(300));
    assert!(broker.is_running(), "{}", broker.log());
    create(&mut Wire::connect(ready.port()), "after", 1);
    let (code, log) = broker.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("SIGHUP"), "{log}");
}
