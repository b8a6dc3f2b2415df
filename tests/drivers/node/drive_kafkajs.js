// Drives kafkajs, the client in pure JavaScript.

import { readFileSync } from 'node:fs'
import { Zstd } from '@hpcc-js/wasm-zstd'
import kafkajs from 'kafkajs'
import SnappyCodec from 'kafkajs-snappy'
import lz4 from 'lz4-napi'
import { Actions, ACTIONS } from './admin.js'
import { emit, fail, main, obeyInOrder, partitionOf, readCommands } from './contract.js'
import { Member } from './member.js'

const { CompressionCodecs, CompressionTypes, Kafka, Partitioners, logLevel } = kafkajs

const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

/** A broker may be away for a while: what can be tried again is. */
const PATIENT = { initialRetryTime: 100, maxRetryTime: 500, retries: 1000 }

/** An administrator is to hear of a topic that is not there, and to wait for one that comes. */
const PROMPT = { initialRetryTime: 50, maxRetryTime: 300, retries: 8 }

async function capabilities() {
  const manifest = new URL('./node_modules/kafkajs/package.json', import.meta.url)
  console.log(
    JSON.stringify({
      client: 'kafkajs',
      version: JSON.parse(readFileSync(manifest)).version,
      codecs: Object.keys(CODECS),
      idempotent: true,
      custom_partitioner: true,
      strategies: ['roundrobin'],
      cooperative: false,
      static: false,
      fenced: false,
      // It looks a pattern's topics up once, when it subscribes, and misses those that come later.
      pattern: false,
      new_partitions: true,
      pause: true,
      assign: false,
      seek_time: true,
      isolation: true,
      auto_commit: true,
      admin: ACTIONS,
    }),
  )
}

/** Kafka's name of the error at the bottom of `error`, or null. */
function errorName(error) {
  const inner = error.errors?.[0] ?? error.groups?.[0]?.error ?? error.cause
  return error.type ?? (inner ? errorName(inner) : null)
}

/** The library leaves these three codecs to its users. */
async function addCodecs() {
  const zstd = await Zstd.load()
  CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec
  CompressionCodecs[CompressionTypes.LZ4] = () => ({
    compress: encoder => lz4.compressFrame(encoder.buffer),
    decompress: buffer => lz4.decompressFrame(buffer),
  })
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
    decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
  })
}

function connect({ bootstrap }, retry) {
  const logCreator = () => entry => console.error(JSON.stringify(entry))
  return new Kafka({ brokers: bootstrap.split(','), retry, logLevel: logLevel.WARN, logCreator })
}

async function produce(options) {
  await addCodecs()
  const chosen = new Map()
  const producer = connect(options, PATIENT).producer({
    createPartitioner: () => remembering(chosen, options.partitioner),
    idempotent: options.idempotent ?? false,
    allowAutoTopicCreation: false,
  })
  await producer.connect()
  const send = async records => {
    const said = await producer.send({
      topic: options.topic,
      messages: records,
      acks: -1,
      compression: CODECS[options.codec ?? 'none'],
    })
    // The answer names each partition's first offset; the partitioner knows who went where.
    const next = new Map(said.map(({ partition, baseOffset }) => [partition, Number(baseOffset)]))
    for (const record of records) {
      const partition = chosen.get(record)
      const offset = next.get(partition)
      next.set(partition, offset + 1)
      chosen.delete(record)
      emit('produced', { index: index++, partition, offset })
    }
  }
  let index = 0
  await sendInBatches(options.batch ?? 1000, send)
  await producer.disconnect()
}

/** Wraps the partitioner so that it notes what it chose for each message. */
function remembering(chosen, partitioner) {
  const byDefault = Partitioners.DefaultPartitioner()
  const custom = ({ partitionMetadata, message }) =>
    message.partition ?? partitionOf(message.key, partitionMetadata.length)
  const choose = partitioner === 'custom' ? custom : byDefault
  return asked => {
    const partition = choose(asked)
    chosen.set(asked.message, partition)
    return partition
  }
}

/** Sends what has come so far, at most `batch` records at once, until the input has ended. */
function sendInBatches(batch, send) {
  const waiting = []
  let ended = false
  let sending = false
  return new Promise((resolve, reject) => {
    const pump = async () => {
      if (sending) return
      sending = true
      while (waiting.length > 0) await send(waiting.splice(0, batch))
      sending = false
      if (ended) resolve()
    }
    // Lines that came together are sent together.
    const soon = () => setImmediate(() => pump().catch(reject))
    readCommands(
      record => {
        waiting.push(messageOf(record))
        soon()
      },
      () => {
        ended = true
        soon()
      },
    )
  })
}

function messageOf({ key, value, headers, timestamp, partition }) {
  const byName = {}
  for (const [name, header] of headers ?? []) (byName[name] ??= []).push(header)
  return {
    key,
    value,
    headers: byName,
    timestamp: timestamp == null ? undefined : String(timestamp),
    partition: partition ?? undefined,
  }
}

async function consume(options) {
  await addCodecs()
  const kafka = connect(options, PATIENT)
  const member = new Member(kafka, options)
  member.onCrash = error => fail(error, errorName)
  await member.start()
  await obeyInOrder(async command => {
    try {
      await member[command.do](command)
    } catch (error) {
      refused(command.do, error)
    }
  })
  await member.close()
  emit('closed')
}

async function administrate(options) {
  const client = connect(options, PROMPT).admin()
  await client.connect()
  const actions = new Actions(client)
  await obeyInOrder(async ({ do: what, ...fields }) => {
    try {
      emit('done', { do: what, ...(await actions[what](fields)) })
    } catch (error) {
      refused(what, error)
    }
  })
  await client.disconnect()
}

function refused(what, error) {
  if (!error.name.startsWith('KafkaJS')) throw error
  emit('failed', { do: what, code: errorName(error), message: error.message })
}

main({ capabilities, produce, consume, admin: administrate }, errorName)
