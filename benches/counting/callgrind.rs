//! Counting by callgrind: the requests to it from the program that it runs, and the run itself.
//!
//! Callgrind simulates the processor that it shows to the program, so the same program takes the
//! same instructions on every machine. Counted is what the shard's own thread does between two
//! requests; neither the kernel's instructions nor those of other threads are.

#![allow(unsafe_code)]

use std::arch::asm;
use std::ffi::CString;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// "Is this run by valgrind?"
const RUNNING_ON_VALGRIND: usize = 0x1001;
/// Callgrind's requests, as in its header: 'C', 'T' and a number.
const TOGGLE_COLLECT: usize = 0x4354_0002;
const DUMP_STATS_AT: usize = 0x4354_0003;

/// A run takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(180);

/// Asks valgrind for something. Without valgrind nothing happens and the answer is 0.
fn request(code: usize, argument: usize) -> usize {
    let request = [code, argument, 0, 0, 0, 0];
    let mut answer = 0_usize;
    // SAFETY: without valgrind the four rotations by 128 bits in all leave the register as it was,
    // and the exchange of a register with itself does nothing. Valgrind knows the sequence, reads
    // the six words at rax, which live until here, and writes rdx alone.
    unsafe {
        asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            inout("rdi") 0_usize => _,
            in("rax") request.as_ptr(),
            inout("rdx") answer,
            options(nostack),
        );
    }
    answer
}

/// Whether callgrind, or another tool of valgrind, runs this program.
pub fn is_watching() -> bool {
    request(RUNNING_ON_VALGRIND, 0) != 0
}

/// Begins to count this thread's instructions, or ends it.
pub fn toggle() {
    request(TOGGLE_COLLECT, 0);
}

/// Has what was counted written out under a name, and counts from 0 again.
pub fn dump(name: &str) {
    let name = CString::new(name).expect("names have no zeros");
    request(DUMP_STATS_AT, name.as_ptr().addr());
}

/// Runs this program with `argument` under callgrind. Its dumps by their names, in their order.
///
/// # Errors
/// There is no valgrind, or the run failed, in words for people.
pub fn run(argument: &str, directory: &Path) -> Result<Vec<(String, u64)>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let out = directory.join("out");
    let spawned = Command::new("valgrind")
        // Callgrind takes an instruction that repeats itself for as many as it makes repetitions: a
        // copy of the C library by `rep movsb` would count by the byte.
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-ERMS,-FSRM")
        .args(["--tool=callgrind", "--collect-atstart=no", "--quiet"])
        // A thread that gives way is to have others run before it goes on.
        .arg("--fair-sched=yes")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .arg(argument)
        .stdin(Stdio::null())
        .spawn();
    let child = spawned.map_err(|error| {
        format!("valgrind cannot be run ({error}): install it, `apt-get install valgrind`")
    })?;
    let ended = wait(child).map_err(|error| format!("valgrind failed: {error}"))?;
    if !ended.success() {
        return Err(format!("the program that is counted failed: {ended}"));
    }
    let mut dumps = Vec::new();
    for number in 1.. {
        let file = directory.join(format!("out.{number}"));
        let Ok(text) = fs::read_to_string(file) else {
            break;
        };
        let named = line(&text, "desc: Trigger: Client Request: ");
        let total = line(&text, "totals: ").and_then(|total| total.parse().ok());
        if let (Some(name), Some(total)) = (named, total) {
            dumps.push((name.to_owned(), total));
        }
    }
    match dumps.is_empty() {
        true => Err("callgrind has written nothing that can be read".to_owned()),
        false => Ok(dumps),
    }
}

fn wait(mut child: Child) -> Result<ExitStatus, String> {
    let began = Instant::now();
    loop {
        if let Some(ended) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(ended);
        }
        if began.elapsed() > PATIENCE {
            // It may have ended by itself just now.
            let _ended = child.kill();
            let _reaped = child.wait();
            return Err(format!("no end after {} s", PATIENCE.as_secs()));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The rest of the line that begins so.
fn line<'a>(text: &'a str, begin: &str) -> Option<&'a str> {
    let rest = text.lines().find_map(|line| line.strip_prefix(begin));
    rest.map(str::trim)
}
