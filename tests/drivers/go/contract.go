package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/IBM/sarama"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
)

// partition is written [topic, number].
type partition struct {
	topic  string
	number int32
}

// position is written [topic, number, offset].
type position struct {
	partition
	offset int64
}

func (p partition) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{p.topic, p.number})
}

func (p position) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{p.topic, p.number, p.offset})
}

func (p *position) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[]any{&p.topic, &p.number, &p.offset})
}

func comparePartitions(a, b partition) int {
	return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.number, b.number))
}

func comparePositions(a, b position) int {
	return comparePartitions(a.partition, b.partition)
}

// sorted gives an empty list, never null.
func sorted[T any](all []T, compare func(a, b T) int) []T {
	if all == nil {
		return []T{}
	}
	slices.SortFunc(all, compare)
	return all
}

// event is one line of output; its keys are written in alphabetical order.
type event map[string]any

var output struct {
	sync.Mutex
	lines *bufio.Writer
}

// emit writes one event and flushes it.
func emit(value any) {
	output.Lock()
	defer output.Unlock()
	if output.lines == nil {
		output.lines = bufio.NewWriter(os.Stdout)
	}
	encoder := json.NewEncoder(output.lines)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	if err == nil {
		err = output.lines.Flush()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "standard output:", err)
		os.Exit(1)
	}
}

// commands reads standard input to its end, which closes the channel.
func commands[T any]() <-chan T {
	all := make(chan T)
	go func() {
		defer close(all)
		for decoder := json.NewDecoder(os.Stdin); ; {
			var next T
			switch err := decoder.Decode(&next); {
			case err == nil:
				all <- next
			case errors.Is(err, io.EOF):
				return
			default:
				fail(fmt.Errorf("not a command: %w", err))
			}
		}
	}()
	return all
}

// fail ends the program with the contract's event.
func fail(err error) {
	emit(described(event{"event": "error"}, err))
	os.Exit(1)
}

// described adds what went wrong and Kafka's name of it, null where it has none.
func described(to event, err error) event {
	to["message"] = err.Error()
	to["code"] = nil
	if name := kafkaName(err); name != "" {
		to["code"] = name
	}
	return to
}

// kafkaName is the broker's error in err by the name that Kafka's protocol guide has for it.
func kafkaName(err error) string {
	var ofFranz *kerr.Error
	var ofSarama sarama.KError
	var ofKafkaGo kafka.Error
	number := int16(0)
	switch {
	case errors.As(err, &ofFranz):
		return ofFranz.Message
	case errors.As(err, &ofSarama):
		number = int16(ofSarama)
	case errors.As(err, &ofKafkaGo):
		number = int16(ofKafkaGo)
	}
	if named := kerr.TypedErrorForCode(number); named != nil {
		return named.Message
	}
	return ""
}

// isFinal tells the errors after which a member cannot go on, however often it tries again.
func isFinal(err error) bool {
	switch kafkaName(err) {
	case "FENCED_INSTANCE_ID", "GROUP_AUTHORIZATION_FAILED", "GROUP_MAX_SIZE_REACHED",
		"INCONSISTENT_GROUP_PROTOCOL", "INVALID_GROUP_ID", "INVALID_SESSION_TIMEOUT",
		"TOPIC_AUTHORIZATION_FAILED", "UNSUPPORTED_VERSION":
		return true
	}
	return false
}

// The libraries speak of partitions as maps from topic to number.

func flatten(topics map[string][]int32) []partition {
	var all []partition
	for topic, numbers := range topics {
		for _, number := range numbers {
			all = append(all, partition{topic, number})
		}
	}
	return all
}

func grouped(partitions []partition) map[string][]int32 {
	topics := map[string][]int32{}
	for _, each := range partitions {
		topics[each.topic] = append(topics[each.topic], each.number)
	}
	return topics
}

func set[N int | int32, T any](topics map[string]map[N]T, of partition, value T) {
	if topics[of.topic] == nil {
		topics[of.topic] = map[N]T{}
	}
	topics[of.topic][N(of.number)] = value
}
