"""Where the broker's CPU goes under a load: what is behind `perf/profile`.

| module | what it does |
|---|---|
| main | the command line, and one load from its broker's start to its page |
| build | a broker with frame pointers, in a target directory of its own |
| loads | the loads, as `millrace perf` is told them |
| sampling | Linux' perf: whether it may, `perf record`, `perf stat`, `perf script` |
| stacks | samples, as `perf script` prints them, and stacks folded together |
| inlines | what the compiler has inlined at an address, by the debug information |
| classes | which class of work a sample is |
| flame | a flame graph, as SVG |
| page | the page of a load |

`stacks`, `classes`, `flame` and `page` touch nothing but their arguments, and are tested.
"""
