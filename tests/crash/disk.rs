//! A file system of a test's own on a loop device, and the ways to cut its power.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::lossy::Lossy;
use crate::support::command::{is_installed, run};
use crate::support::data_home;

const WITHIN: Duration = Duration::from_secs(60);
const IMAGE_BYTES: u64 = 1 << 30;

/// What a disk still takes once its store is full.
const LEFT_BYTES: u64 = 4 << 20;

/// What is made on a disk, as its own tool makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    /// As the kernel and `mount` call it.
    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    fn maker(self) -> &'static str {
        match self {
            Self::Ext4 => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
        }
    }

    fn make(self, image: &Path) {
        let options: &[&str] = match self {
            Self::Ext4 => &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
            Self::Xfs => &["-q", "-K"],
        };
        tool(self.maker(), &[options, &[&text(image)]].concat());
    }

    fn is_known_to_the_kernel(self) -> bool {
        let is_listed = || {
            let listed = fs::read_to_string("/proc/filesystems").unwrap_or_default();
            listed.split_whitespace().any(|name| name == self.name())
        };
        // A module is listed once it is loaded, and where there are none there is no modprobe.
        is_listed() || {
            let _ = Command::new("modprobe").args(["-q", self.name()]).status();
            is_listed()
        }
    }
}

/// How a disk behaves when its power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// What the file system has not yet sent down is gone: new files, renames, sizes, extents.
    /// Writes in place to blocks that were written before stay.
    Unsent,
    /// Of what was sent down but not flushed, a random part is gone, block by block.
    Unflushed,
    /// Nothing is gone, and the power stays on: the store behind the disk is full. The file system
    /// has handed out room that is not there, so that writes and syncs fail.
    Refused,
}

/// A file system that is mounted while the power is on.
pub struct Disk {
    file_system: FileSystem,
    loss: Loss,
    lossy: Option<Lossy>,
    store: Option<Store>,
    image: PathBuf,
    device: Option<String>,
    mount: PathBuf,
    /// Gone with the last owner, after the file system is unmounted.
    _home: TempDir,
}

/// Why no such disk can be made here, if so.
pub fn missing(file_system: FileSystem) -> Option<&'static str> {
    // A process is owned by whom it runs as.
    if fs::metadata("/proc/self").is_ok_and(|process| process.uid() != 0) {
        return Some("only root can mount a file system");
    }
    if !Path::new("/dev/loop-control").exists() || !Path::new("/dev/fuse").exists() {
        return Some("this machine has no loop devices or no FUSE");
    }
    let tools = [file_system.maker(), "losetup", "mount", "umount", "xfs_io"];
    let all = tools
        .iter()
        .all(|tool| is_installed(tool) || is_in_sbin(tool));
    if !all {
        return Some("e2fsprogs, xfsprogs or util-linux is not installed");
    }
    (!file_system.is_known_to_the_kernel()).then_some("the kernel does not know the file system")
}

fn is_in_sbin(tool: &str) -> bool {
    ["/sbin", "/usr/sbin"]
        .iter()
        .any(|dir| Path::new(dir).join(tool).is_file())
}

impl Disk {
    /// A new, empty, mounted file system.
    pub fn new(file_system: FileSystem, loss: Loss, seed: u64) -> Self {
        let home = data_home("disk-");
        let lossy = (loss == Loss::Unflushed).then(|| {
            let at = home.path().join("lossy");
            fs::create_dir(&at).expect("a new directory");
            Lossy::mount(&at, &home.path().join("platter"), IMAGE_BYTES, seed)
        });
        let store = (loss == Loss::Refused).then(|| Store::mount(home.path().join("store")));
        let image = match &lossy {
            Some(lossy) => lossy.image(),
            None => {
                let place = store.as_ref().map_or(home.path(), |store| &store.0);
                let image = place.join("platter");
                let file = fs::File::create_new(&image).expect("a new image");
                file.set_len(IMAGE_BYTES).expect("a sparse image");
                image
            }
        };
        let mount = home.path().join("mount");
        fs::create_dir(&mount).expect("a new directory");
        file_system.make(&image);
        let mut disk = Self {
            file_system,
            loss,
            lossy,
            store,
            image,
            device: None,
            mount,
            _home: home,
        };
        disk.power_on();
        disk
    }

    /// Where the file system is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// From this moment on nothing that is written is kept, and what was not kept safe is gone. A
    /// disk that refuses takes a little more.
    pub fn cut(&mut self) {
        match (&self.lossy, &self.store) {
            (Some(lossy), _) => lossy.cut(),
            (None, Some(store)) => store.limit(store.used() + LEFT_BYTES),
            // Flag 2 of the shutdown call, which both file systems know: the journal is not flushed
            // first.
            (None, None) => tool("xfs_io", &["-x", "-c", "shutdown", &text(&self.mount)]),
        }
    }

    /// Mounts the disk again as the cut has left it. Whoever used it must be gone.
    pub fn restart(&mut self) {
        self.power_off();
        if let Some(lossy) = &self.lossy {
            lossy.restore();
        }
        if let Some(store) = &self.store {
            store.limit(2 * IMAGE_BYTES);
        }
        self.power_on();
    }

    fn power_on(&mut self) {
        let device = tool_said("losetup", &["--find", "--show", &text(&self.image)]);
        let mount = text(&self.mount);
        tool("mount", &["-t", self.file_system.name(), &device, &mount]);
        self.device = Some(device);
    }

    fn power_off(&mut self) {
        let Some(device) = self.device.take() else {
            return;
        };
        self.unmount();
        tool("losetup", &["--detach", &device]);
    }

    /// The kernel may finish the killed broker's last calls a little after the process is gone.
    fn unmount(&self) {
        let mount = text(&self.mount);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let ended = Command::new("umount").arg(&mount).output();
            let ended = ended.expect("umount runs");
            if ended.status.success() {
                return;
            }
            let told = String::from_utf8_lossy(&ended.stderr);
            assert!(
                told.contains("busy") && Instant::now() < deadline,
                "umount: {told}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.power_off();
        }
        // Best effort, in this order, so that a failing test leaves no mount behind.
        let quietly = |program: &str, arguments: &[&str]| {
            let _ = Command::new(program).args(arguments).output();
        };
        if let Some(device) = self.device.take() {
            quietly("umount", &[&text(&self.mount)]);
            quietly("losetup", &["--detach", &device]);
        }
        assert!(
            self.loss != Loss::Unflushed || self.lossy.is_some(),
            "the lossy file outlives it"
        );
    }
}

/// A file system in memory, whose size can be changed. Unmounted when it is dropped.
struct Store(PathBuf);

impl Store {
    fn mount(at: PathBuf) -> Self {
        fs::create_dir(&at).expect("a new directory");
        let size = format!("size={}", 2 * IMAGE_BYTES);
        tool("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &text(&at)]);
        Self(at)
    }

    fn used(&self) -> u64 {
        let found = nix::sys::statvfs::statvfs(&self.0).expect("a mounted file system");
        (found.blocks() - found.blocks_free()) * found.fragment_size()
    }

    fn limit(&self, bytes: u64) {
        let options = format!("remount,size={bytes}");
        tool("mount", &["-o", &options, &text(&self.0)]);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Best effort, as that of the disk on it.
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn tool(program: &str, arguments: &[&str]) {
    tool_said(program, arguments);
}

fn tool_said(program: &str, arguments: &[&str]) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"));
    run(&mut command, b"", WITHIN)
        .success(program)
        .trim()
        .to_owned()
}
