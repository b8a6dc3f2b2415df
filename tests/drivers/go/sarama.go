package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// commitTries bounds how often a commit is tried over broken connections.
const commitTries = 20

// saramaClient is github.com/IBM/sarama.
type saramaClient struct{}

func (saramaClient) capabilities() capabilities {
	return capabilities{
		Client:            "sarama",
		Version:           versionOf("github.com/IBM/sarama"),
		Codecs:            []string{"none", "gzip", "snappy", "lz4", "zstd"},
		Idempotent:        true,
		CustomPartitioner: true,
		Strategies:        []string{"range", "roundrobin", "cooperative"},
		Cooperative:       true,
		Static:            true,
		Seek:              true,
		SeekTime:          true,
		Pause:             true,
		Isolation:         true,
		AutoCommit:        true,
		MixedGroup:        true,
		EmptyKept:         true,
		Admin:             adminDos,
	}
}

func saramaConfig() *sarama.Config {
	sarama.Logger = log.New(os.Stderr, "", log.LstdFlags|log.Lmicroseconds)
	config := sarama.NewConfig()
	// The newest requests that sarama knows; it asks the broker which of them it has.
	config.Version = sarama.MaxVersion
	// A minute, as the other clients have it: a broker may have to start first.
	config.Metadata.Retry.Max = 600
	config.Metadata.Retry.Backoff = retryWait
	return config
}

var saramaCodecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

type saramaProducer struct {
	topic string
	sarama.SyncProducer
}

func (saramaClient) producer(options produceOptions) (producer, error) {
	config := saramaConfig()
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Producer.Retry.Max = 1000
	config.Producer.Retry.Backoff = retryWait
	config.Producer.Compression = saramaCodecs[options.Codec]
	config.Producer.Flush.Messages = options.Batch
	config.Producer.Flush.MaxMessages = options.Batch
	config.Producer.Flush.Frequency = gatherWait
	if options.Idempotent != nil && *options.Idempotent {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
	}
	otherwise := config.Producer.Partitioner
	config.Producer.Partitioner = func(topic string) sarama.Partitioner {
		if options.Partitioner == "custom" {
			return saramaPartitioner{saramaSumOfBytes{}}
		}
		return saramaPartitioner{otherwise(topic)}
	}
	producer, err := sarama.NewSyncProducer(options.Bootstrap, config)
	return saramaProducer{options.Topic, producer}, err
}

func (p saramaProducer) send(records []outgoing) ([]placed, error) {
	batch := make([]*sarama.ProducerMessage, len(records))
	for i, record := range records {
		batch[i] = &sarama.ProducerMessage{
			Topic:     p.topic,
			Key:       saramaEncoder(record.Key),
			Value:     saramaEncoder(record.Value),
			Timestamp: record.time(),
			Partition: record.partitionOrNone(),
		}
		for _, header := range record.Headers {
			batch[i].Headers = append(batch[i].Headers,
				sarama.RecordHeader{Key: bytesOf(header[0]), Value: bytesOf(header[1])})
		}
	}
	if err := p.SendMessages(batch); err != nil {
		var failed sarama.ProducerErrors
		if errors.As(err, &failed) && len(failed) > 0 {
			return nil, failed[0]
		}
		return nil, err
	}
	all := make([]placed, len(batch))
	for i, message := range batch {
		all[i] = placed{message.Partition, message.Offset}
	}
	return all, nil
}

func (p saramaProducer) close() error {
	return p.Close()
}

// saramaEncoder keeps null apart from empty.
func saramaEncoder(text *string) sarama.Encoder {
	if text == nil {
		return nil
	}
	return sarama.StringEncoder(*text)
}

// saramaPartitioner leaves the messages that name a partition where they are.
type saramaPartitioner struct {
	sarama.Partitioner
}

func (p saramaPartitioner) Partition(message *sarama.ProducerMessage, partitions int32) (int32, error) {
	if message.Partition >= 0 {
		return message.Partition, nil
	}
	return p.Partitioner.Partition(message, partitions)
}

type saramaSumOfBytes struct{}

func (saramaSumOfBytes) Partition(message *sarama.ProducerMessage, partitions int32) (int32, error) {
	if message.Key == nil {
		return 0, nil
	}
	key, err := message.Key.Encode()
	return int32(sumOfBytes(key, int(partitions))), err
}

func (saramaSumOfBytes) RequiresConsistency() bool {
	return true
}

func (saramaClient) consumer(options consumeOptions, member *member) (consumer, error) {
	config := saramaConfig()
	config.Consumer.MaxWaitTime = fetchWait
	config.Consumer.Retry.Backoff = retryWait
	config.Consumer.Return.Errors = true
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	if options.Reset == "latest" {
		config.Consumer.Offsets.Initial = sarama.OffsetNewest
	}
	if options.Isolation == "read_committed" {
		config.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	if options.MetadataMaxAgeMs > 0 {
		config.Metadata.RefreshFrequency = milliseconds(options.MetadataMaxAgeMs)
	}
	if options.Pattern != "" {
		return nil, lacks("sarama", "subscribe to a pattern")
	}
	if options.Group != "" {
		return newSaramaGroup(options, config, member)
	}
	client, err := sarama.NewClient(options.Bootstrap, config)
	if err != nil {
		return nil, err
	}
	reader, err := sarama.NewConsumerFromClient(client)
	flows := map[partition]saramaFlow{}
	return &saramaReader{options: options, client: client, reader: reader, member: member, flows: flows}, err
}

func saramaPrint(member *member, message *sarama.ConsumerMessage) {
	var headers []header
	for _, each := range message.Headers {
		headers = append(headers, header{textOf(each.Key), textOf(each.Value)})
	}
	at := position{partition{message.Topic, message.Partition}, message.Offset}
	member.record(at, message.Key, message.Value, headers, message.Timestamp)
}

// saramaReader reads partitions without a group, each in a goroutine.
type saramaReader struct {
	options consumeOptions
	client  sarama.Client
	reader  sarama.Consumer
	member  *member

	lock  sync.Mutex
	flows map[partition]saramaFlow
}

type saramaFlow struct {
	sarama.PartitionConsumer
	ended chan struct{}
}

func (r *saramaReader) run(running context.Context) error {
	if err := r.start(); err != nil {
		return err
	}
	<-running.Done()
	r.lock.Lock()
	defer r.lock.Unlock()
	for _, flow := range r.flows {
		flow.stop()
	}
	return errors.Join(r.reader.Close(), r.client.Close())
}

// start says what is read and reads it; a command waits for both.
func (r *saramaReader) start() error {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.member.replace(r.options.assigned())
	for _, at := range r.options.Assign {
		if err := r.read(at); err != nil {
			return err
		}
	}
	return nil
}

func (r *saramaReader) read(at position) error {
	consumer, err := r.reader.ConsumePartition(at.topic, at.number, at.offset)
	if err != nil {
		return err
	}
	flow := saramaFlow{consumer, make(chan struct{})}
	r.flows[at.partition] = flow
	go func() {
		for err := range consumer.Errors() {
			logf("%v", err)
		}
	}()
	go func() {
		defer close(flow.ended)
		for message := range consumer.Messages() {
			saramaPrint(r.member, message)
		}
	}()
	return nil
}

func (f saramaFlow) stop() {
	f.AsyncClose()
	<-f.ended
}

// seek closes the partition's consumer and opens another: that is how sarama seeks.
func (r *saramaReader) seek(to position) error {
	r.lock.Lock()
	defer r.lock.Unlock()
	flow, ok := r.flows[to.partition]
	if !ok {
		return fmt.Errorf("%v is not read", to.partition)
	}
	flow.stop()
	r.member.forget(to.partition)
	return r.read(to)
}

func (r *saramaReader) seekTime(of partition, timestamp int64) error {
	offset, err := r.client.GetOffset(of.topic, of.number, timestamp)
	if err != nil {
		return err
	}
	return r.seek(position{of, offset})
}

func (r *saramaReader) pause() error {
	r.reader.PauseAll()
	return nil
}

func (r *saramaReader) resume() error {
	r.reader.ResumeAll()
	return nil
}

func (r *saramaReader) commit([]position) error {
	return errors.New("there is no group to commit in")
}

// saramaGroup is a member of a group.
type saramaGroup struct {
	options consumeOptions
	member  *member
	client  sarama.Client
	group   sarama.ConsumerGroup
	admin   sarama.ClusterAdmin

	lock sync.Mutex
	// session is the present one, nil between two.
	session sarama.ConsumerGroupSession
	// refused is what the group last complained of.
	refused error
}

func newSaramaGroup(options consumeOptions, config *sarama.Config, member *member) (consumer, error) {
	group := &config.Consumer.Group
	group.InstanceId = options.Instance
	group.Rebalance.Retry.Backoff = retryWait
	strategies := map[string]func() sarama.BalanceStrategy{
		"range":       sarama.NewBalanceStrategyRange,
		"roundrobin":  sarama.NewBalanceStrategyRoundRobin,
		"cooperative": sarama.NewBalanceStrategyCooperativeSticky,
	}
	if strategy, ok := strategies[options.Strategy]; ok {
		group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy()}
	}
	if options.SessionMs > 0 {
		group.Session.Timeout = milliseconds(options.SessionMs)
	}
	if options.HeartbeatMs > 0 {
		group.Heartbeat.Interval = milliseconds(options.HeartbeatMs)
	}
	config.Consumer.Offsets.AutoCommit.Enable = options.AutoCommit
	if options.AutoCommitMs > 0 {
		config.Consumer.Offsets.AutoCommit.Interval = milliseconds(options.AutoCommitMs)
	}
	client, err := sarama.NewClient(options.Bootstrap, config)
	if err != nil {
		return nil, err
	}
	consumerGroup, err := sarama.NewConsumerGroupFromClient(options.Group, client)
	if err != nil {
		return nil, err
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	return &saramaGroup{
		options: options, member: member, client: client, group: consumerGroup, admin: admin,
	}, err
}

func (g *saramaGroup) run(running context.Context) error {
	go func() {
		for err := range g.group.Errors() {
			logf("group: %v", err)
			g.lock.Lock()
			g.refused = err
			g.lock.Unlock()
		}
	}()
	// Each call lasts as long as a session; most often a rebalance ends it.
	for running.Err() == nil {
		err := g.group.Consume(running, g.options.Topics, g)
		if err == nil || running.Err() != nil {
			continue
		}
		if isFinal(err) {
			return err
		}
		logf("consume: %v", err)
		if !retry(running) {
			break
		}
	}
	return errors.Join(g.group.Close(), g.client.Close())
}

func (g *saramaGroup) Setup(session sarama.ConsumerGroupSession) error {
	g.lock.Lock()
	g.session, g.refused = session, nil
	g.lock.Unlock()
	g.member.add(flatten(session.Claims()))
	return nil
}

func (g *saramaGroup) Cleanup(sarama.ConsumerGroupSession) error {
	g.lock.Lock()
	g.session = nil
	g.lock.Unlock()
	g.member.take("revoked", g.member.all())
	return nil
}

// ConsumeClaim reads one partition. In a cooperative group the claims of a session come and go.
func (g *saramaGroup) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	g.member.change(flatten(session.Claims()))
	for {
		select {
		case <-session.Context().Done():
			return nil
		case message, ok := <-claim.Messages():
			if !ok {
				if session.Context().Err() == nil {
					g.member.take("revoked", []partition{{claim.Topic(), claim.Partition()}})
					g.member.add(nil)
				}
				return nil
			}
			saramaPrint(g.member, message)
			if g.options.AutoCommit {
				session.MarkMessage(message, "")
			}
		}
	}
}

// commit tries again where a broken connection cost the try. sarama's Commit tries once, and keeps the
// answer to itself.
func (g *saramaGroup) commit(positions []position) error {
	for tries := 1; ; tries++ {
		err := g.commitOnce(positions)
		if err == nil || errors.Is(err, errBetweenGenerations) || kafkaName(err) != "" || tries == commitTries {
			return err
		}
		logf("commit: %v", err)
		time.Sleep(retryWait)
	}
}

// commitOnce asks the coordinator afterwards what it has.
func (g *saramaGroup) commitOnce(positions []position) error {
	g.lock.Lock()
	session := g.session
	g.refused = nil
	g.lock.Unlock()
	if session == nil {
		return errBetweenGenerations
	}
	for _, at := range positions {
		// The one only moves forwards, the other only back.
		session.MarkOffset(at.topic, at.number, at.offset, "")
		session.ResetOffset(at.topic, at.number, at.offset, "")
	}
	session.Commit()
	committed, err := saramaAdmin{g.client, g.admin}.offsets(g.options.Group)
	if err != nil {
		return err
	}
	missing := without(positions, committed)
	if len(missing) == 0 {
		return nil
	}
	g.lock.Lock()
	defer g.lock.Unlock()
	return cmp.Or(g.refused, fmt.Errorf("not committed: %v", missing))
}

// without is the positions that are not among others.
func without(positions, others []position) []position {
	known := map[position]bool{}
	for _, other := range others {
		known[other] = true
	}
	var missing []position
	for _, at := range positions {
		if !known[at] {
			missing = append(missing, at)
		}
	}
	return missing
}

func (g *saramaGroup) seek(position) error {
	return lacks("sarama", "seek in a group")
}

func (g *saramaGroup) seekTime(partition, int64) error {
	return lacks("sarama", "seek in a group")
}

func (g *saramaGroup) pause() error {
	g.group.PauseAll()
	return nil
}

func (g *saramaGroup) resume() error {
	g.group.ResumeAll()
	return nil
}
