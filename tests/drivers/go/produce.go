package main

import "time"

// gatherWait is how long a batch waits for the next command before it is sent as it is.
const gatherWait = 5 * time.Millisecond

type produceOptions struct {
	Bootstrap   bootstrap `json:"bootstrap"`
	Topic       string    `json:"topic"`
	Codec       string    `json:"codec"`
	Partitioner string    `json:"partitioner"`
	Idempotent  *bool     `json:"idempotent"`
	Batch       int       `json:"batch"`
}

// outgoing is a record to produce.
type outgoing struct {
	Key       *string  `json:"key"`
	Value     *string  `json:"value"`
	Headers   []header `json:"headers"`
	Timestamp *int64   `json:"timestamp"`
	Partition *int32   `json:"partition"`
}

// header is a name and a value, which may be null.
type header [2]*string

// placed is where a record went.
type placed struct {
	partition int32
	offset    int64
}

// producer sends records and waits until all replicas have them.
type producer interface {
	send([]outgoing) ([]placed, error)
	close() error
}

func produce(client client, options produceOptions) error {
	if options.Batch == 0 {
		options.Batch = 100
	}
	producer, err := client.producer(options)
	if err != nil {
		return err
	}
	records := commands[outgoing]()
	for index := 0; ; {
		batch := gather(records, options.Batch)
		if len(batch) == 0 {
			return producer.close()
		}
		all, err := producer.send(batch)
		if err != nil {
			return err
		}
		for _, at := range all {
			emit(event{"event": "produced", "index": index, "partition": at.partition, "offset": at.offset})
			index++
		}
	}
}

// gather waits for a record and takes those that follow at once, none at the end of the input.
func gather(records <-chan outgoing, most int) []outgoing {
	first, ok := <-records
	if !ok {
		return nil
	}
	batch := []outgoing{first}
	for len(batch) < most {
		select {
		case next, ok := <-records:
			if !ok {
				return batch
			}
			batch = append(batch, next)
		case <-time.After(gatherWait):
			return batch
		}
	}
	return batch
}

// sumOfBytes is the custom partitioner of the contract.
func sumOfBytes(key []byte, partitions int) int {
	sum := 0
	for _, b := range key {
		sum += int(b)
	}
	return sum % partitions
}

// bytesOf keeps null apart from empty.
func bytesOf(text *string) []byte {
	if text == nil {
		return nil
	}
	return []byte(*text)
}

// textOf is the other way.
func textOf(bytes []byte) *string {
	if bytes == nil {
		return nil
	}
	text := string(bytes)
	return &text
}

// partitionOrNone is -1 where the record names no partition.
func (o outgoing) partitionOrNone() int32 {
	if o.Partition == nil {
		return -1
	}
	return *o.Partition
}

// time is the zero time where the client shall take its own.
func (o outgoing) time() time.Time {
	if o.Timestamp == nil {
		return time.Time{}
	}
	return time.UnixMilli(*o.Timestamp)
}
