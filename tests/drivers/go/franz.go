package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A member that was just assigned a partition has yet to learn where to begin.
const (
	seekWithin = 10 * time.Second
	seekRetry  = 10 * time.Millisecond
)

// lingerMost is for the first batch: those after it are sent when all their records are buffered.
const lingerMost = 50 * time.Millisecond

// franz is github.com/twmb/franz-go.
type franz struct{}

func (franz) capabilities() capabilities {
	return capabilities{
		Client:            "franz-go",
		Version:           versionOf("github.com/twmb/franz-go"),
		Codecs:            []string{"none", "gzip", "snappy", "lz4", "zstd"},
		Idempotent:        true,
		CustomPartitioner: true,
		Strategies:        []string{"range", "roundrobin", "cooperative"},
		Cooperative:       true,
		Static:            true,
		Pattern:           true,
		Seek:              true,
		SeekTime:          true,
		SeekInGroup:       true,
		Pause:             true,
		Isolation:         true,
		AutoCommit:        true,
		MixedGroup:        true,
		EmptyKept:         true,
		Admin:             adminDos,
	}
}

func franzOptions(seeds bootstrap) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(seeds...),
		kgo.WithLogger(kgo.BasicLogger(os.Stderr, kgo.LogLevelWarn, nil)),
		kgo.MetadataMinAge(retryWait),
	}
}

var franzCodecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

type franzProducer struct {
	client *kgo.Client
}

func (franz) producer(options produceOptions) (producer, error) {
	partitioner := kgo.StickyKeyPartitioner(nil)
	if options.Partitioner == "custom" {
		partitioner = kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int {
			return func(record *kgo.Record, partitions int) int { return sumOfBytes(record.Key, partitions) }
		})
	}
	all := append(franzOptions(options.Bootstrap),
		kgo.DefaultProduceTopic(options.Topic),
		kgo.RecordPartitioner(franzPartitioner{partitioner}),
		kgo.ProducerLinger(lingerMost),
	)
	if codec, ok := franzCodecs[options.Codec]; ok {
		all = append(all, kgo.ProducerBatchCompression(codec))
	}
	if options.Idempotent != nil && !*options.Idempotent {
		all = append(all, kgo.DisableIdempotentWrite())
	}
	client, err := kgo.NewClient(all...)
	return franzProducer{client}, err
}

func (p franzProducer) send(records []outgoing) ([]placed, error) {
	batch := make([]*kgo.Record, len(records))
	for i, record := range records {
		batch[i] = &kgo.Record{
			Key:       bytesOf(record.Key),
			Value:     bytesOf(record.Value),
			Timestamp: record.time(),
			Partition: record.partitionOrNone(),
		}
		for _, header := range record.Headers {
			batch[i].Headers = append(batch[i].Headers, kgo.RecordHeader{Key: *header[0], Value: bytesOf(header[1])})
		}
	}
	if err := p.client.ProduceSync(context.Background(), batch...).FirstErr(); err != nil {
		return nil, err
	}
	all := make([]placed, len(batch))
	for i, record := range batch {
		all[i] = placed{record.Partition, record.Offset}
	}
	return all, nil
}

func (p franzProducer) close() error {
	p.client.Close()
	return nil
}

// franzPartitioner leaves the records that name a partition where they are.
type franzPartitioner struct {
	otherwise kgo.Partitioner
}

func (p franzPartitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return franzTopicPartitioner{p.otherwise.ForTopic(topic)}
}

type franzTopicPartitioner struct {
	kgo.TopicPartitioner
}

func (p franzTopicPartitioner) RequiresConsistency(record *kgo.Record) bool {
	return record.Partition >= 0 || p.TopicPartitioner.RequiresConsistency(record)
}

func (p franzTopicPartitioner) Partition(record *kgo.Record, partitions int) int {
	if record.Partition >= 0 {
		return int(record.Partition)
	}
	return p.TopicPartitioner.Partition(record, partitions)
}

func (p franzTopicPartitioner) OnNewBatch() {
	if sticky, ok := p.TopicPartitioner.(kgo.TopicPartitionerOnNewBatch); ok {
		sticky.OnNewBatch()
	}
}

type franzConsumer struct {
	member  *member
	client  *kgo.Client
	inGroup bool
	// actions run between two polls, while no rebalance can.
	actions chan func()
	ended   chan struct{}
}

func (franz) consumer(options consumeOptions, member *member) (consumer, error) {
	c := &franzConsumer{
		member: member, inGroup: options.Group != "",
		actions: make(chan func()), ended: make(chan struct{}),
	}
	start := kgo.NewOffset().AtStart()
	if options.Reset == "latest" {
		start = kgo.NewOffset().AtEnd()
	}
	all := append(franzOptions(options.Bootstrap),
		kgo.FetchMaxWait(fetchWait),
		kgo.ConsumeStartOffset(start),
		kgo.ConsumeResetOffset(start),
	)
	if options.Isolation == "read_committed" {
		all = append(all, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if options.MetadataMaxAgeMs > 0 {
		all = append(all, kgo.MetadataMaxAge(milliseconds(options.MetadataMaxAgeMs)))
	}
	if !c.inGroup {
		offsets := map[string]map[int32]kgo.Offset{}
		for _, at := range options.Assign {
			set(offsets, at.partition, kgo.NewOffset().At(at.offset))
		}
		all = append(all, kgo.ConsumePartitions(offsets))
	} else {
		all = append(all, c.groupOptions(options)...)
	}
	client, err := kgo.NewClient(all...)
	c.client = client
	if err == nil && !c.inGroup {
		member.replace(options.assigned())
	}
	return c, err
}

func (c *franzConsumer) groupOptions(options consumeOptions) []kgo.Opt {
	all := []kgo.Opt{
		kgo.ConsumerGroup(options.Group),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) {
			c.member.add(flatten(added))
		}),
		kgo.OnPartitionsRevoked(func(running context.Context, client *kgo.Client, revoked map[string][]int32) {
			if options.AutoCommit {
				// What was polled is printed: a rebalance waits for it.
				if err := client.CommitUncommittedOffsets(running); err != nil {
					logf("commit before a rebalance: %v", err)
				}
			}
			c.member.take("revoked", flatten(revoked))
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
			c.member.take("lost", flatten(lost))
		}),
	}
	if options.Pattern != "" {
		all = append(all, kgo.ConsumeRegex(), kgo.ConsumeTopics(options.Pattern))
	} else {
		all = append(all, kgo.ConsumeTopics(options.Topics...))
	}
	switch options.Strategy {
	case "range":
		all = append(all, kgo.Balancers(kgo.RangeBalancer()))
	case "roundrobin":
		all = append(all, kgo.Balancers(kgo.RoundRobinBalancer()))
	case "cooperative":
		all = append(all, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	}
	if options.Instance != "" {
		all = append(all, kgo.InstanceID(options.Instance))
	}
	if options.SessionMs > 0 {
		all = append(all, kgo.SessionTimeout(milliseconds(options.SessionMs)))
	}
	if options.HeartbeatMs > 0 {
		all = append(all, kgo.HeartbeatInterval(milliseconds(options.HeartbeatMs)))
	}
	if !options.AutoCommit {
		all = append(all, kgo.DisableAutoCommit())
	} else if options.AutoCommitMs > 0 {
		all = append(all, kgo.AutoCommitInterval(milliseconds(options.AutoCommitMs)))
	}
	return all
}

func (c *franzConsumer) run(running context.Context) error {
	defer c.client.CloseAllowingRebalance()
	defer close(c.ended)
	for running.Err() == nil {
		fetches, action := c.poll(running)
		for _, failed := range fetches.Errors() {
			if isFinal(failed.Err) {
				return failed.Err
			}
			if running.Err() == nil && !errors.Is(failed.Err, context.Canceled) {
				logf("%s %d: %v", failed.Topic, failed.Partition, failed.Err)
			}
		}
		fetches.EachRecord(c.print)
		if action != nil {
			action()
		}
		c.client.AllowRebalance()
	}
	return nil
}

// poll waits for records or for an action, which interrupts it.
func (c *franzConsumer) poll(running context.Context) (fetches kgo.Fetches, action func()) {
	polling, stop := context.WithCancel(running)
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		select {
		case action = <-c.actions:
			stop()
		case <-polling.Done():
		}
	}()
	fetches = c.client.PollFetches(polling)
	stop()
	<-waited
	return fetches, action
}

func (c *franzConsumer) print(record *kgo.Record) {
	var headers []header
	for _, each := range record.Headers {
		headers = append(headers, header{&each.Key, textOf(each.Value)})
	}
	at := position{partition{record.Topic, record.Partition}, record.Offset}
	c.member.record(at, record.Key, record.Value, headers, record.Timestamp)
}

// between runs an action between two polls.
func (c *franzConsumer) between(action func() error) error {
	done := make(chan error, 1)
	select {
	case c.actions <- func() { done <- action() }:
		return <-done
	case <-c.ended:
		return context.Canceled
	}
}

func (c *franzConsumer) commit(positions []position) error {
	return c.between(func() error {
		var failed error
		c.client.CommitOffsetsSync(context.Background(), epochOffsets(positions),
			func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
				failed = err
				if err != nil {
					return
				}
				for _, topic := range response.Topics {
					for _, partition := range topic.Partitions {
						if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
							failed = err
						}
					}
				}
			})
		return failed
	})
}

// seek waits until the partition has a place that can be changed: franz-go passes over the others.
func (c *franzConsumer) seek(to position) error {
	for given := time.Now(); ; {
		moved := false
		err := c.between(func() error {
			moved = c.move(to)
			return nil
		})
		switch {
		case err != nil || moved:
			return err
		case time.Since(given) > seekWithin:
			return fmt.Errorf("%v is not consumed", to.partition)
		}
		time.Sleep(seekRetry)
	}
}

func (c *franzConsumer) move(to position) bool {
	if !c.inGroup {
		c.member.forget(to.partition)
		c.client.RemoveConsumePartitions(grouped([]partition{to.partition}))
		offsets := map[string]map[int32]kgo.Offset{}
		set(offsets, to.partition, kgo.NewOffset().At(to.offset))
		c.client.AddConsumePartitions(offsets)
		return true
	}
	_, isConsumed := c.client.CommittedOffsets()[to.topic][to.number]
	if isConsumed {
		c.member.forget(to.partition)
		c.client.SetOffsets(epochOffsets([]position{to}))
	}
	return isConsumed
}

func (c *franzConsumer) seekTime(of partition, timestamp int64) error {
	listed, err := kadm.NewClient(c.client).ListOffsetsAfterMilli(context.Background(), timestamp, of.topic)
	if err != nil {
		return err
	}
	found, ok := listed.Lookup(of.topic, of.number)
	if !ok {
		return fmt.Errorf("no offset of %v", of)
	}
	if found.Err != nil {
		return found.Err
	}
	return c.seek(position{of, found.Offset})
}

func (c *franzConsumer) pause() error {
	return c.between(func() error {
		c.client.PauseFetchPartitions(grouped(c.member.all()))
		return nil
	})
}

func (c *franzConsumer) resume() error {
	return c.between(func() error {
		c.client.ResumeFetchPartitions(c.client.PauseFetchPartitions(nil))
		return nil
	})
}

func epochOffsets(positions []position) map[string]map[int32]kgo.EpochOffset {
	offsets := map[string]map[int32]kgo.EpochOffset{}
	for _, at := range positions {
		set(offsets, at.partition, kgo.EpochOffset{Epoch: -1, Offset: at.offset})
	}
	return offsets
}
