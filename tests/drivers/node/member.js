// A consumer: what it owns, and how far its records were printed.

import { emit } from './contract.js'

export class Member {
  #kafka
  #consumer
  #options
  #owned = []
  /** From `topic partition` to the position behind the records printed. */
  #positions = new Map()

  constructor(kafka, options) {
    this.#kafka = kafka
    this.#options = options
    this.#consumer = kafka.consumer(settings(options))
    this.onCrash = () => {}
    const { GROUP_JOIN, REBALANCING, CRASH } = this.#consumer.events
    this.#consumer.on(GROUP_JOIN, ({ payload }) => this.#join(payload.memberAssignment))
    // It rejoins with nothing: its protocol is the eager one.
    this.#consumer.on(REBALANCING, () => this.#lose('revoked'))
    this.#consumer.on(CRASH, ({ payload }) => {
      this.#lose('lost')
      if (!payload.restart) this.onCrash(payload.error)
    })
  }

  async start() {
    const { topics, pattern, reset, auto_commit, auto_commit_ms } = this.#options
    await this.#consumer.connect()
    await this.#consumer.subscribe({
      topics: pattern ? [new RegExp(pattern)] : topics,
      fromBeginning: reset === 'earliest',
    })
    await this.#consumer.run({
      autoCommit: auto_commit ?? false,
      autoCommitInterval: auto_commit_ms ?? null,
      eachMessage: async record => this.#print(record),
    })
  }

  async close() {
    await this.#consumer.disconnect()
  }

  async commit() {
    const offsets = [...this.#positions.values()].sort(byPartition)
    if (offsets.length > 0) {
      await this.#consumer.commitOffsets(
        offsets.map(([topic, partition, offset]) => ({ topic, partition, offset: String(offset) })),
      )
    }
    emit('committed', { offsets })
  }

  async seek({ topic, partition, offset }) {
    this.#consumer.seek({ topic, partition, offset: String(offset) })
    this.#move(topic, partition, offset)
  }

  async seek_time({ topic, partition, timestamp }) {
    const client = this.#kafka.admin()
    await client.connect()
    const found = await client.fetchTopicOffsetsByTimestamp(topic, timestamp)
    await client.disconnect()
    const { offset } = found.find(each => each.partition === partition)
    await this.seek({ topic, partition, offset: Number(offset) })
  }

  async pause() {
    this.#consumer.pause(this.#owned.map(selected))
    emit('paused')
  }

  async resume() {
    this.#consumer.resume(this.#owned.map(selected))
    emit('resumed')
  }

  #join(assignment) {
    const partitions = Object.entries(assignment)
      .flatMap(([topic, partitions]) => partitions.map(partition => [topic, partition]))
      .sort(byPartition)
    this.#own(partitions)
  }

  #own(partitions) {
    this.#owned = partitions
    this.#positions.clear()
    emit('assigned', { partitions })
  }

  #lose(event) {
    if (this.#owned.length === 0) return
    emit(event, { partitions: this.#owned })
    this.#own([])
  }

  #print({ topic, partition, message }) {
    const offset = Number(message.offset)
    emit('record', {
      topic,
      partition,
      offset,
      key: message.key?.toString() ?? null,
      value: message.value?.toString() ?? null,
      headers: Object.entries(message.headers ?? {}).flatMap(([name, values]) =>
        [values].flat().map(value => [name, value?.toString() ?? null]),
      ),
      timestamp: Number(message.timestamp),
    })
    this.#move(topic, partition, offset + 1)
  }

  #move(topic, partition, offset) {
    this.#positions.set(name([topic, partition]), [topic, partition, offset])
  }
}

function settings(options) {
  const { group, session_ms, heartbeat_ms, metadata_max_age_ms, isolation } = options
  const chosen = {
    groupId: group,
    sessionTimeout: session_ms,
    heartbeatInterval: heartbeat_ms,
    metadataMaxAge: metadata_max_age_ms,
    readUncommitted: isolation !== 'read_committed',
    maxWaitTimeInMs: 100,
    allowAutoTopicCreation: false,
  }
  // The library takes a setting that is there and undefined for one.
  return Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== undefined))
}

function name([topic, partition]) {
  return `${topic} ${partition}`
}

function selected([topic, partition]) {
  return { topic, partitions: [partition] }
}

function byPartition([topic, partition], [otherTopic, otherPartition]) {
  if (topic !== otherTopic) return topic < otherTopic ? -1 : 1
  return partition - otherPartition
}
