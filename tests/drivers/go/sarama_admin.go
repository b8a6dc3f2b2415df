package main

import (
	"fmt"

	"github.com/IBM/sarama"
)

type saramaAdmin struct {
	client sarama.Client
	admin  sarama.ClusterAdmin
}

func (saramaClient) admin(options adminOptions) (admin, error) {
	config := saramaConfig()
	config.Metadata.AllowAutoTopicCreation = false
	// An unknown topic is an answer here.
	config.Metadata.Retry.Max = 0
	client, err := sarama.NewClient(options.Bootstrap, config)
	if err != nil {
		return nil, err
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	return saramaAdmin{client, admin}, err
}

func (a saramaAdmin) create(topic string, partitions int32, configs map[string]string) error {
	return a.admin.CreateTopic(topic, &sarama.TopicDetail{
		NumPartitions: partitions, ReplicationFactor: -1, ConfigEntries: pointers(configs),
	}, false)
}

func (a saramaAdmin) list() ([]string, error) {
	topics, err := a.admin.ListTopics()
	var names []string
	for name := range topics {
		names = append(names, name)
	}
	return names, err
}

func (a saramaAdmin) describe(topic string) ([]partitionDetail, error) {
	topics, err := a.admin.DescribeTopics([]string{topic})
	if err != nil {
		return nil, err
	}
	var all []partitionDetail
	for _, each := range topics {
		if each.Err != sarama.ErrNoError {
			return nil, each.Err
		}
		for _, partition := range each.Partitions {
			all = append(all, partitionDetail{partition.ID, partition.Leader, partition.Replicas, partition.Isr})
		}
	}
	return all, nil
}

func (a saramaAdmin) addPartitions(topic string, total int32) error {
	return a.admin.CreatePartitions(topic, total, nil, false)
}

func (a saramaAdmin) remove(topic string) error {
	return a.admin.DeleteTopic(topic)
}

func (a saramaAdmin) configs(topic string) (map[string]*string, error) {
	resource := sarama.ConfigResource{Type: sarama.TopicResource, Name: topic}
	results, err := a.admin.DescribeConfigs([]*sarama.ConfigResource{&resource}, sarama.DescribeConfigsOptions{})
	if err != nil {
		return nil, err
	}
	all := map[string]*string{}
	for _, result := range results {
		if result.ErrorCode != sarama.ErrNoError {
			return nil, result.ErrorCode
		}
		for _, entry := range result.Configs {
			all[entry.Name] = &entry.Value
		}
	}
	return all, nil
}

func (a saramaAdmin) listGroups() ([]groupListed, error) {
	groups, err := a.admin.ListConsumerGroups()
	var all []groupListed
	for name := range groups {
		// sarama keeps the state to itself.
		all = append(all, groupListed{name, nil})
	}
	return all, err
}

func (a saramaAdmin) describeGroup(name string) (groupDetail, error) {
	groups, err := a.admin.DescribeConsumerGroups([]string{name})
	if err != nil {
		return groupDetail{}, err
	}
	if len(groups) != 1 {
		return groupDetail{}, fmt.Errorf("%d groups described", len(groups))
	}
	group := groups[0]
	if group.Err != sarama.ErrNoError {
		return groupDetail{}, group.Err
	}
	detail := groupDetail{State: group.State, Protocol: &group.Protocol}
	for _, member := range group.Members {
		var assigned []partition
		if assignment, err := member.GetMemberAssignment(); err != nil {
			return groupDetail{}, err
		} else if assignment != nil {
			assigned = flatten(assignment.Topics)
		}
		detail.Members = append(detail.Members, groupMember{
			member.MemberId, member.GroupInstanceId, member.ClientId, member.ClientHost,
			sorted(assigned, comparePartitions),
		})
	}
	return detail, nil
}

func (a saramaAdmin) offsets(group string) ([]position, error) {
	groups, err := a.admin.ListConsumerGroupOffsetsBatch(map[string]map[string][]int32{group: nil})
	if err != nil {
		return nil, err
	}
	answer := groups[group]
	if answer.Err != sarama.ErrNoError {
		return nil, answer.Err
	}
	var all []position
	for topic, blocks := range answer.Blocks {
		for number, block := range blocks {
			if block.Err != sarama.ErrNoError {
				return nil, block.Err
			}
			all = append(all, position{partition{topic, number}, block.Offset})
		}
	}
	return all, nil
}

func (a saramaAdmin) resetOffsets(group string, offsets []position) error {
	all := map[string]map[int32]sarama.OffsetAndMetadata{}
	for _, at := range offsets {
		set(all, at.partition, sarama.OffsetAndMetadata{Offset: at.offset, LeaderEpoch: -1})
	}
	response, err := a.admin.AlterConsumerGroupOffsets(group, all, nil)
	if err != nil {
		return err
	}
	for _, partitions := range response.Errors {
		for _, err := range partitions {
			if err != sarama.ErrNoError {
				return err
			}
		}
	}
	return nil
}

func (a saramaAdmin) deleteGroup(group string) error {
	return a.admin.DeleteConsumerGroup(group)
}

func (a saramaAdmin) listOffsets(topic string, at moment) ([]position, error) {
	numbers, err := a.client.Partitions(topic)
	if err != nil {
		return nil, err
	}
	asked := map[string]map[int32]int64{}
	for _, number := range numbers {
		// sarama has Kafka's numbers for the earliest and the latest.
		set(asked, partition{topic, number}, int64(at))
	}
	found, err := a.admin.ListOffsets(asked, nil)
	if err != nil {
		return nil, err
	}
	var all []position
	for number, result := range found[topic] {
		if result.Err != nil && result.Err != sarama.ErrNoError {
			return nil, result.Err
		}
		all = append(all, position{partition{topic, number}, result.Offset})
	}
	return all, nil
}

// close closes the client with it.
func (a saramaAdmin) close() error {
	return a.admin.Close()
}
