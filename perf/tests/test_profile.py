"""What `perf/profile` makes of perf's samples, on samples made up for it."""

import unittest
from types import SimpleNamespace
from xml.etree import ElementTree

from compare.workloads import NAMED
from profiling import flame, inlines, loads, main, stacks
from profiling.classes import beneficiary, classify
from profiling.page import page
from profiling.sampling import read_counts
from profiling.stacks import Frame, Sample

KERNEL = "[kernel.kallsyms]"
BROKER = "/target/release/millrace"
SCRIPT = """\
shard 0 4242    2004008
\tffffffff81a0 rep_movs_alternative ([kernel.kallsyms])
\tffffffff81b0 __x64_sys_recvfrom ([kernel.kallsyms])
\t        1234 <millrace::net::socket::Socket as core::future::Future>::poll::h0123456789abcdef \
(/target/release/millrace)
\t         12a main (/target/release/millrace)

shard 0 4242    1000000
\t         77f __memmove_avx_unaligned_erms (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t        1300 millrace::storage::log::append (/target/release/millrace)

log 4243    1000000
\t     7f00dead [unknown] ([unknown])

"""


def kernel(*names):
    return sample(*(Frame(name, KERNEL) for name in names))


def broker(*names):
    return sample(*(Frame(name, BROKER) for name in names))


def inlined(name, file):
    return Frame(name, BROKER, file=file, is_inlined=True)


def sample(*frames, weight=1):
    return Sample("shard 0", weight, frames)


class Loads(unittest.TestCase):
    def test_what_fills_the_disk_is_a_load_of_the_comparison(self):
        self.assertLessEqual(set(main.STORED), {load.kind for load in loads.LOADS.values()})


class Stacks(unittest.TestCase):
    def test_samples_are_read_with_their_threads_weights_and_frames(self):
        first, second, third = stacks.parse(SCRIPT)
        self.assertEqual((first.thread, first.weight, len(first.frames)), ("shard 0", 2004008, 4))
        self.assertTrue(first.frames[0].is_kernel)
        self.assertEqual(first.frames[2], Frame(
            "<millrace::net::socket::Socket as core::future::Future>::poll", BROKER, 0x1234))
        self.assertEqual(second.frames[0].dso, "/usr/lib/x86_64-linux-gnu/libc.so.6")
        self.assertEqual(third.frames[0].name, "[unknown]")

    def test_the_same_stacks_are_folded_together(self):
        samples = [broker("b", "a"), broker("b", "a"), broker("a"), kernel("c")]
        self.assertEqual(dict(stacks.fold(samples)), {
            ("shard 0", "a", "b"): 2, ("shard 0", "a"): 1, ("shard 0", "c [k]"): 1})

    def test_a_stack_is_whole_that_begins_where_its_thread_does(self):
        self.assertTrue(stacks.is_whole(broker("a", "start_thread")))
        self.assertTrue(stacks.is_whole(kernel("io_wq_worker", "ret_from_fork_asm")))
        self.assertFalse(stacks.is_whole(broker("a", "__libc_recvmsg")))

    def test_what_is_inlined_is_labelled_with_its_file_as_its_crate_has_it(self):
        for file, short in (
                ("/home/a/millrace/src/storage/log.rs", "storage/log.rs"),
                ("/home/a/.cargo/registry/src/index-1/crc32c-0.6.8/src/hw_x86_64.rs",
                 "crc32c/src/hw_x86_64.rs"),
                ("/rustc/5980/library/core/src/ptr/mod.rs", "core/src/ptr/mod.rs")):
            self.assertEqual(stacks.label(inlined("f", file)), f"f ({short})")

    def test_a_symbol_is_the_function_that_the_inlined_one_is_in(self):
        found = stacks.innermost(sample(inlined("f", "src/net/a.rs"), Frame("g", BROKER)))
        self.assertEqual(found.name, "g")


class Inlines(unittest.TestCase):
    def test_a_symbolizers_answers_are_pairs_of_function_and_file(self):
        text = ("0x14c0\nnext<u64>\n/rustc/range.rs:857\na::outer\n/src/net/a.rs:2\n\n"
                "0x14e0\n??\n??:0")
        self.assertEqual(inlines.read(text), [
            (0x14c0, [("next<u64>", "/rustc/range.rs"), ("a::outer", "/src/net/a.rs")]),
            (0x14e0, [("??", "??")])])

    def test_a_frame_becomes_those_inlined_and_itself_with_its_file(self):
        known = {0x10: [("push<u64>", "/rustc/library/alloc/vec.rs"), ("short", "src/net/a.rs")]}
        frames = inlines.parts(Frame("net::long", BROKER, 0x10), 0, BROKER, known)
        self.assertEqual([(frame.name, frame.is_inlined) for frame in frames],
                         [("push", True), ("net::long", False)])
        self.assertEqual(frames[1].file, "src/net/a.rs")
        # A caller is where it goes on, one past the call.
        self.assertEqual(len(inlines.parts(Frame("f", BROKER, 0x11), 1, BROKER, known)), 2)
        self.assertEqual(len(inlines.parts(Frame("f", "libc", 0x10), 0, BROKER, known)), 1)


class Classes(unittest.TestCase):
    def test_the_kernel_is_classed_by_what_it_was_called_for(self):
        for expected, names in (
                ("page faults", ("clear_page_erms", "handle_mm_fault", "asm_exc_page_fault",
                                 "rep_movs_alternative", "tcp_recvmsg")),
                ("network, copy of what is received",
                 ("rep_movs_alternative", "_copy_to_iter", "__skb_datagram_iter", "tcp_recvmsg")),
                ("network, receive", ("tcp_rcv_space_adjust", "tcp_recvmsg", "io_recv")),
                ("network, send", ("tcp_write_xmit", "tcp_sendmsg", "io_sendmsg")),
                ("waking other threads", ("_raw_spin_unlock_irqrestore", "try_to_wake_up",
                                          "sock_def_readable", "tcp_v4_rcv", "net_rx_action")),
                ("network, copy of what is sent",
                 ("rep_movs_alternative", "_copy_from_iter", "skb_do_copy_data_nocache",
                  "tcp_sendmsg_locked")),
                ("network, delivery to the peer",
                 ("tcp_v4_rcv", "net_rx_action", "__do_softirq", "tcp_sendmsg")),
                ("interrupts and timers", ("run_timer_softirq", "__do_softirq",
                                           "asm_sysvec_apic_timer_interrupt")),
                ("block and direct I/O", ("virtqueue_add_split", "blk_mq_submit_bio", "submit_bio",
                                          "iomap_dio_rw", "ext4_file_write_iter", "io_write")),
                ("file system", ("ext4_fsync", "io_wq_worker", "ret_from_fork_asm")),
                ("file system", ("ext4_map_blocks", "ext4_file_write_iter", "io_write")),
                ("io_uring", ("io_submit_sqes", "__x64_sys_io_uring_enter", "do_syscall_64")),
                ("context switches", ("finish_task_switch", "__schedule", "schedule",
                                      "io_cqring_wait")),
                ("futex(2)", ("futex_wake", "__x64_sys_futex")),
                ("rest", ("something_new",))):
            with self.subTest(expected):
                self.assertEqual(classify(kernel(*names)), f"kernel: {expected}")

    def test_the_broker_is_classed_by_the_innermost_that_is_of_a_class(self):
        for expected, names in (
                ("memmove and memcpy", ("__memmove_avx_unaligned_erms", "millrace::net::a")),
                ("CRC", ("crc32c::hw_x86_64::crc_u64", "millrace::record::header::check")),
                ("allocator", ("_mi_page_malloc", "millrace::net::a")),
                ("decode and validate batches", ("millrace::record::validate::batch",)),
                ("runtime and io_uring", ("core::ptr::drop_in_place",
                                          "millrace::runtime::executor::run")),
                ("runtime and io_uring", ("io_uring::submit::Submitter::enter",)),
                ("millrace: storage", ("core::slice::sort", "<millrace::storage::log::Log as "
                                       "core::ops::drop::Drop>::drop", "millrace::net::a")),
                ("millrace: rest", ("main",))):
            with self.subTest(expected):
                self.assertEqual(classify(broker(*names)), expected)

    def test_what_is_inlined_is_classed_by_its_file(self):
        outer = Frame("millrace::net::server::poll", BROKER, file="/r/src/net/server.rs")
        for expected, name, file in (
                ("millrace: partition", "append", "/r/src/partition/append.rs"),
                ("millrace: net", "push<u64>", "/rustc/5980/library/alloc/src/vec/mod.rs"),
                ("CRC", "crc_u64", "/c/registry/src/index-1/crc32c-0.6.8/src/hw_x86_64.rs"),
                ("runtime and io_uring", "push",
                 "/c/registry/src/index-1/io-uring-0.7.1/src/squeue.rs"),
                ("millrace: net", "probe", "/rust/deps/hashbrown-0.16/src/control/group/sse2.rs"),
                ("millrace: net", "with_capacity_in<u8, alloc::alloc::Global>",
                 "/rustc/5980/library/alloc/src/vec/mod.rs"),
                ("millrace: net", "get", "/c/registry/src/index-1/bytes-1.11.0/src/bytes.rs")):
            with self.subTest(file):
                self.assertEqual(classify(sample(inlined(name, file), outer)), expected)

    def test_what_all_modules_use_is_for_the_innermost_of_them(self):
        copied = sample(Frame("__memmove_avx", "/lib/libc.so.6"),
                        inlined("copy", "/rustc/5980/library/core/src/ptr/mod.rs"),
                        inlined("append", "/r/src/storage/log.rs"), Frame("millrace::net::a"))
        self.assertEqual(beneficiary(copied), "storage")
        self.assertEqual(beneficiary(broker("main")), "none of ours")


class Flame(unittest.TestCase):
    def test_boxes_have_titles_and_lie_on_those_that_called_them(self):
        picture = ElementTree.fromstring(flame.svg(
            {("shard", "a<T>", "b"): 3, ("shard", "a<T>"): 1, ("shard", "c [k]"): 4}, "A & B"))
        space = "{http://www.w3.org/2000/svg}"
        boxes = {group.find(f"{space}title").text: group.find(f"{space}rect").attrib
                 for group in picture.iter(f"{space}g")}
        self.assertEqual(set(boxes), {"all: 100.00%", "shard: 100.00%", "a<T>: 50.00%",
                                      "b: 37.50%", "c [k]: 50.00%"})
        outer, inner = boxes["a<T>: 50.00%"], boxes["b: 37.50%"]
        self.assertEqual(int(outer["y"]) - int(inner["y"]), flame.ROW)
        self.assertAlmostEqual(float(inner["width"]) / float(outer["width"]), 0.75, places=2)
        self.assertEqual(inner["x"], outer["x"])

    def test_what_cannot_be_seen_is_left_out(self):
        self.assertNotIn("<title>tiny", flame.svg({("tiny",): 1, ("large",): 100_000}, ""))
        self.assertIn("</svg>", flame.svg({}, "nothing"))

    def test_a_name_is_cut_to_its_box(self):
        self.assertEqual(flame.fitting("millrace::storage::log::append", 90), "log::append")
        self.assertEqual(flame.fitting("a_long_name_of_c", 60), "a_long..")
        self.assertEqual(flame.fitting("a", 10), "")


class Page(unittest.TestCase):
    def test_shares_are_of_all_samples_and_cost_their_part_of_a_gib(self):
        text = page("produce", loads.LOADS["produce"], gathered())
        for line in ("| **kernel, all of it** | 25.0% | 43.3% | 0.1100 |",
                     "| millrace: storage | 50.0% | 50.0% | 0.2200 |",
                     "| `millrace::storage::log::append` | millrace | 50.0% | 0.2200 |",
                     "| not sampled, after | 1000.0 | 0.400 | 0.35 | 0.010 |",
                     "Not to be had on this machine: cycles."):
            self.assertIn(line, text.splitlines())
        self.assertIn("a GiB costs +12.8% against the mean of the others, which differ by 5.3%",
                      text)

    def test_a_load_is_a_row_of_the_comparison(self):
        self.assertEqual(loads.LOADS["produce"].producers, 8)
        command = loads.command("millrace", SimpleNamespace(address="h:1", pid=7), "t",
                                NAMED["consume-fresh"], 10)
        self.assertEqual(command[2], "consume")
        self.assertIn("--again", command)
        self.assertNotIn("--rate", command)

    def test_a_counter_that_is_not_there_is_none(self):
        self.assertEqual(read_counts("# begun\n\n0.50;msec;task-clock;502;100.00;0.4;CPUs\n"
                                     "<not supported>;;cycles;0;100.00;;\n7;;page-faults:u;1;1\n"),
                         {"task-clock": 0.5, "cycles": None, "page-faults": 7.0})


def gathered():
    samples = [broker("millrace::storage::log::append"), broker("millrace::storage::log::append"),
               broker("millrace::net::a"), kernel("tcp_sendmsg")]
    figures = {"mb_per_second": 1000.0, "cpu_seconds_per_gib": 0.38, "cpu_seconds_per_second": 0.35,
               "kernel_threads_seconds_per_gib": 0.01}
    runs = [figures | {"cpu_seconds_per_gib": cost} for cost in (0.38, 0.4, 0.44)]
    return {"samples": samples, "bare": (runs[0], runs[1]), "sampled": runs[2],
            "counts": {"task-clock": 9000.0, "cycles": None}, "gib": 9.0, "window": 9.0,
            "seconds": 10, "frequency": 499, "event": "cpu-clock", "flag": "-Cflag",
            "has_inlines": True, "machine": {"cores": 2}}


if __name__ == "__main__":
    unittest.main()
