// Command drivers drives a Go client library by the contract of tests/drivers/README.md: one verb,
// commands in and events out, as JSON lines.
//
//	drivers --client franz|sarama|kafkago <verb> '<options>'
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
)

// client is one of the libraries. What it lacks is false in its capabilities.
type client interface {
	capabilities() capabilities
	producer(produceOptions) (producer, error)
	consumer(consumeOptions, *member) (consumer, error)
	admin(adminOptions) (admin, error)
}

// capabilities is what `capabilities` prints.
type capabilities struct {
	Client            string   `json:"client"`
	Version           string   `json:"version"`
	Codecs            []string `json:"codecs"`
	Idempotent        bool     `json:"idempotent"`
	CustomPartitioner bool     `json:"custom_partitioner"`
	Strategies        []string `json:"strategies"`
	Cooperative       bool     `json:"cooperative"`
	Static            bool     `json:"static"`
	Pattern           bool     `json:"pattern"`
	// Seek and SeekTime are within partitions that the program assigned itself.
	Seek     bool `json:"seek"`
	SeekTime bool `json:"seek_time"`
	// SeekInGroup is both of them as a member of a group.
	SeekInGroup bool `json:"seek_in_group"`
	Pause       bool `json:"pause"`
	Isolation   bool `json:"isolation"`
	AutoCommit  bool `json:"auto_commit"`
	// MixedGroup is to share a group with the other clients, whichever of them leads it, and to
	// describe theirs.
	MixedGroup bool `json:"mixed_group"`
	// EmptyKept is to tell a key or value that is read as empty from one that is null.
	EmptyKept bool     `json:"empty_kept"`
	Admin     []string `json:"admin"`
}

var clients = map[string]client{
	"franz":   franz{},
	"sarama":  saramaClient{},
	"kafkago": kafkaGo{},
}

func main() {
	name := flag.String("client", "", "the library: franz, sarama or kafkago")
	flag.Parse()
	if err := run(clients[*name], flag.Arg(0), flag.Arg(1)); err != nil {
		fail(err)
	}
}

func run(client client, verb, options string) error {
	if client == nil {
		return fmt.Errorf("--client is one of %v", slices.Sorted(maps.Keys(clients)))
	}
	switch verb {
	case "capabilities":
		emit(client.capabilities())
		return nil
	case "produce":
		return with(options, client, produce)
	case "consume":
		return with(options, client, consume)
	case "admin":
		return with(options, client, administer)
	}
	return fmt.Errorf("no verb %q", verb)
}

// with reads the options of a verb, and no others, and runs it.
func with[T any](text string, client client, verb func(client, T) error) error {
	var options T
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&options); err != nil {
		return fmt.Errorf("options: %w", err)
	}
	return verb(client, options)
}

// bootstrap is a list of addresses with commas between them.
type bootstrap []string

func (b *bootstrap) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errors.New("bootstrap is empty")
	}
	*b = strings.Split(string(text), ",")
	return nil
}

// versionOf is the version of a module that this program was built with, without Go's v.
func versionOf(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == module {
				return strings.TrimPrefix(dependency.Version, "v")
			}
		}
	}
	return "unknown"
}

func logf(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
}
