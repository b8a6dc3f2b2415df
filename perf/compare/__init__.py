"""The comparison of brokers behind `perf/run`.

| module | what it does |
|---|---|
| options | the command line |
| workloads | what is measured: a row of the table each |
| plan | the order of the turns, and how long they will take |
| turns | one turn: a broker from an empty directory, its loads, what came of them |
| producing, consuming, latencies, keeping | turns that measure these |
| starts | turns that measure a start, or a broker that has nothing to do |
| serving | what turns are made of: brokers, topics, loads, what they used |
| clients | librdkafka, Kafka's own tools and `millrace perf`, and what they say |
| wire | the few requests that tell whether a broker is ready |
| disk | where the data lies: loop mounts, a dropped page cache, bare reads |
| machine | what this machine is |
| figures | medians and spread |
| targets | whether each target is met |
| publish | what is written of each set, and of all that are there |
| report | the page |
| plots | the pictures, by matplotlib, in a process of its own |

`figures`, `targets` and `report` touch nothing but their arguments, and are tested.
"""
