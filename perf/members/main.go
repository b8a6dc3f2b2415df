// Many members of one consumer group in one process, for perf/rebalance.
//
// It says on standard output, one JSON object a line, what each member was assigned in which
// generation and when; it takes commands on standard input: "join N" starts member N, "leave N"
// has it leave the group, and the end of the input ends the process.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type event struct {
	Event      string  `json:"event"`
	Member     int     `json:"member"`
	Generation int32   `json:"generation"`
	Partitions []int32 `json:"partitions"`
	// Nanoseconds of CLOCK_REALTIME, which all processes of one machine share.
	Nanos int64 `json:"nanos"`
}

var (
	bootstrap = flag.String("bootstrap", "127.0.0.1:9092", "where the broker is")
	group     = flag.String("group", "rebalance", "the group")
	topic     = flag.String("topic", "rebalance", "the topic")
	heartbeat = flag.Duration("heartbeat", 500*time.Millisecond, "between signs of life")
	session   = flag.Duration("session", 45*time.Second, "the session timeout")
	from      = flag.Int("from", 0, "the first member")
	count     = flag.Int("count", 1, "how many members")

	out     = json.NewEncoder(os.Stdout)
	outLock sync.Mutex
)

func tell(name string, member int, generation int32, partitions []int32) {
	outLock.Lock()
	defer outLock.Unlock()
	out.Encode(event{name, member, generation, partitions, time.Now().UnixNano()})
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// start makes a member that joins and consumes until its client is closed.
func start(member int) *kgo.Client {
	changed := func(context.Context, *kgo.Client, map[string][]int32) {}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(*bootstrap),
		kgo.ClientID("member"),
		kgo.ConsumerGroup(*group),
		kgo.ConsumeTopics(*topic),
		kgo.Balancers(kgo.RangeBalancer()),
		kgo.HeartbeatInterval(*heartbeat),
		kgo.SessionTimeout(*session),
		kgo.RebalanceTimeout(60*time.Second),
		kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(func(_ context.Context, client *kgo.Client, assigned map[string][]int32) {
			_, generation := client.GroupMetadata()
			// Empty and not null where it was given none.
			tell("assigned", member, generation, append([]int32{}, assigned[*topic]...))
		}),
		kgo.OnPartitionsRevoked(changed),
		kgo.OnPartitionsLost(changed),
	)
	if err != nil {
		fail(err)
	}
	go func() {
		for {
			if client.PollFetches(context.Background()).IsClientClosed() {
				return
			}
		}
	}()
	return client
}

func main() {
	flag.Parse()
	members := map[int]*kgo.Client{}
	for member := *from; member < *from+*count; member++ {
		members[member] = start(member)
	}
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		var command string
		var member int
		if _, err := fmt.Sscan(input.Text(), &command, &member); err != nil {
			fail(err)
		}
		switch command {
		case "join":
			members[member] = start(member)
		case "leave":
			client := members[member]
			delete(members, member)
			tell("leaving", member, 0, nil)
			client.Close()
			tell("left", member, 0, nil)
		default:
			fail(fmt.Errorf("no such command: %s", command))
		}
	}
}
