package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/segmentio/kafka-go"
)

// kafkaGo is github.com/segmentio/kafka-go. Its members send a subscription that Apache Kafka's own
// client cannot read, and it cannot describe a group whose members send a newer one.
type kafkaGo struct{}

func (kafkaGo) capabilities() capabilities {
	return capabilities{
		Client:            "kafka-go",
		Version:           versionOf("github.com/segmentio/kafka-go"),
		Codecs:            []string{"none", "gzip", "snappy", "lz4", "zstd"},
		CustomPartitioner: true,
		Strategies:        []string{"range", "roundrobin"},
		Seek:              true,
		SeekTime:          true,
		SeekInGroup:       true,
		Isolation:         true,
		AutoCommit:        true,
		Admin:             adminDos,
	}
}

// kafkaGoLog has what goes wrong, for standard error.
var kafkaGoLog = kafka.LoggerFunc(logf)

type kafkaGoProducer struct {
	*kafka.Writer
}

// kafkaGoOutgoing goes with a message through the writer, which tells what became of it.
type kafkaGoOutgoing struct {
	partition int32
	placed    *placed
}

var kafkaGoCodecs = map[string]kafka.Compression{
	"gzip":   kafka.Gzip,
	"snappy": kafka.Snappy,
	"lz4":    kafka.Lz4,
	"zstd":   kafka.Zstd,
}

func (kafkaGo) producer(options produceOptions) (producer, error) {
	if options.Idempotent != nil && *options.Idempotent {
		return nil, lacks("kafka-go", "produce idempotently")
	}
	var balancer kafka.Balancer = &kafka.RoundRobin{}
	if options.Partitioner == "custom" {
		balancer = kafka.BalancerFunc(func(message kafka.Message, partitions ...int) int {
			return partitions[sumOfBytes(message.Key, len(partitions))]
		})
	}
	return kafkaGoProducer{&kafka.Writer{
		Addr:         kafka.TCP(options.Bootstrap...),
		Topic:        options.Topic,
		Compression:  kafkaGoCodecs[options.Codec],
		RequiredAcks: kafka.RequireAll,
		MaxAttempts:  100,
		BatchSize:    options.Batch,
		BatchTimeout: gatherWait,
		ErrorLogger:  kafkaGoLog,
		Balancer: kafka.BalancerFunc(func(message kafka.Message, partitions ...int) int {
			if wanted := message.WriterData.(kafkaGoOutgoing).partition; wanted >= 0 {
				return int(wanted)
			}
			return balancer.Balance(message, partitions...)
		}),
		Completion: func(messages []kafka.Message, err error) {
			for _, message := range messages {
				*message.WriterData.(kafkaGoOutgoing).placed = placed{int32(message.Partition), message.Offset}
			}
		},
	}}, nil
}

func (p kafkaGoProducer) send(records []outgoing) ([]placed, error) {
	all := make([]placed, len(records))
	batch := make([]kafka.Message, len(records))
	for i, record := range records {
		batch[i] = kafka.Message{
			Key:        bytesOf(record.Key),
			Value:      bytesOf(record.Value),
			Time:       record.time(),
			WriterData: kafkaGoOutgoing{record.partitionOrNone(), &all[i]},
		}
		for _, header := range record.Headers {
			batch[i].Headers = append(batch[i].Headers, kafka.Header{Key: *header[0], Value: bytesOf(header[1])})
		}
	}
	err := p.WriteMessages(context.Background(), batch...)
	var failed kafka.WriteErrors
	if errors.As(err, &failed) {
		// The list says which of them failed, and unwraps to none of them.
		err = errors.Join(failed...)
	}
	return all, err
}

func (p kafkaGoProducer) close() error {
	return p.Close()
}

func (kafkaGo) consumer(options consumeOptions, member *member) (consumer, error) {
	switch {
	case options.Pattern != "":
		return nil, lacks("kafka-go", "subscribe to a pattern")
	case options.Instance != "":
		return nil, lacks("kafka-go", "be a static member")
	case options.Strategy == "cooperative":
		return nil, lacks("kafka-go", "rebalance cooperatively")
	}
	flows := &kafkaGoFlows{options: options, member: member}
	switch {
	case options.Group == "":
		return kafkaGoReader{flows}, nil
	case options.AutoCommit:
		return kafkaGoAutoGroup{flows}, nil
	}
	return &kafkaGoGroup{kafkaGoFlows: flows}, nil
}

func kafkaGoPrint(member *member, message kafka.Message) {
	var headers []header
	for _, each := range message.Headers {
		headers = append(headers, header{&each.Key, textOf(each.Value)})
	}
	at := position{partition{message.Topic, int32(message.Partition)}, message.Offset}
	member.record(at, message.Key, message.Value, headers, message.Time)
}

// kafkaGoFlows reads partitions, each with a reader of its own in a goroutine.
type kafkaGoFlows struct {
	options consumeOptions
	member  *member

	lock  sync.Mutex
	flows map[partition]*kafkaGoFlow
}

type kafkaGoFlow struct {
	reader *kafka.Reader
	stop   context.CancelFunc
	ended  chan struct{}
}

// start says what is owned and reads it from these positions on; a command waits for both.
func (f *kafkaGoFlows) start(positions []position) error {
	f.lock.Lock()
	defer f.lock.Unlock()
	var owned []partition
	for _, at := range positions {
		owned = append(owned, at.partition)
	}
	f.member.replace(owned)
	f.flows = map[partition]*kafkaGoFlow{}
	for _, at := range positions {
		config := f.readerConfig()
		config.Topic, config.Partition = at.topic, int(at.number)
		flow := &kafkaGoFlow{reader: kafka.NewReader(config)}
		if err := flow.reader.SetOffset(at.offset); err != nil {
			return err
		}
		f.flows[at.partition] = flow
		f.read(flow)
	}
	return nil
}

func (f *kafkaGoFlows) readerConfig() kafka.ReaderConfig {
	config := kafka.ReaderConfig{
		Brokers:        f.options.Bootstrap,
		MaxBytes:       10 << 20,
		MaxWait:        fetchWait,
		ReadBackoffMin: fetchWait / 10,
		ReadBackoffMax: fetchWait,
		ErrorLogger:    kafkaGoLog,
	}
	if f.options.Isolation == "read_committed" {
		config.IsolationLevel = kafka.ReadCommitted
	}
	return config
}

func (f *kafkaGoFlows) read(flow *kafkaGoFlow) {
	reading, stop := context.WithCancel(context.Background())
	flow.stop, flow.ended = stop, make(chan struct{})
	go func() {
		defer close(flow.ended)
		for {
			message, err := flow.reader.ReadMessage(reading)
			switch {
			case reading.Err() != nil:
				return
			case err != nil:
				logf("read: %v", err)
			default:
				kafkaGoPrint(f.member, message)
			}
		}
	}()
}

// stop ends all of it.
func (f *kafkaGoFlows) stop() {
	f.lock.Lock()
	defer f.lock.Unlock()
	for _, flow := range f.flows {
		flow.stop()
	}
	for _, flow := range f.flows {
		<-flow.ended
		if err := flow.reader.Close(); err != nil {
			logf("close: %v", err)
		}
	}
	f.flows = nil
}

func (f *kafkaGoFlows) seek(to position) error {
	return f.move(to.partition, func(reader *kafka.Reader) error { return reader.SetOffset(to.offset) })
}

func (f *kafkaGoFlows) seekTime(of partition, timestamp int64) error {
	return f.move(of, func(reader *kafka.Reader) error {
		return reader.SetOffsetAt(context.Background(), moment(timestamp).time())
	})
}

// move changes where a reader reads while nothing waits for it, or the old place would come once more.
func (f *kafkaGoFlows) move(of partition, move func(*kafka.Reader) error) error {
	f.lock.Lock()
	defer f.lock.Unlock()
	flow, ok := f.flows[of]
	if !ok {
		return fmt.Errorf("%v is not read", of)
	}
	flow.stop()
	<-flow.ended
	f.member.forget(of)
	defer f.read(flow)
	return move(flow.reader)
}

func (f *kafkaGoFlows) pause() error {
	return lacks("kafka-go", "pause")
}

func (f *kafkaGoFlows) resume() error {
	return lacks("kafka-go", "resume")
}

func (f *kafkaGoFlows) commit([]position) error {
	return errors.New("there is nothing to commit by hand")
}

// kafkaGoReader reads the partitions that it was told.
type kafkaGoReader struct {
	*kafkaGoFlows
}

func (r kafkaGoReader) run(running context.Context) error {
	if err := r.start(r.options.Assign); err != nil {
		return err
	}
	<-running.Done()
	r.stop()
	return nil
}

// kafkaGoGroup is a member of a group that commits by hand.
type kafkaGoGroup struct {
	*kafkaGoFlows
	generation *kafka.Generation
}

func (g *kafkaGoGroup) run(running context.Context) error {
	config := g.readerConfig()
	g.options.intoGroup(&config)
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:                     config.GroupID,
		Brokers:                config.Brokers,
		Topics:                 config.GroupTopics,
		GroupBalancers:         config.GroupBalancers,
		HeartbeatInterval:      config.HeartbeatInterval,
		SessionTimeout:         config.SessionTimeout,
		JoinGroupBackoff:       config.JoinGroupBackoff,
		WatchPartitionChanges:  config.WatchPartitionChanges,
		PartitionWatchInterval: config.PartitionWatchInterval,
		StartOffset:            config.StartOffset,
		ErrorLogger:            config.ErrorLogger,
	})
	if err != nil {
		return err
	}
	for running.Err() == nil {
		generation, err := group.Next(running)
		switch {
		case err == nil:
			generation.Start(func(current context.Context) { g.own(generation, current) })
		case running.Err() != nil:
		case isFinal(err):
			return errors.Join(err, group.Close())
		default:
			logf("group: %v", err)
		}
	}
	return group.Close()
}

// intoGroup sets what a member of a group goes by.
func (o consumeOptions) intoGroup(config *kafka.ReaderConfig) {
	config.GroupID = o.Group
	config.GroupTopics = o.Topics
	config.StartOffset = kafka.FirstOffset
	if o.Reset == "latest" {
		config.StartOffset = kafka.LastOffset
	}
	switch o.Strategy {
	case "range":
		config.GroupBalancers = []kafka.GroupBalancer{kafka.RangeGroupBalancer{}}
	case "roundrobin":
		config.GroupBalancers = []kafka.GroupBalancer{kafka.RoundRobinGroupBalancer{}}
	}
	config.SessionTimeout = milliseconds(o.SessionMs)
	config.HeartbeatInterval = milliseconds(o.HeartbeatMs)
	config.JoinGroupBackoff = retryWait
	config.WatchPartitionChanges = true
	config.PartitionWatchInterval = milliseconds(o.MetadataMaxAgeMs)
	config.CommitInterval = milliseconds(o.AutoCommitMs)
}

// own reads what a generation gave, until it ends.
func (g *kafkaGoGroup) own(generation *kafka.Generation, current context.Context) {
	var positions []position
	for topic, assigned := range generation.Assignments {
		for _, each := range assigned {
			positions = append(positions, position{partition{topic, int32(each.ID)}, each.Offset})
		}
	}
	g.setGeneration(generation)
	if err := g.start(positions); err != nil {
		logf("read: %v", err)
	}
	<-current.Done()
	g.stop()
	g.setGeneration(nil)
	g.member.take("revoked", g.member.all())
}

func (g *kafkaGoGroup) setGeneration(generation *kafka.Generation) {
	g.lock.Lock()
	defer g.lock.Unlock()
	g.generation = generation
}

func (g *kafkaGoGroup) commit(positions []position) error {
	g.lock.Lock()
	generation := g.generation
	g.lock.Unlock()
	if generation == nil {
		return errBetweenGenerations
	}
	offsets := map[string]map[int]int64{}
	for _, at := range positions {
		set(offsets, at.partition, at.offset)
	}
	return generation.CommitOffsets(offsets)
}

// kafkaGoAutoGroup is a member that commits by itself: a reader with a group, which has no partition
// to seek in and says in its log alone what it was assigned.
type kafkaGoAutoGroup struct {
	*kafkaGoFlows
}

var kafkaGoSubscribed = regexp.MustCompile(`topic:(\S+) partition:(\d+)`)

func (g kafkaGoAutoGroup) run(running context.Context) error {
	config := g.readerConfig()
	g.options.intoGroup(&config)
	if config.CommitInterval == 0 {
		config.CommitInterval = milliseconds(5000)
	}
	config.Logger = kafka.LoggerFunc(func(format string, arguments ...any) {
		if !strings.HasPrefix(format, "subscribed to topics and partitions") {
			return
		}
		var owned []partition
		for _, match := range kafkaGoSubscribed.FindAllStringSubmatch(fmt.Sprintf(format, arguments...), -1) {
			number, err := strconv.Atoi(match[2])
			if err != nil {
				logf("%v", err)
			}
			owned = append(owned, partition{match[1], int32(number)})
		}
		g.member.replace(owned)
	})
	reader := kafka.NewReader(config)
	for {
		message, err := reader.ReadMessage(running)
		switch {
		case running.Err() != nil || errors.Is(err, io.EOF):
			return reader.Close()
		case err == nil:
			kafkaGoPrint(g.member, message)
		case isFinal(err):
			return errors.Join(err, reader.Close())
		default:
			logf("read: %v", err)
		}
	}
}
