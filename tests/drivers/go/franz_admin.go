package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// franzAdmin is kadm, the admin client beside franz-go.
type franzAdmin struct {
	client *kadm.Client
}

func (franz) admin(options adminOptions) (admin, error) {
	client, err := kgo.NewClient(franzOptions(options.Bootstrap)...)
	if err != nil {
		return nil, err
	}
	return franzAdmin{kadm.NewClient(client)}, nil
}

func (a franzAdmin) create(topic string, partitions int32, configs map[string]string) error {
	_, err := a.client.CreateTopic(context.Background(), partitions, -1, pointers(configs), topic)
	return err
}

func pointers(configs map[string]string) map[string]*string {
	all := map[string]*string{}
	for name, value := range configs {
		all[name] = &value
	}
	return all
}

func (a franzAdmin) list() ([]string, error) {
	topics, err := a.client.ListTopics(context.Background())
	return topics.Names(), err
}

func (a franzAdmin) describe(topic string) ([]partitionDetail, error) {
	topics, err := a.client.ListTopics(context.Background(), topic)
	if err != nil {
		return nil, err
	}
	if err := topics[topic].Err; err != nil {
		return nil, err
	}
	var all []partitionDetail
	for _, each := range topics[topic].Partitions {
		all = append(all, partitionDetail{each.Partition, each.Leader, each.Replicas, each.ISR})
	}
	return all, nil
}

func (a franzAdmin) addPartitions(topic string, total int32) error {
	responses, err := a.client.UpdatePartitions(context.Background(), int(total), topic)
	if err != nil {
		return err
	}
	return responses.Error()
}

func (a franzAdmin) remove(topic string) error {
	_, err := a.client.DeleteTopic(context.Background(), topic)
	return err
}

func (a franzAdmin) configs(topic string) (map[string]*string, error) {
	resources, err := a.client.DescribeTopicConfigs(context.Background(), topic)
	if err != nil {
		return nil, err
	}
	resource, err := resources.On(topic, nil)
	if err != nil {
		return nil, err
	}
	all := map[string]*string{}
	for _, config := range resource.Configs {
		all[config.Key] = config.Value
	}
	return all, resource.Err
}

func (a franzAdmin) listGroups() ([]groupListed, error) {
	groups, err := a.client.ListGroups(context.Background())
	var all []groupListed
	for _, group := range groups {
		all = append(all, groupListed{group.Group, &group.State})
	}
	return all, err
}

func (a franzAdmin) describeGroup(name string) (groupDetail, error) {
	groups, err := a.client.DescribeGroups(context.Background(), name)
	if err != nil {
		return groupDetail{}, err
	}
	group, err := groups.On(name, nil)
	if err != nil {
		return groupDetail{}, err
	}
	detail := groupDetail{State: group.State, Protocol: &group.Protocol}
	for _, member := range group.Members {
		assigned := map[string][]int32{}
		if assignment, ok := member.Assigned.AsConsumer(); ok {
			for _, topic := range assignment.Topics {
				assigned[topic.Topic] = topic.Partitions
			}
		}
		detail.Members = append(detail.Members, groupMember{
			member.MemberID, member.InstanceID, member.ClientID, member.ClientHost,
			sorted(flatten(assigned), comparePartitions),
		})
	}
	return detail, group.Err
}

func (a franzAdmin) offsets(group string) ([]position, error) {
	offsets, err := a.client.FetchOffsets(context.Background(), group)
	if err != nil {
		return nil, err
	}
	var all []position
	offsets.Each(func(each kadm.OffsetResponse) {
		all = append(all, position{partition{each.Topic, each.Partition}, each.At})
	})
	return all, offsets.Error()
}

func (a franzAdmin) resetOffsets(group string, offsets []position) error {
	all := kadm.Offsets{}
	for _, each := range offsets {
		all.AddOffset(each.topic, each.number, each.offset, -1)
	}
	return a.client.CommitAllOffsets(context.Background(), group, all)
}

func (a franzAdmin) deleteGroup(group string) error {
	_, err := a.client.DeleteGroup(context.Background(), group)
	return err
}

func (a franzAdmin) listOffsets(topic string, at moment) ([]position, error) {
	var listed kadm.ListedOffsets
	var err error
	switch at {
	case earliest:
		listed, err = a.client.ListStartOffsets(context.Background(), topic)
	case latest:
		listed, err = a.client.ListEndOffsets(context.Background(), topic)
	default:
		listed, err = a.client.ListOffsetsAfterMilli(context.Background(), int64(at), topic)
	}
	if err != nil {
		return nil, err
	}
	var all []position
	listed.Each(func(each kadm.ListedOffset) {
		all = append(all, position{partition{each.Topic, each.Partition}, each.Offset})
	})
	return all, listed.Error()
}

func (a franzAdmin) close() error {
	a.client.Close()
	return nil
}
