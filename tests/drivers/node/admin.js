// The administrator's commands.

import kafkajs from 'kafkajs'

const { AssignerProtocol, ConfigResourceTypes, KafkaJSProtocolError } = kafkajs

export const ACTIONS = [
  'create',
  'list',
  'describe',
  'add_partitions',
  'delete',
  'configs',
  'list_groups',
  'describe_group',
  'offsets',
  'reset_offsets',
  'delete_group',
  'list_offsets',
]

export class Actions {
  #client

  constructor(client) {
    this.#client = client
  }

  async create({ topic, partitions, configs = {} }) {
    const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
    const wanted = { topic, numPartitions: partitions, replicationFactor: 1, configEntries }
    // It throws for every error but one.
    if (!(await this.#client.createTopics({ topics: [wanted] }))) {
      throw new KafkaJSProtocolError({ type: 'TOPIC_ALREADY_EXISTS', code: 36, message: topic })
    }
  }

  async list() {
    return { topics: (await this.#client.listTopics()).sort() }
  }

  async describe({ topic }) {
    const { topics } = await this.#client.fetchTopicMetadata({ topics: [topic] })
    const partitions = topics[0].partitions.map(({ partitionId, leader, replicas, isr }) => ({
      partition: partitionId,
      leader,
      replicas,
      isr,
    }))
    return { partitions: partitions.sort((a, b) => a.partition - b.partition) }
  }

  async add_partitions({ topic, count }) {
    await this.#client.createPartitions({ topicPartitions: [{ topic, count }] })
  }

  async delete({ topic }) {
    await this.#client.deleteTopics({ topics: [topic] })
  }

  async configs({ topic }) {
    const resources = [{ type: ConfigResourceTypes.TOPIC, name: topic }]
    const described = await this.#client.describeConfigs({ resources, includeSynonyms: false })
    const entries = described.resources[0].configEntries
    return { configs: Object.fromEntries(entries.map(each => [each.configName, each.configValue])) }
  }

  async list_groups() {
    const { groups } = await this.#client.listGroups()
    const names = groups.map(({ groupId }) => groupId).sort()
    return { groups: names.map(group => ({ group, state: null })) }
  }

  async describe_group({ group }) {
    const { groups } = await this.#client.describeGroups([group])
    const { state, protocol, members } = groups[0]
    return {
      state,
      protocol,
      members: members.map(member => ({
        member: member.memberId,
        instance: null,
        client: member.clientId,
        host: member.clientHost,
        assignment: assignmentOf(member.memberAssignment),
      })),
    }
  }

  async offsets({ group }) {
    const topics = await this.#client.fetchOffsets({ groupId: group })
    const offsets = topics.flatMap(({ topic, partitions }) =>
      partitions.map(({ partition, offset }) => [topic, partition, Number(offset)]),
    )
    return { offsets: offsets.sort() }
  }

  async reset_offsets({ group, offsets }) {
    const byTopic = {}
    for (const [topic, partition, offset] of offsets) {
      ;(byTopic[topic] ??= []).push({ partition, offset: String(offset) })
    }
    for (const [topic, partitions] of Object.entries(byTopic)) {
      await this.#client.setOffsets({ groupId: group, topic, partitions })
    }
  }

  async delete_group({ group }) {
    await this.#client.deleteGroups([group])
  }

  async list_offsets({ topic, at }) {
    const found =
      typeof at === 'number'
        ? await this.#client.fetchTopicOffsetsByTimestamp(topic, at)
        : await this.#client.fetchTopicOffsets(topic)
    const field = { earliest: 'low', latest: 'high' }[at] ?? 'offset'
    const offsets = found.map(each => [topic, each.partition, Number(each[field])])
    return { offsets: offsets.sort() }
  }
}

function assignmentOf(data) {
  const { assignment } = AssignerProtocol.MemberAssignment.decode(data) ?? { assignment: {} }
  return Object.entries(assignment)
    .flatMap(([topic, partitions]) => partitions.map(partition => [topic, partition]))
    .sort()
}
