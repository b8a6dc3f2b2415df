//! The room's unit tests: command line, machine, directory, ports, signals, panics.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::cli::{Command, LogFormat, StartArguments};
use super::signals::{Meaning, Meanings};
use super::*;
use crate::base::ids::NodeId;
use crate::config::{AdvertisedListener, Listener};
use crate::shard::advertised::AdvertisedShards;

#[test]
fn the_command_line_is_read() {
    let start = |config: Option<&str>, overrides: &[(&str, &str)], log_format: &[LogFormat]| {
        StartArguments {
            config: config.map(Into::into),
            overrides: overrides
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            log_format: log_format.first().copied(),
        }
    };
    let table = [
        ("", start(None, &[], &[])),
        ("start", start(None, &[], &[])),
        ("--config c", start(Some("c"), &[], &[])),
        ("start --config c", start(Some("c"), &[], &[])),
        ("--config c start", start(Some("c"), &[], &[])),
        (
            "start --override a=1 --override b=x=y --override c=",
            start(None, &[("a", "1"), ("b", "x=y"), ("c", "")], &[]),
        ),
        (
            "--override a=1 --config c start --override a=2 --log-format plain",
            start(Some("c"), &[("a", "1"), ("a", "2")], &[LogFormat::Plain]),
        ),
        ("--log-format json", start(None, &[], &[LogFormat::Json])),
    ];
    for (line, expected) in table {
        let arguments = ["millrace"].into_iter().chain(line.split_whitespace());
        let command = cli::parse(arguments).unwrap_or_else(|told| panic!("{line}: {told:?}"));
        let Command::Start(arguments) = command else {
            panic!("{line} starts no broker");
        };
        assert_eq!(arguments, expected, "{line}");
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error_and_help_is_none() {
    for (line, exit) in [
        ("--help", Exit::Clean),
        ("help", Exit::Clean),
        ("help start", Exit::Clean),
        ("start --help", Exit::Clean),
        ("--version", Exit::Clean),
        ("--no-such", Exit::Usage),
        ("stop", Exit::Usage),
        ("topics", Exit::Usage),
        ("topics list --help", Exit::Clean),
        ("--override a=1 topics list", Exit::Usage),
        ("--override novalue", Exit::Usage),
        ("--override =1", Exit::Usage),
        ("--log-format xml", Exit::Usage),
        ("--config", Exit::Usage),
        ("--config c --config d", Exit::Usage),
        ("--config c start --config d", Exit::Usage),
        ("server.properties", Exit::Usage),
        ("start server.properties", Exit::Usage),
    ] {
        let arguments = ["millrace"].into_iter().chain(line.split_whitespace());
        let told = cli::parse(arguments).expect_err(line);
        assert_eq!(told.exit(), exit, "{line}");
    }
}

#[test]
fn a_file_without_its_flag_is_told_the_flag() {
    for line in [
        "server.properties",
        "start server.properties",
        "start /etc/conf",
    ] {
        let arguments = ["millrace"].into_iter().chain(line.split_whitespace());
        let told = cli::parse(arguments).expect_err(line).to_string();
        let file = line.rsplit(' ').next().expect("a word");
        assert!(told.contains(&format!("--config {file}")), "{line}: {told}");
    }
    let told = cli::parse(["millrace", "stop"]).expect_err("no such command");
    assert!(!told.to_string().contains("--config stop"), "{told}");
}

#[test]
fn a_filter_is_read_and_never_hides_an_error() {
    use tracing::Level;
    for (text, net, storage) in [
        ("", Level::INFO, Level::INFO),
        ("debug", Level::DEBUG, Level::DEBUG),
        (" WARN ,", Level::WARN, Level::WARN),
        ("millrace::net=debug", Level::DEBUG, Level::INFO),
        ("error,millrace::net=trace", Level::TRACE, Level::ERROR),
    ] {
        let filter = logging::filter(text).unwrap_or_else(|reason| panic!("{text}: {reason}"));
        for (target, highest) in [
            ("millrace::net::server", net),
            ("millrace::storage", storage),
        ] {
            for level in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG] {
                let expected = level <= highest;
                let found = filter.would_enable(target, &level);
                assert_eq!(found, expected, "{text}: {target} at {level}");
            }
        }
    }
    for text in [
        "verbose", "off", "3", "=debug", "a=", "a b=info", "[s]=info",
    ] {
        logging::filter(text).expect_err(text);
    }
}

#[test]
fn quotas_of_control_groups_are_read() {
    for (text, expected) in [
        ("max 100000\n", None),
        ("200000 100000\n", Some(2)),
        ("150000 100000\n", Some(2)),
        ("1000 100000\n", Some(1)),
        ("nonsense", None),
        ("", None),
    ] {
        assert_eq!(machine::cpu_quota(text), expected, "{text}");
    }
}

#[test]
fn shards_follow_the_cpus_and_pin_where_they_may() {
    let cpus = |allowed: &[usize], quota| machine::Cpus {
        allowed: allowed.to_vec(),
        quota,
    };
    assert_eq!(cpus(&[2, 5], None).shards(), 2);
    assert_eq!(cpus(&[2, 5], None).to_pin(), [2, 5]);
    assert_eq!(cpus(&[2, 5], Some(2)).to_pin(), [2, 5]);
    assert_eq!(cpus(&[0, 1, 2, 3], Some(2)).shards(), 2);
    assert!(cpus(&[0, 1, 2, 3], Some(2)).to_pin().is_empty());
    assert_eq!(cpus(&[0], Some(8)).shards(), 1);
    let own = machine::Cpus::of_process().expect("the CPUs of this process");
    assert!(!own.allowed.is_empty());
}

#[test]
fn the_memory_ceiling_is_what_is_set_or_a_share() {
    let least = machine::MEMORY_BYTES_PER_SHARD_MIN;
    assert_eq!(
        machine::memory_ceiling(Some(3 * least), 3).ok(),
        Some(3 * least)
    );
    let error = machine::memory_ceiling(Some(3 * least), 4).expect_err("too little");
    assert!(
        error.to_string().contains("millrace.memory.bytes"),
        "{error}"
    );
    let all = machine::memory_bytes().expect("the memory of this machine");
    let default = machine::memory_ceiling(None, 1).expect("a default");
    assert!(default >= least && default <= all, "{default} of {all}");
    let many = machine::memory_ceiling(None, 1000).expect("a default");
    assert!(many >= 1000 * least);
}

#[test]
fn a_forbidden_io_uring_is_told_with_what_to_do() {
    for (errno, disabled, expected) in [
        (libc::ENOSYS, "", "seccomp"),
        (libc::EPERM, "2", "sysctl -w kernel.io_uring_disabled=0"),
        (libc::EPERM, "1", "io_uring_group"),
        (libc::EPERM, "0", "seccomp"),
        (libc::EACCES, "", "seccomp"),
    ] {
        let error = io::Error::from_raw_os_error(errno);
        let advice = machine::io_uring_advice(&error, disabled);
        assert!(advice.contains(expected), "{error}, {disabled}: {advice}");
    }
    machine::check_io_uring(1).expect("this machine has io_uring");
}

#[test]
fn what_is_logged_stays_in_one_line() {
    for (event, line) in [
        ("plain\n", "plain\n"),
        ("a\nb\r\n\n", "a\\nb\\r\\n\n"),
        ("no end", "no end"),
        ("é\né\n", "é\\né\n"),
    ] {
        assert_eq!(logging::written(event), line);
    }
}

fn open(path: &Path) -> Result<DataDirectory, DirectoryError> {
    let opened = DataDirectories::open(&[path.to_owned()], None, NodeId(1));
    opened.map(|all| all.metadata)
}

/// Opens a directory whose owner in this process has gone. A child that another test is starting
/// holds a copy of its lock until the child's own program runs.
fn reopen(path: &Path) -> DataDirectory {
    let began = Instant::now();
    loop {
        match open(path) {
            Err(DirectoryError::Locked { .. }) if began.elapsed() < Duration::from_secs(10) => {
                thread::sleep(Duration::from_millis(1));
            }
            opened => return opened.expect("a directory that nobody holds"),
        }
    }
}

#[test]
fn a_new_directory_is_made_and_keeps_its_identity() {
    let above = tempfile::tempdir().expect("a directory");
    let path = above.path().join("a/b/data");
    let first = open(&path).expect("a new directory");
    let meta = first.meta.clone();
    assert_eq!(meta.node_id, NodeId(1));
    assert_eq!(meta.cluster_id.len(), 22);
    assert_eq!(first.path, path);
    drop(first);
    // What a crash while it was formatted may leave behind.
    fs::write(path.join("meta.properties.tmp"), "version=").expect("a leftover");
    fs::write(path.join(".direct-io-probe"), "").expect("a leftover");
    let again = reopen(&path);
    assert_eq!(again.meta, meta);
    let text = fs::read_to_string(path.join("meta.properties")).expect("a file");
    for line in ["version=1", "millrace.format=5", "node.id=1"] {
        assert!(text.lines().any(|each| each == line), "{line} in {text}");
    }
}

#[test]
fn a_directory_of_an_older_format_becomes_one_of_this() {
    let directory = tempfile::tempdir().expect("a directory");
    let meta = open(directory.path()).expect("a new directory").meta;
    let file = directory.path().join("meta.properties");
    let text = fs::read_to_string(&file).expect("a file");
    let older = text.replace("millrace.format=5", "millrace.format=2");
    assert_ne!(older, text);
    let is_new = |line: &&str| line.contains("directory.id") && line.starts_with("millrace.");
    let older: Vec<_> = older.lines().filter(|line| !is_new(line)).collect();
    let older = older.join("\n");
    fs::write(&file, older).expect("a file");
    assert_eq!(reopen(directory.path()).meta, meta);
    assert_eq!(fs::read_to_string(&file).expect("a file"), text);
}

#[test]
fn leftovers_of_a_crash_do_not_keep_a_directory_from_being_formatted() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in [".lock", "meta.properties.tmp", ".direct-io-probe"] {
        fs::write(directory.path().join(name), "half").expect("a leftover");
    }
    open(directory.path()).expect("a directory");
}

#[test]
fn a_directory_has_one_owner() {
    let directory = tempfile::tempdir().expect("a directory");
    let owner = open(directory.path()).expect("the first");
    let error = open(directory.path()).expect_err("the second");
    assert!(matches!(error, DirectoryError::Locked { .. }), "{error}");
    let holder = format!("process {}", std::process::id());
    assert!(error.to_string().contains(&holder), "{error}");
    drop(owner);
    reopen(directory.path());
}

#[test]
fn directories_that_are_not_ours_are_refused_and_left_alone() {
    let ours = "version=1\nmillrace.format=1\ncluster.id=x\nnode.id=1\n\
                directory.id=AAAAAAAAAAAAAAAAAAAAAQ\n";
    let kafka = "version=1\ncluster.id=x\nnode.id=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\n";
    let zookeeper = "version=0\nbroker.id=1\ncluster.id=x\n";
    let table: &[(&str, String, &str)] = &[
        (
            "meta.properties",
            kafka.to_owned(),
            "formatted by Apache Kafka",
        ),
        (
            "meta.properties",
            zookeeper.to_owned(),
            "formatted by Apache Kafka",
        ),
        (
            "meta.properties",
            ours.replace("format=1", "format=9"),
            "has the format 9",
        ),
        (
            "meta.properties",
            ours.replace("format=1", "format=x"),
            "damaged",
        ),
        (
            "meta.properties",
            ours.replace("node.id=1", "node.id=2"),
            "belongs to node 2",
        ),
        (
            "meta.properties",
            ours.replace("node.id=1\n", ""),
            "node.id is missing",
        ),
        ("meta.properties", ours.replace("AAAQ", ""), "directory.id"),
        (
            "meta.properties",
            "\\uZZZZ=1".to_owned(),
            "is empty or damaged",
        ),
        ("meta.properties", String::new(), "is empty or damaged"),
        ("meta.properties", "version=1\n".to_owned(), "Restore it"),
        (
            "meta.properties",
            "\0\0\0\0\0\0\0\0".to_owned(),
            "is empty or damaged",
        ),
        (
            "meta.properties",
            format!("# Written by Millrace when it first used this directory.\n{kafka}"),
            "millrace.format is missing",
        ),
        ("topic-0", String::new(), "is not empty"),
    ];
    for (name, text, expected) in table {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join(name);
        fs::write(&file, text).expect("a file");
        let error = open(directory.path()).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(fs::read_to_string(&file).expect("the file"), *text);
        if *name == "meta.properties" && !text.contains("node.id=2") {
            let count = fs::read_dir(directory.path()).expect("entries").count();
            assert_eq!(count, 1, "{expected}: something was written");
        }
    }
}

#[test]
fn a_directory_that_cannot_be_one_is_an_io_error() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    for path in [file.path().to_owned(), file.path().join("below")] {
        let error = open(&path).expect_err("no directory");
        let told = format!("{} is a file and no directory", file.path().display());
        assert!(error.to_string().contains(&told), "{error}");
        assert_eq!(BootError::from(error).exit(), Exit::Io);
    }
    // Not even root may make one here.
    let error = open(Path::new("/proc/self/a/b")).expect_err("no directory");
    let told = error.to_string();
    assert!(told.contains("a cannot be made in /proc/self"), "{told}");
    assert_eq!(BootError::from(error).exit(), Exit::Io);
    let denied = failed_with(io::ErrorKind::PermissionDenied);
    assert!(denied.contains("or set log.dirs"), "{denied}");
}

fn failed_with(kind: io::ErrorKind) -> String {
    let error = DirectoryError::Io {
        path: "/data".into(),
        what: "it cannot be read".to_owned(),
        error: kind.into(),
    };
    error.to_string()
}

fn listener(host: &str, port: u16) -> Listener {
    Listener {
        name: "PLAINTEXT".to_owned(),
        host: host.to_owned(),
        port,
    }
}

fn reserve(host: &str, port: u16) -> Result<ReservedListener, ListenError> {
    let mut reserved = listeners::reserve(&[listener(host, port)], AdvertisedShards::TOGETHER)?;
    Ok(reserved.remove(0))
}

#[test]
fn each_advertised_shard_gets_the_next_port() {
    let four = AdvertisedShards::each(4);
    let reserved = listeners::reserve(&[listener("127.0.0.1", 0)], four).expect("free ports");
    let first = reserved[0].address.port();
    let ports = reserved
        .iter()
        .map(|port| (port.shard.0, port.address.port()));
    let expected = (0..4).map(|shard| (shard, first + shard));
    assert!(ports.eq(expected), "{reserved:?}");

    let none_above = listeners::reserve(&[listener("127.0.0.1", 65_533)], four);
    let error = none_above.expect_err("three ports at most");
    assert!(matches!(error, ListenError::NoPorts { .. }), "{error}");
    let told = AdvertisedListener {
        name: "PLAINTEXT".to_owned(),
        host: "h".to_owned(),
        port: 65_533,
    };
    let error = listeners::advertise(&[told], &reserved, four).expect_err("likewise");
    assert!(
        matches!(error, ListenError::NoPorts { first: 65_533, .. }),
        "{error}"
    );
}

/// A socket as each shard opens it.
fn shared_listener(address: SocketAddr) -> io::Result<socket2::Socket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(8)?;
    Ok(socket)
}

#[test]
fn a_reserved_port_is_open_to_the_shards_and_to_nobody_else() {
    let reserved = reserve("127.0.0.1", 0).expect("a free port");
    let port = reserved.address.port();
    assert_ne!(port, 0);
    let taken = |what: &str| {
        let error = reserve("127.0.0.1", port).expect_err(what);
        assert!(
            matches!(error, ListenError::Taken { .. }),
            "{what}: {error}"
        );
    };
    let error = reserve("127.0.0.1", port).expect_err("before a shard listens");
    assert!(matches!(error, ListenError::Locked { .. }), "{error}");
    let shards = [(); 2].map(|()| shared_listener(reserved.address).expect("a shard's socket"));
    taken("while shards listen");
    assert!(TcpListener::bind(reserved.address).is_err());
    let client = std::net::TcpStream::connect(reserved.address).expect("a connection");
    drop((client, shards, reserved));
    reserve("127.0.0.1", port).expect("the port is free again");
}

#[test]
fn a_port_of_one_address_is_free_on_another_and_taken_on_all() {
    let one = reserve("127.0.0.1", 0).expect("a free port");
    let port = one.address.port();
    let two = reserve("127.0.0.2", port).expect("the same port of another address");
    for host in ["127.0.0.1", "0.0.0.0", "::", ""] {
        let error = reserve(host, port).expect_err("the port is taken");
        let told = error.to_string();
        assert!(
            matches!(error, ListenError::Locked { .. }),
            "{host}: {told}"
        );
        assert!(
            told.contains(&format!("the port {port} of 127.0.0.")),
            "{told}"
        );
        assert!(
            told.contains("--override listeners=PLAINTEXT://127.0.0."),
            "{told}"
        );
    }
    drop((one, two));
    let all = reserve("0.0.0.0", port).expect("the port is free again");
    let error = reserve("127.0.0.1", port).expect_err("every address has it");
    assert!(matches!(error, ListenError::Locked { .. }), "{error}");
    let told = error.to_string();
    assert!(
        told.contains("--override listeners=PLAINTEXT://:9"),
        "{told}"
    );
    drop(all);
}

#[test]
fn locks_overlap_where_one_serves_what_the_other_does() {
    let table = [
        ("127.0.0.1:9", "127.0.0.2:9", false),
        ("127.0.0.1:9", "0.0.0.0:9", true),
        ("0.0.0.0:9", "127.0.0.1:9", true),
        ("0.0.0.0:9", "127.0.0.1:8", false),
        ("0.0.0.0:9", "[::1]:9", false),
        ("0.0.0.0:9", "[::]:9", true),
        ("[::]:9", "127.0.0.1:9", true),
        ("[::1]:9", "[::]:9", true),
        ("127.0.0.1:9", "127.0.0.1:9", false),
    ];
    for (address, other, expected) in table {
        let held = format!(
            "Num       RefCount Protocol Flags    Type St Inode Path\n\
             ffff: 00000002 00000000 00010000 0001 01 21 @millrace/tcp/{other}\n\
             ffff: 00000002 00000000 00010000 0001 01 22 /run/other\n"
        );
        let address: SocketAddr = address.parse().expect("an address");
        let found = listeners::overlapping(&held, address);
        assert_eq!(found.is_some(), expected, "{address} and {other}");
    }
}

#[test]
fn a_port_on_which_another_program_listens_is_taken() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("an address").port();
    for host in ["127.0.0.1", "localhost", "0.0.0.0", ""] {
        let error = reserve(host, port).expect_err("the port is taken");
        assert!(
            matches!(error, ListenError::Taken { .. }),
            "{host}: {error}"
        );
        assert!(error.to_string().contains(&port.to_string()));
    }
}

#[test]
fn addresses_that_are_not_this_machines_are_refused_with_advice() {
    let error = reserve("192.0.2.1", 0)
        .expect_err("no such interface")
        .to_string();
    assert!(error.contains("no interface of this machine"), "{error}");
    let error = reserve("no-such-host.invalid", 0).expect_err("no such host");
    assert!(matches!(error, ListenError::Unresolved { .. }), "{error}");
}

#[test]
fn advertised_addresses_are_completed() {
    let reserved = [reserve("127.0.0.1", 0).expect("a free port")];
    let advertised = |host: &str, port| AdvertisedListener {
        name: "PLAINTEXT".to_owned(),
        host: host.to_owned(),
        port,
    };
    let wanted = [advertised("h", 0), advertised("", 5)];
    let told = listeners::advertise(&wanted, &reserved, AdvertisedShards::TOGETHER);
    let told = told.expect("ports for all");
    assert_eq!(told[0], advertised("h", reserved[0].address.port()));
    assert_eq!(told[1].port, 5);
    assert!(!told[1].host.is_empty());
}

#[test]
fn a_stop_is_asked_for_once_whenever_it_comes() {
    let (send, receive) = std::sync::mpsc::channel();
    let action = |send: &std::sync::mpsc::Sender<()>| {
        let send = send.clone();
        move || send.send(()).expect("a receiver")
    };
    let request = StopRequest::default();
    request.on_stop(action(&send));
    assert!(!request.is_requested() && receive.try_recv().is_err());
    request.request();
    request.request();
    assert!(request.is_requested());
    assert_eq!(receive.try_iter().count(), 1);
    // Asked for before anybody could act on it.
    request.on_stop(action(&send));
    assert_eq!(receive.try_iter().count(), 1);
}

/// Runs one of the tests below in a process of its own, where it does what ends a process.
fn child(test: &str) -> Child {
    let this = std::env::current_exe().expect("this program");
    let arguments: Vec<OsString> = vec![
        format!("process::tests::{test}").into(),
        "--exact".into(),
        "--ignored".into(),
        "--nocapture".into(),
    ];
    Process::new(this)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child")
}

fn error_of(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("an ended child");
    assert_eq!(output.status.signal(), None);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), error)
}

#[test]
fn a_panic_in_any_thread_ends_the_process_with_the_reason() {
    let (code, error) = error_of(child("child_that_panics"));
    assert_eq!(code, Some(1), "{error}");
    let line = error.lines().find(|line| line.contains("panicked"));
    let line = line.unwrap_or_else(|| panic!("no line about the panic in {error}"));
    assert!(line.contains("the thread worker panicked"), "{line}");
    assert!(line.contains("one\\ntwo"), "{line}");
}

#[test]
#[ignore = "run by the test before it, in a process of its own"]
fn child_that_panics() {
    logging::install(LogFormat::Plain).expect("a log");
    logging::install_panic_hook();
    let worker = thread::Builder::new().name("worker".to_owned());
    let worker = worker.spawn(|| {
        let caught = std::panic::catch_unwind(|| panic!("one\ntwo"));
        assert!(caught.is_err());
    });
    let _ = worker.expect("a thread").join();
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_second_signal_stops_at_once_but_an_echo_of_the_first_does_not() {
    let start = Instant::now();
    let mut meanings = Meanings::default();
    for (milliseconds, expected) in [
        (0, Meaning::Stop),
        (0, Meaning::Same),
        (20, Meaning::Same),
        (499, Meaning::Same),
        (500, Meaning::StopNow),
    ] {
        let now = start + Duration::from_millis(milliseconds);
        assert_eq!(meanings.of(now), expected, "after {milliseconds} ms");
    }
}
