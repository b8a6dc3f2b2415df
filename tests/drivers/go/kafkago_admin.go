package main

import (
	"context"
	"fmt"

	"github.com/segmentio/kafka-go"
)

type kafkaGoAdmin struct {
	*kafka.Client
}

func (kafkaGo) admin(options adminOptions) (admin, error) {
	return kafkaGoAdmin{&kafka.Client{Addr: kafka.TCP(options.Bootstrap...), Transport: &kafka.Transport{}}}, nil
}

func (a kafkaGoAdmin) create(topic string, partitions int32, configs map[string]string) error {
	var entries []kafka.ConfigEntry
	for name, value := range configs {
		entries = append(entries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	response, err := a.CreateTopics(context.Background(), &kafka.CreateTopicsRequest{
		Topics: []kafka.TopicConfig{{
			Topic: topic, NumPartitions: int(partitions), ReplicationFactor: -1, ConfigEntries: entries,
		}},
	})
	if err != nil {
		return err
	}
	return response.Errors[topic]
}

func (a kafkaGoAdmin) list() ([]string, error) {
	response, err := a.Metadata(context.Background(), &kafka.MetadataRequest{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, topic := range response.Topics {
		if !topic.Internal {
			names = append(names, topic.Name)
		}
	}
	return names, nil
}

func (a kafkaGoAdmin) describe(topic string) ([]partitionDetail, error) {
	response, err := a.Metadata(context.Background(), &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return nil, err
	}
	var all []partitionDetail
	for _, each := range response.Topics {
		if each.Error != nil {
			return nil, each.Error
		}
		for _, partition := range each.Partitions {
			all = append(all, partitionDetail{
				int32(partition.ID), int32(partition.Leader.ID), nodes(partition.Replicas), nodes(partition.Isr),
			})
		}
	}
	return all, nil
}

func nodes(brokers []kafka.Broker) []int32 {
	all := []int32{}
	for _, broker := range brokers {
		all = append(all, int32(broker.ID))
	}
	return all
}

func (a kafkaGoAdmin) addPartitions(topic string, total int32) error {
	response, err := a.CreatePartitions(context.Background(), &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: total}},
	})
	if err != nil {
		return err
	}
	return response.Errors[topic]
}

func (a kafkaGoAdmin) remove(topic string) error {
	response, err := a.DeleteTopics(context.Background(), &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err != nil {
		return err
	}
	return response.Errors[topic]
}

func (a kafkaGoAdmin) configs(topic string) (map[string]*string, error) {
	response, err := a.DescribeConfigs(context.Background(), &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{
			{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic},
		},
	})
	if err != nil {
		return nil, err
	}
	all := map[string]*string{}
	for _, resource := range response.Resources {
		if resource.Error != nil {
			return nil, resource.Error
		}
		for _, entry := range resource.ConfigEntries {
			all[entry.ConfigName] = &entry.ConfigValue
		}
	}
	return all, nil
}

func (a kafkaGoAdmin) listGroups() ([]groupListed, error) {
	response, err := a.ListGroups(context.Background(), &kafka.ListGroupsRequest{})
	if err != nil {
		return nil, err
	}
	var all []groupListed
	for _, group := range response.Groups {
		// kafka-go asks in a version that has no state.
		all = append(all, groupListed{group.GroupID, nil})
	}
	return all, response.Error
}

func (a kafkaGoAdmin) describeGroup(name string) (groupDetail, error) {
	response, err := a.DescribeGroups(context.Background(), &kafka.DescribeGroupsRequest{GroupIDs: []string{name}})
	if err != nil {
		return groupDetail{}, err
	}
	if len(response.Groups) != 1 {
		return groupDetail{}, fmt.Errorf("%d groups described", len(response.Groups))
	}
	group := response.Groups[0]
	// kafka-go keeps the protocol and the instances to itself.
	detail := groupDetail{State: group.GroupState}
	for _, member := range group.Members {
		var assigned []partition
		for _, topic := range member.MemberAssignments.Topics {
			for _, number := range topic.Partitions {
				assigned = append(assigned, partition{topic.Topic, int32(number)})
			}
		}
		detail.Members = append(detail.Members, groupMember{
			member.MemberID, nil, member.ClientID, member.ClientHost, sorted(assigned, comparePartitions),
		})
	}
	return detail, group.Error
}

func (a kafkaGoAdmin) offsets(group string) ([]position, error) {
	response, err := a.OffsetFetch(context.Background(), &kafka.OffsetFetchRequest{GroupID: group})
	if err != nil {
		return nil, err
	}
	var all []position
	for topic, partitions := range response.Topics {
		for _, each := range partitions {
			if each.Error != nil {
				return nil, each.Error
			}
			all = append(all, position{partition{topic, int32(each.Partition)}, each.CommittedOffset})
		}
	}
	return all, response.Error
}

func (a kafkaGoAdmin) resetOffsets(group string, offsets []position) error {
	topics := map[string][]kafka.OffsetCommit{}
	for _, at := range offsets {
		topics[at.topic] = append(topics[at.topic], kafka.OffsetCommit{Partition: int(at.number), Offset: at.offset})
	}
	response, err := a.OffsetCommit(context.Background(), &kafka.OffsetCommitRequest{
		GroupID: group, GenerationID: -1, Topics: topics,
	})
	if err != nil {
		return err
	}
	for _, partitions := range response.Topics {
		for _, each := range partitions {
			if each.Error != nil {
				return each.Error
			}
		}
	}
	return nil
}

func (a kafkaGoAdmin) deleteGroup(group string) error {
	response, err := a.DeleteGroups(context.Background(), &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return err
	}
	return response.Errors[group]
}

func (a kafkaGoAdmin) listOffsets(topic string, at moment) ([]position, error) {
	partitions, err := a.describe(topic)
	if err != nil {
		return nil, err
	}
	asked := map[string][]kafka.OffsetRequest{}
	for _, each := range partitions {
		// kafka-go has Kafka's numbers for the earliest and the latest.
		request := kafka.OffsetRequest{Partition: int(each.Partition), Timestamp: int64(at)}
		asked[topic] = append(asked[topic], request)
	}
	response, err := a.ListOffsets(context.Background(), &kafka.ListOffsetsRequest{Topics: asked})
	if err != nil {
		return nil, err
	}
	var all []position
	for _, found := range response.Topics[topic] {
		if found.Error != nil {
			return nil, found.Error
		}
		offset := found.LastOffset
		if at == earliest {
			offset = found.FirstOffset
		}
		for after := range found.Offsets {
			offset = after
		}
		all = append(all, position{partition{topic, int32(found.Partition)}, offset})
	}
	return all, nil
}

func (a kafkaGoAdmin) close() error {
	a.Transport.(*kafka.Transport).CloseIdleConnections()
	return nil
}
