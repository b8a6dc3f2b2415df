//! Signals to commands that run on.

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::program::{Running, Shell, program};
use crate::support::command;

/// Well below what the commands are given to wait for a broker.
const WITHIN: Duration = Duration::from_secs(60);

/// Sends the signal; gives how the program ended.
fn stop(running: &mut Running, signal: Signal) -> ExitStatus {
    let pid = i32::try_from(running.0.id()).expect("a process id");
    kill(Pid::from_raw(pid), signal).expect("a child of this process");
    command::wait(&mut running.0, WITHIN).expect("it stops")
}

/// Whether it ended by the signal.
fn ended_by(status: ExitStatus, signal: Signal) -> bool {
    let signal = signal as i32;
    status.signal() == Some(signal) || status.code() == Some(128 + signal)
}

/// Starts `command` by `env`, which has it heed or ignore signals whatever the test does.
fn started_with(option: &str, command: &Command) -> Running {
    let mut env = Command::new("env");
    env.arg(option)
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => env.env(name, value),
            None => env.env_remove(name),
        };
    }
    env.stdin(Stdio::null()).stdout(Stdio::piped());
    Running(env.spawn().expect("env of the coreutils"))
}

/// The next connection.
fn accepted(listener: &TcpListener) -> TcpStream {
    let end = Instant::now() + WITHIN;
    loop {
        match listener.accept() {
            Ok((stream, _)) => return stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("no connection: {error}"),
        }
    }
}

#[test]
fn before_anything_is_begun_the_first_signal_ends_it() {
    // It accepts connections, and answers nothing.
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    silent.set_nonblocking(true).expect("an open socket");
    let address = silent.local_addr().expect("an address");
    for line in ["consume t", "consume t --group g", "produce t"] {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let mut command = program(&format!("{line} --timeout 10m -b {address}"));
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let mut running = Running(command.spawn().expect("the program"));
            // The second connection is that of the client, which asks for metadata.
            let connections = [accepted(&silent), accepted(&silent)];
            let status = stop(&mut running, signal);
            assert!(ended_by(status, signal), "{line}, {signal}: {status}");
            drop(connections);
        }
    }
}

#[test]
fn a_member_whose_terminal_closes_commits_and_leaves() {
    let shell = Shell::new();
    shell.ok("topics create t");
    shell.ok_with("produce t --quiet", "one\ntwo\n");
    let follow = shell.command("consume t --follow --group g");
    let mut running = started_with("--default-signal=HUP", &follow);
    let mut output = BufReader::new(running.0.stdout.take().expect("a pipe")).lines();
    for expected in ["one", "two"] {
        assert_eq!(output.next().expect("a line").expect("text"), expected);
    }
    let status = stop(&mut running, Signal::SIGHUP);
    assert_eq!(status.signal(), Some(Signal::SIGHUP as i32), "{status}");
    let described = shell.json("groups describe g --json").remove(0);
    assert_eq!(described["state"], "Empty", "{described}");
    assert_eq!(
        described["partitions"][0]["current_offset"], 2,
        "{described}"
    );
}

#[test]
fn who_ignores_closed_terminals_goes_on() {
    let shell = Shell::new();
    shell.ok("topics create t");
    shell.ok_with("produce t --quiet", "one\n");
    let follow = shell.command("consume t --follow");
    let mut running = started_with("--ignore-signal=HUP", &follow);
    let mut output = BufReader::new(running.0.stdout.take().expect("a pipe")).lines();
    assert_eq!(output.next().expect("a line").expect("text"), "one");
    let pid = i32::try_from(running.0.id()).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGHUP).expect("a child of this process");
    shell.ok_with("produce t --quiet", "two\n");
    assert_eq!(output.next().expect("a line").expect("text"), "two");
    let status = stop(&mut running, Signal::SIGTERM);
    assert!(ended_by(status, Signal::SIGTERM), "{status}");
}
