"""Which class of work a sample is: of the kernel, by what it was called for; of the broker, by what
ran and for whom.

In the kernel the rules are tried in their order on all of its functions in the stack, so that a
page fault in a copy from a socket is a page fault, and a bio that a write to a file submits is
block I/O. In the broker the innermost function that is of some class decides; what is of none (the
standard library, a crate) is for whoever called it.
"""

import re

from .stacks import innermost

KERNEL = tuple((name, re.compile(pattern)) for name, pattern in (
    ("kernel: page faults", r"^(asm_)?exc_page_fault$|^do_user_addr_fault|^handle_mm_fault"
     r"|^(__)?(mmap|munmap|madvise|zap)_|^__x64_sys_(mmap|munmap|madvise|mremap)|^do_mmap"),
    ("kernel: context switches", r"^(__)?schedule(_timeout|_hrtimeout|_idle|_hrtimeout_range)?$"
     r"|^schedule_tail$|^__cond_resched$"),
    ("kernel: waking other threads", r"^try_to_wake_up$|^ttwu_|^(default|autoremove)_wake_func"),
    ("kernel: network, delivery to the peer", r"^(__)?do_softirq|^handle_softirqs|^net_rx_action"),
    ("kernel: network, copy of what is sent", r"^_copy_from_iter|^skb_do_copy_data"
     r"|^skb_copy_to_page|^copy_page_from_iter"),
    ("kernel: network, send", r"sendmsg|^__sys_sendto|^io_send|^io_write_sock|^sock_write_iter"
     r"|^tcp_write_xmit|^tcp_push"),
    ("kernel: network, copy of what is received", r"^(skb_copy_datagram|__skb_datagram_iter)"),
    ("kernel: network, receive", r"recvmsg|^__sys_recvfrom|^io_recv|^sock_read_iter|^tcp_read"
     r"|^tcp_cleanup_rbuf|^sk_wait"),
    ("kernel: network, rest", r"^(tcp|inet6?|ip|sock|sk|skb|__sk|__sock|__tcp)_|^unix_|^net_"),
    ("kernel: block and direct I/O", r"^(__)?(submit_bio|bio|blk|blkdev|block)_|^submit_bio"
     r"|^blk_mq|^virtblk|^nvme_|^scsi_|^(__)?iomap_dio|^vring_|^virtqueue_|^vp_|^pin_user"
     r"|^(__)?iov_iter_(get|extract)_pages|^(internal_)?get_user_pages|^gup_|^(dd|bfq|kyber)_"),
    ("kernel: file system", r"^(ext4|xfs|btrfs|jbd2|f2fs)_|^(__)?(iomap|vfs|filemap|fsnotify)_"
     r"|^generic_(file|perform|write)|^(folio|__folio|file|do_sync|do_fsync)_|^__x64_sys_(p?read"
     r"|p?write|open|unlink|rename|stat|newfstat|ftruncate|fallocate|fsync|fdatasync|sync)"),
    ("kernel: io_uring", r"^(__)?io_|^__x64_sys_io_uring|^__do_sys_io_uring|^tctx_"),
    ("kernel: interrupts and timers", r"^(asm_)?(sysvec|common_interrupt)|^irq_|^__irq|^hrtimer"
     r"|^asm_"),
    ("kernel: entry and exit", r"^(entry_SYSCALL|do_syscall_64|syscall_|exit_to_user|srso_|x64_sys)"
     r"|^clear_bhi|^fpregs|^switch_fpu"),
))
SYSCALL = re.compile(r"^__(?:x64|arm64|se|do)_sys_(\w+)$")
WAKES = re.compile(r"^(epoll|futex|poll|select|eventfd)")

MEMORY = re.compile(r"^_*(mem(move|cpy|set|cmp|chr)|bcmp|rep_movs)(_|$|@)|^std::mem::copy"
                    r"|compiler_builtins::mem|^core::intrinsics::copy|^copy_nonoverlapping")
CRC = re.compile(r"crc32c|crc32|^crc_")
ALLOCATOR = re.compile(r"^_?mi_|^(malloc|free|calloc|realloc|cfree|_int_malloc|_int_free)$"
                       r"|^(alloc::alloc::|__r(ust|g|dl|dg)_)\w*(alloc|free)\w*$"
                       r"|^<mimalloc::|^mimalloc::")
DEPENDENCIES = tuple((name, re.compile(pattern)) for name, pattern in (
    ("runtime and io_uring", r"(^|[<& ])(io_uring|async_task|futures_\w+|atomic_waker)::"
     r"|^(io-uring|async-task|futures-\w+|atomic-waker)-\d"),
    ("compression", r"(^|[<& ])(zstd|lz4_flex|snap|flate2)\w*::|^(zstd|lz4|snap|flate2|miniz)"),
    ("logging", r"(^|[<& ])tracing\w*::|^tracing"),
))
# What the modules of the broker are for, where that is a class; the others are under their name.
MODULES = {"record": "decode and validate batches", "protocol": "decode and encode requests",
           "runtime": "runtime and io_uring"}
OWN = re.compile(r"\bmillrace::(\w+)::")
OWN_FILE = re.compile(r"(?:^|/)src/(\w+)(?:/[\w/]+)?\.rs$")
CRATE_FILE = re.compile(r"/(?:registry/src/[^/]+|git/checkouts/[^/]+)/(?P<path>.*)$")
STANDARD_FILE = re.compile(r"^/rustc/|^/rust/deps/|/library/(core|alloc|std)/")
REST = "millrace: rest"
LIBC = "libc and clock"


def classify(sample):
    first = sample.frames[0]
    if first.is_kernel:
        return kernel_class(sample.frames)
    return next((found for frame in sample.frames if (found := frame_class(frame))),
                LIBC if "libc" in innermost(sample).dso or "vdso" in first.dso else REST)


def kernel_class(frames):
    names = [frame.name for frame in frames if frame.is_kernel]
    # Softirqs that no send has brought about are what came in, for whoever it is.
    is_sending = any("sendmsg" in name or name.startswith("tcp_write_xmit") for name in names)
    for found, pattern in KERNEL:
        if any(pattern.search(name) for name in names):
            is_incoming = "delivery" in found and not is_sending
            return "kernel: interrupts and timers" if is_incoming else found
    return next((f"kernel: {call[1]}(2)" for name in names if (call := SYSCALL.match(name))),
                "kernel: rest")


def frame_class(frame):
    """None where it is done for whoever called it."""
    name, file = frame.name, frame.file
    for found, pattern in (("memmove and memcpy", MEMORY), ("CRC", CRC),
                           ("allocator", ALLOCATOR)):
        if pattern.search(name):
            return found
    crate = CRATE_FILE.search(file)
    path = crate["path"] if crate else ""
    if "crc32c" in path:
        return "CRC"
    if "mimalloc" in path:
        return "allocator"
    for found, pattern in DEPENDENCIES:
        if pattern.search(path or name):
            return found
    module = own_module(frame)
    return MODULES.get(module, f"millrace: {module}") if module else None


def own_module(frame):
    """By the source file, where it is known: what is inlined has no path in its name, and what is
    generic has the broker's types in it."""
    if CRATE_FILE.search(frame.file) or STANDARD_FILE.search(frame.file):
        return None
    own = OWN_FILE.search(frame.file) or OWN.search(frame.name)
    return own[1] if own and own[1] not in ("lib", "main") else None


def beneficiary(sample):
    """The module that something was done for: the innermost of the broker's own in the stack."""
    return next((found for frame in sample.frames if (found := own_module(frame))), "none of ours")
