//! What goes wrong before a broker is asked anything, and what needs none.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::program::{Shell, fails, objects, program};
use crate::support::broker::free_port;
use crate::support::command::run;

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_broker_that_is_not_there_is_told_at_once_with_its_address() {
    let address = format!("127.0.0.1:{}", free_port());
    let (dir, began) = (env!("CARGO_TARGET_TMPDIR"), Instant::now());
    for line in [
        "topics list",
        "topics create t",
        "produce t",
        "consume t",
        "consume t --group g",
        "groups list",
    ] {
        let mut command = program(line);
        command
            .args(["--bootstrap-server", &address])
            .current_dir(dir);
        let told = fails(&run(&mut command, b"x\n", WITHIN), 1);
        for word in [
            &*address,
            "refused",
            "--bootstrap-server",
            "MILLRACE_BOOTSTRAP_SERVER",
        ] {
            assert!(told.contains(word), "{line}: {told}");
        }
    }
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn any_of_several_brokers_will_do() {
    let shell = Shell::new();
    let servers = format!("127.0.0.1:{},{}", free_port(), shell.broker.bootstrap());
    let finished = run(program("topics list").args(["-b", &servers]), b"", WITHIN);
    finished.success("the second one");
}

#[test]
fn a_peer_that_is_no_broker_fails_within_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 16]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let mut command = program("topics list --timeout 2s");
    let told = fails(&run(command.args(["-b", &address]), b"", WITHIN), 1);
    assert!(told.contains("the metadata"), "{told}");
}

#[test]
fn wrong_properties_are_a_configuration_error() {
    let shell = Shell::new();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let good = dir.path().join("good.properties");
    std::fs::write(&good, "client.id = mine\n").expect("a file");
    let bad = dir.path().join("bad.properties");
    std::fs::write(&bad, "no.such.key=1\n").expect("a file");
    let config =
        |file: &std::path::Path| format!("topics list --command-config {}", file.display());
    shell.ok(&config(&good));
    for (line, word) in [
        (config(&bad), "no.such.key"),
        (config(&dir.path().join("none")), "No such file"),
        ("topics list -X no.such.key=1".to_owned(), "no.such.key"),
        ("produce t -X acks=seven".to_owned(), "acks"),
    ] {
        let told = fails(&shell.run(&line), 78);
        assert!(told.contains(word), "{line}: {told}");
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    for line in [
        "topics",
        "topics create",
        "topics create t --partitions 0",
        "topics create t --partitions many",
        "topics create t --config novalue",
        "groups describe --no-such",
        "consume t --timeout soon",
        "log dump",
        "completions tcsh",
        "--config x topics list",
    ] {
        fails(&run(&mut program(line), b"", WITHIN), 2);
    }
}

#[test]
fn a_negative_number_that_cannot_be_is_told_as_such() {
    for line in [
        "topics create t --partitions -1",
        "topics create t --replication-factor -1",
        "topics add-partitions t --partitions -1",
        "produce t --partition -1",
        "consume t --partition -1",
        "consume t --timeout -1s",
        "log dump --offset -1 x",
        "groups reset-offsets g --topic t --to-offset -1",
    ] {
        let told = fails(&run(&mut program(line), b"", WITHIN), 2);
        assert!(told.contains("invalid value '-1"), "{line}: {told}");
    }
}

#[test]
fn versions_and_completions_need_no_broker() {
    let version = run(&mut program("version"), b"", WITHIN).success("version");
    assert!(
        version.starts_with(concat!("millrace ", env!("CARGO_PKG_VERSION"))),
        "{version}"
    );
    let version = run(&mut program("version --json"), b"", WITHIN).success("version");
    assert_eq!(objects(&version)[0]["version"], env!("CARGO_PKG_VERSION"));
    for shell in ["bash", "zsh", "fish"] {
        let line = format!("completions {shell}");
        let script = run(&mut program(&line), b"", WITHIN).success(&line);
        assert!(script.contains("reset-offsets"), "{shell} knows the verbs");
    }
    // What bash itself makes of them.
    let program = env!("CARGO_BIN_EXE_millrace");
    let script = format!(
        "source <({program} completions bash); COMP_WORDS=(millrace groups res); COMP_CWORD=2; \
         _millrace millrace res groups; echo \"${{COMPREPLY[@]}}\""
    );
    let mut bash = std::process::Command::new("bash");
    let completed = run(bash.args(["-c", &script]), b"", WITHIN).success("bash");
    assert_eq!(completed, "reset-offsets\n");
}
