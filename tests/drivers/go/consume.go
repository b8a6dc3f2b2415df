package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// fetchWait is how long the broker may hold a fetch back: short, so that the driver settles fast.
	fetchWait = 100 * time.Millisecond
	// retryWait lies between two tries of what a broker refused or did not answer.
	retryWait = 100 * time.Millisecond
)

type consumeOptions struct {
	Bootstrap        bootstrap  `json:"bootstrap"`
	Topics           []string   `json:"topics"`
	Pattern          string     `json:"pattern"`
	Group            string     `json:"group"`
	Instance         string     `json:"instance"`
	Strategy         string     `json:"strategy"`
	Reset            string     `json:"reset"`
	AutoCommit       bool       `json:"auto_commit"`
	AutoCommitMs     int        `json:"auto_commit_ms"`
	SessionMs        int        `json:"session_ms"`
	HeartbeatMs      int        `json:"heartbeat_ms"`
	Isolation        string     `json:"isolation"`
	MetadataMaxAgeMs int        `json:"metadata_max_age_ms"`
	Assign           []position `json:"assign"`
}

// assigned is the partitions that are consumed without a group.
func (o consumeOptions) assigned() []partition {
	var all []partition
	for _, at := range o.Assign {
		all = append(all, at.partition)
	}
	return all
}

type consumeCommand struct {
	Do        string `json:"do"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Timestamp int64  `json:"timestamp"`
}

// consumer is a member of a group, or a reader of partitions it was told. It tells its member what
// it owns and reads.
type consumer interface {
	// run consumes until the context ends; then it leaves the group.
	run(context.Context) error
	// commit returns when the coordinator has taken all the positions.
	commit([]position) error
	// seek makes the member forget what it printed when nothing of it can follow any more.
	seek(position) error
	seekTime(of partition, timestamp int64) error
	pause() error
	resume() error
}

func consume(client client, options consumeOptions) error {
	member := &member{owned: map[partition]struct{}{}, printed: map[partition]int64{}}
	consumer, err := client.consumer(options, member)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- consumer.run(running) }()
	for commands := commands[consumeCommand](); ; {
		select {
		case err := <-ended:
			return cmp.Or(err, errors.New("the consumer ended by itself"))
		case command, ok := <-commands:
			if !ok || command.Do == "close" {
				stop()
				if err := <-ended; err != nil {
					return err
				}
				emit(event{"event": "closed"})
				return nil
			}
			if err := obey(consumer, member, command); err != nil {
				return fmt.Errorf("%s: %w", command.Do, err)
			}
		}
	}
}

func obey(consumer consumer, member *member, command consumeCommand) error {
	at := partition{command.Topic, command.Partition}
	switch command.Do {
	case "commit":
		member.commit(consumer)
		return nil
	case "seek":
		return consumer.seek(position{at, command.Offset})
	case "seek_time":
		return consumer.seekTime(at, command.Timestamp)
	case "pause":
		return told("paused", consumer.pause())
	case "resume":
		return told("resumed", consumer.resume())
	}
	return errors.New("no such command")
}

// told prints an event when what it stands for is done.
func told(name string, err error) error {
	if err == nil {
		emit(event{"event": name})
	}
	return err
}

// errBetweenGenerations is a commit that came when the last generation had just ended.
var errBetweenGenerations = errors.New("the group rebalances")

// lacks is the answer of a client to what its capabilities deny.
func lacks(client, what string) error {
	return fmt.Errorf("%s cannot %s", client, what)
}

// member is what the consumer owns and what it has printed of it. Its lock keeps the order of events.
type member struct {
	sync.Mutex
	owned map[partition]struct{}
	// printed has, for each partition owned, the offset behind the last record printed.
	printed map[partition]int64
}

// incoming is a record as it is printed.
type incoming struct {
	Event     string   `json:"event"`
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	Key       *string  `json:"key"`
	Value     *string  `json:"value"`
	Headers   []header `json:"headers"`
	Timestamp int64    `json:"timestamp"`
}

// record prints a record.
func (m *member) record(at position, key, value []byte, headers []header, timestamp time.Time) {
	m.Lock()
	defer m.Unlock()
	if headers == nil {
		headers = []header{}
	}
	emit(incoming{
		"record", at.topic, at.number, at.offset,
		textOf(key), textOf(value), headers, timestamp.UnixMilli(),
	})
	m.printed[at.partition] = at.offset + 1
}

// add prints all that is owned, with some partitions more, or none.
func (m *member) add(partitions []partition) {
	m.Lock()
	defer m.Unlock()
	for _, added := range partitions {
		m.owned[added] = struct{}{}
	}
	m.printOwned()
}

// take prints what is taken away as the event of that name.
func (m *member) take(name string, partitions []partition) {
	m.Lock()
	defer m.Unlock()
	if len(partitions) == 0 {
		return
	}
	for _, taken := range partitions {
		delete(m.owned, taken)
		delete(m.printed, taken)
	}
	emit(event{"event": name, "partitions": sorted(partitions, comparePartitions)})
}

// replace makes the partitions all that is owned, and prints them.
func (m *member) replace(partitions []partition) {
	m.Lock()
	defer m.Unlock()
	m.owned = ownedSet(partitions)
	m.printOwned()
}

// change is replace where the partitions are others than before.
func (m *member) change(partitions []partition) {
	m.Lock()
	defer m.Unlock()
	if owned := ownedSet(partitions); !maps.Equal(owned, m.owned) {
		m.owned = owned
		m.printOwned()
	}
}

func ownedSet(partitions []partition) map[partition]struct{} {
	owned := map[partition]struct{}{}
	for _, partition := range partitions {
		owned[partition] = struct{}{}
	}
	return owned
}

func (m *member) printOwned() {
	owned := slices.SortedFunc(maps.Keys(m.owned), comparePartitions)
	emit(event{"event": "assigned", "partitions": sorted(owned, comparePartitions)})
}

// all is what is owned.
func (m *member) all() []partition {
	m.Lock()
	defer m.Unlock()
	return slices.Collect(maps.Keys(m.owned))
}

// commit commits the positions behind what was printed. A refusal is an event and not the end: the
// group may move on without this member, and so does the member.
func (m *member) commit(consumer consumer) {
	m.Lock()
	var positions []position
	for partition, offset := range m.printed {
		positions = append(positions, position{partition, offset})
	}
	m.Unlock()
	positions = sorted(positions, comparePositions)
	if len(positions) > 0 {
		if err := consumer.commit(positions); err != nil {
			emit(described(event{"event": "failed", "do": "commit"}, err))
			return
		}
	}
	emit(event{"event": "committed", "offsets": positions})
}

// forget drops the position behind what was printed of a partition: another one is about to be read.
func (m *member) forget(of partition) {
	m.Lock()
	defer m.Unlock()
	delete(m.printed, of)
}

// retry waits between two tries, and tells whether to try again.
func retry(running context.Context) bool {
	select {
	case <-running.Done():
		return false
	case <-time.After(retryWait):
		return true
	}
}

func milliseconds(number int) time.Duration {
	return time.Duration(number) * time.Millisecond
}
