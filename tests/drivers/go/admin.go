package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

type adminOptions struct {
	Bootstrap bootstrap `json:"bootstrap"`
}

type adminCommand struct {
	Do         string            `json:"do"`
	Topic      string            `json:"topic"`
	Group      string            `json:"group"`
	Partitions int32             `json:"partitions"`
	Count      int32             `json:"count"`
	Configs    map[string]string `json:"configs"`
	Offsets    []position        `json:"offsets"`
	At         moment            `json:"at"`
}

// moment is a time in milliseconds, or one of Kafka's two special ones.
type moment int64

const (
	latest   moment = -1
	earliest moment = -2
)

func (m *moment) UnmarshalJSON(text []byte) error {
	switch string(text) {
	case `"latest"`:
		*m = latest
	case `"earliest"`:
		*m = earliest
	default:
		return json.Unmarshal(text, (*int64)(m))
	}
	return nil
}

type partitionDetail struct {
	Partition int32   `json:"partition"`
	Leader    int32   `json:"leader"`
	Replicas  []int32 `json:"replicas"`
	ISR       []int32 `json:"isr"`
}

type groupListed struct {
	Group string  `json:"group"`
	State *string `json:"state"`
}

type groupDetail struct {
	State    string
	Protocol *string
	Members  []groupMember
}

type groupMember struct {
	Member     string      `json:"member"`
	Instance   *string     `json:"instance"`
	Client     string      `json:"client"`
	Host       string      `json:"host"`
	Assignment []partition `json:"assignment"`
}

type admin interface {
	create(topic string, partitions int32, configs map[string]string) error
	list() ([]string, error)
	describe(topic string) ([]partitionDetail, error)
	addPartitions(topic string, total int32) error
	remove(topic string) error
	configs(topic string) (map[string]*string, error)
	listGroups() ([]groupListed, error)
	describeGroup(group string) (groupDetail, error)
	offsets(group string) ([]position, error)
	resetOffsets(group string, offsets []position) error
	deleteGroup(group string) error
	listOffsets(topic string, at moment) ([]position, error)
	close() error
}

// adminDos are the commands that all three clients know.
var adminDos = []string{
	"create", "list", "describe", "add_partitions", "delete", "configs", "list_groups",
	"describe_group", "offsets", "reset_offsets", "delete_group", "list_offsets",
}

func administer(client client, options adminOptions) error {
	for command := range commands[adminCommand]() {
		if !slices.Contains(client.capabilities().Admin, command.Do) {
			return fmt.Errorf("no command %q", command.Do)
		}
		// The libraries remember the topics for a while. A new client knows nothing of before.
		admin, err := client.admin(options)
		if err != nil {
			return err
		}
		done := event{"event": "done", "do": command.Do}
		err = answer(admin, command, done)
		if closing := admin.close(); closing != nil {
			return closing
		}
		if err != nil {
			emit(described(event{"event": "failed", "do": command.Do}, err))
			continue
		}
		emit(done)
	}
	return nil
}

// answer carries a command out and puts into done what it gives.
func answer(admin admin, command adminCommand, done event) error {
	var err error
	switch command.Do {
	case "create":
		err = admin.create(command.Topic, command.Partitions, command.Configs)
	case "list":
		var topics []string
		topics, err = admin.list()
		done["topics"] = sorted(topics, strings.Compare)
	case "describe":
		var partitions []partitionDetail
		partitions, err = admin.describe(command.Topic)
		done["partitions"] = sorted(partitions, func(a, b partitionDetail) int { return int(a.Partition - b.Partition) })
	case "add_partitions":
		err = admin.addPartitions(command.Topic, command.Count)
	case "delete":
		err = admin.remove(command.Topic)
	case "configs":
		done["configs"], err = admin.configs(command.Topic)
	case "list_groups":
		var groups []groupListed
		groups, err = admin.listGroups()
		done["groups"] = sorted(groups, func(a, b groupListed) int { return strings.Compare(a.Group, b.Group) })
	case "describe_group":
		var group groupDetail
		group, err = admin.describeGroup(command.Group)
		done["state"], done["protocol"] = group.State, group.Protocol
		done["members"] = sorted(group.Members, func(a, b groupMember) int { return strings.Compare(a.Member, b.Member) })
	case "offsets":
		var offsets []position
		offsets, err = admin.offsets(command.Group)
		done["offsets"] = sorted(offsets, comparePositions)
	case "reset_offsets":
		err = admin.resetOffsets(command.Group, command.Offsets)
	case "delete_group":
		err = admin.deleteGroup(command.Group)
	case "list_offsets":
		var offsets []position
		offsets, err = admin.listOffsets(command.Topic, command.At)
		done["offsets"] = sorted(offsets, comparePositions)
	}
	return err
}

func (m moment) time() time.Time {
	return time.UnixMilli(int64(m))
}
