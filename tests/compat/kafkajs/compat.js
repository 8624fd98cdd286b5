// kafkajs against the broker under test; the contract is described in ../contract.py, the features in ../run.
// Its consumers are members of groups, so most of what it sends is read back and compared by the other clients.

const fs = require('fs')
const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, Partitioners, logLevel } = require('kafkajs')
const lz4 = require('lz4js')
const xxh32 = require('lz4js/xxh32.js')
const zstd = require('@bokuweb/zstd-wasm')

const TIME_0 = 1720000000000
const topicOf = name => `${process.env.COMPAT_PREFIX}-${name}`
const emit = line => fs.writeSync(1, JSON.stringify(line) + '\n')

// kafkajs has gzip of its own; the others are plug-ins.
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  async compress(encoder) {
    const frame = Buffer.from(lz4.compress(encoder.buffer))
    frame[4] |= 0x20 // a frame of one block has independent blocks, and Kafka wants to be told so
    frame[6] = (xxh32.hash(0, frame, 4, 2) >> 8) & 0xff
    return frame
  },
  async decompress(buffer) {
    return Buffer.from(lz4.decompress(buffer))
  },
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  async compress(encoder) {
    return Buffer.from(zstd.compress(encoder.buffer, 3))
  },
  async decompress(buffer) {
    return Buffer.from(zstd.decompress(buffer))
  },
})
const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD }

const kafka = new Kafka({ clientId: 'compat', brokers: [process.env.COMPAT_BOOTSTRAP], logLevel: logLevel.NOTHING, retry: { retries: 5, initialRetryTime: 100 } })
const admin = kafka.admin()

const sleep = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))

class NotRun extends Error {}

function same(found, wanted, what) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(wanted)]
  if (a !== b) throw new Error(`${what}: found ${a}, wanted ${b}`)
}

async function refused(type, work) {
  try {
    await work()
  } catch (error) {
    const found = error.type || error.cause?.type || error.errors?.[0].type || error.message
    return same(found, type, 'error')
  }
  throw new Error(`accepted, wanted ${type}`)
}

function records(count) {
  const lines = fs.readFileSync(process.env.COMPAT_LINES, 'latin1').split('\n').slice(0, 2000)
  return Array.from({ length: count }, (_, i) => ({ key: Buffer.from(`key-${i}`), value: Buffer.from(lines[i % lines.length], 'latin1') }))
}

async function create(name, partitions = 1, configs = {}) {
  const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
  const made = await admin.createTopics({ topics: [{ topic: name, numPartitions: partitions, replicationFactor: 1, configEntries }], waitForLeaders: true, timeout: 20000 })
  if (!made) throw Object.assign(new Error('topic exists'), { type: 'TOPIC_ALREADY_EXISTS' })
  return name
}

async function produce(topic, messages, { partition = 0, acks = -1, compression, idempotent = false, batch = 1000 } = {}) {
  const producer = kafka.producer({ idempotent, maxInFlightRequests: idempotent ? 1 : 5, createPartitioner: Partitioners.DefaultPartitioner })
  await producer.connect()
  try {
    for (let at = 0; at < messages.length; at += batch) {
      await producer.send({ topic, acks, compression, messages: messages.slice(at, at + batch).map(message => ({ ...message, partition })) })
    }
  } finally {
    await producer.disconnect()
  }
}

const offsets = async (topic, partition = 0) => {
  const found = (await admin.fetchTopicOffsets(topic)).find(entry => entry.partition === partition)
  return [Number(found.low), Number(found.high)]
}

async function until(what, attempt, seconds = 10) {
  for (let i = 0; i < seconds * 10; i++) {
    if (await attempt()) return
    await sleep(100)
  }
  throw new Error(`${what}: not within ${seconds} s`)
}

async function sent(name, count, options) {
  const topic = await create(topicOf(name))
  await produce(topic, records(count), options)
  await until(`${count} records`, async () => (await offsets(topic))[1] >= count)
  same(await offsets(topic), [0, count], 'offsets')
  return `${count} records, read back by others`
}

// Reads as many records as are wanted in a group of its own.
async function consumed(topic, count, settings = {}, more = async () => {}) {
  const consumer = kafka.consumer({ groupId: `${topic}-readers`, maxWaitTimeInMs: 500, ...settings })
  const found = []
  try {
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({ autoCommit: false, eachMessage: async ({ partition, message }) => void found.push({ partition, ...message, at: Date.now() }) })
    await more(found, consumer)
    await until(`${count} records`, () => found.length >= count, 40)
    return found
  } finally {
    await Promise.race([consumer.disconnect(), sleep(1000)]) // it would wait for a fetch that is parked
  }
}

const features = {
  async metadata() {
    const { brokers, clusterId } = await admin.describeCluster()
    if (!brokers.length || !clusterId) throw new Error('no broker or no cluster id')
    return `${brokers.length} broker, cluster ${clusterId}`
  },
  async create() {
    const name = await create(topicOf('created'), 3)
    same((await admin.fetchTopicMetadata({ topics: [name] })).topics[0].partitions.length, 3, 'partitions')
    await refused('TOPIC_ALREADY_EXISTS', () => create(name, 3))
  },
  async partitions() {
    const topic = await create(topicOf('grown'))
    await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] })
    await until('4 partitions', async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length === 4)
    await produce(topic, records(10), { partition: 3 })
    same(await offsets(topic, 3), [0, 10], 'offsets')
  },
  'acks-0': () => sent('acks-0', 500, { acks: 0 }),
  'acks-1': () => sent('acks-1', 500, { acks: 1 }),
  'acks-all': () => sent('acks-all', 500, { acks: -1 }),
  idempotent: () => sent('idempotent', 2000, { idempotent: true, batch: 50 }),
  ...Object.fromEntries(Object.keys(CODECS).map(codec => [codec, () => sent(codec, 1000, { compression: CODECS[codec] })])),
  async consume() {
    const topic = await create(topicOf('consume'), 3)
    const sent = records(3000)
    for (let partition = 0; partition < 3; partition++) await produce(topic, sent.filter((_, i) => i % 3 === partition), { partition })
    const found = await consumed(topic, 3001, {}, async (found, consumer) => {
      await until('3000 records', () => found.length >= 3000, 40)
      consumer.seek({ topic, partition: 1, offset: '999' })
    })
    for (let partition = 0; partition < 3; partition++) {
      const [have, want] = [found.slice(0, 3000).filter(record => record.partition === partition), sent.filter((_, i) => i % 3 === partition)]
      same(have.length, want.length, `records of partition ${partition}`)
      if (!have.every((record, i) => record.key.equals(want[i].key) && record.value.equals(want[i].value))) throw new Error(`partition ${partition} differs`)
    }
    same([found[3000].partition, found[3000].offset], [1, '999'], 'the record after the seek')
  },
  async shapes() {
    const topic = await create(topicOf('shapes'))
    const large = Buffer.from(Array.from({ length: 900000 }, (_, i) => (i * 31 + (i >> 8)) & 255))
    const b = text => Buffer.from(text)
    await produce(topic, [
      { key: b('plain'), value: b('value') },
      { key: null, value: b('null key') },
      { key: b('tombstone'), value: null },
      { key: b('empty value'), value: b('') },
      { key: b(''), value: b('empty key') },
      { key: b('headers'), value: b('value'), headers: { a: [b('1'), b('2')], b: b(''), 'ümläut': Buffer.from([0, 255]) } },
      { key: null, value: null, headers: { only: b('header') } },
      { key: b('large'), value: large, headers: { size: b('900000') } },
    ])
    same(await offsets(topic), [0, 8], 'offsets')
    return 'read back by others'
  },
  async timestamps() {
    const topic = await create(topicOf('timestamps'))
    await produce(topic, Array.from({ length: 100 }, (_, i) => ({ key: 't', value: `${i}`, timestamp: `${TIME_0 + i * 1000}` })))
    same((await admin.fetchTopicOffsetsByTimestamp(topic, TIME_0 + 41500))[0].offset, '42', 'offset for time')
    same(await offsets(topic), [0, 100], 'beginning and end')
  },
  async parked() {
    const topic = await create(topicOf('parked'))
    const acks = []
    const found = await consumed(topic, 3, { maxWaitTimeInMs: 30000, sessionTimeout: 60000 }, async found => {
      await sleep(3000)
      for (let turn = 0; turn < 3; turn++) {
        await produce(topic, [{ key: 'parked', value: `${turn}` }])
        acks.push(Date.now())
        await until('a record of a parked fetch', () => found.length > turn, 20)
        await sleep(1000)
      }
    })
    const worst = Math.max(...found.map((record, i) => record.at - acks[i]))
    if (worst > 5000) throw new Error(`a parked fetch was answered ${worst} ms after the ack`)
    return `at most ${Math.max(0, worst)} ms after the ack`
  },
  async errors() {
    const topic = await create(topicOf('errors'))
    const oversize = Buffer.from(Array.from({ length: 2000000 }, (_, i) => (i * i * 31 + (i >> 3)) & 255))
    await refused('MESSAGE_TOO_LARGE', () => produce(topic, [{ value: oversize }]))
    await refused('UNKNOWN_TOPIC_OR_PARTITION', () => admin.fetchTopicMetadata({ topics: [topicOf('absent')] }))
    await refused('UNKNOWN_TOPIC_OR_PARTITION', () => admin.deleteTopics({ topics: [topicOf('absent')] }))
  },
  async admin() {
    const topic = await create(topicOf('admin'), 2, { 'retention.ms': '86400000' })
    const broker = `${(await admin.describeCluster()).brokers[0].nodeId}`
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [
        { type: ConfigResourceTypes.TOPIC, name: topic },
        { type: ConfigResourceTypes.BROKER, name: broker },
      ],
    })
    const [ofTopic, ofBroker] = [topic, broker].map(name => resources.find(resource => resource.resourceName === name).configEntries)
    same(ofTopic.find(entry => entry.configName === 'retention.ms').configValue, '86400000', 'retention.ms')
    if (ofTopic.length <= 10 || ofBroker.length <= 10) throw new Error(`${ofTopic.length} topic configs, ${ofBroker.length} broker configs`)
    return `${ofTopic.length} topic configs, ${ofBroker.length} broker configs`
  },
  async delete() {
    const topic = await create(topicOf('deleted'))
    await produce(topic, records(5))
    await admin.deleteTopics({ topics: [topic], timeout: 20000 })
    await until("the topic's end", async () => !(await admin.listTopics()).includes(topic))
    await create(topic)
    await produce(topic, records(1))
    same(await offsets(topic), [0, 1], 'offsets of the topic created anew')
  },
}

// A member of a group, as ../groups.py tells it.
async function member(settings) {
  const { topic, group, client_id, session_ms, heartbeat_ms, metadata_ms } = settings
  const own = new Kafka({ clientId: client_id, brokers: [process.env.COMPAT_BOOTSTRAP], logLevel: logLevel.NOTHING, retry: { retries: 50, initialRetryTime: 100, maxRetryTime: 500 } })
  const consumer = own.consumer({ groupId: group, sessionTimeout: session_ms, rebalanceTimeout: 10000, heartbeatInterval: heartbeat_ms, metadataMaxAge: metadata_ms, maxWaitTimeInMs: 200 })
  const owned = assignment => emit({ owned: Object.entries(assignment).flatMap(([topic, partitions]) => partitions.map(partition => [topic, partition])) })
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => owned(payload.memberAssignment))
  consumer.on(consumer.events.REBALANCING, () => owned({}))
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    async eachBatch({ batch, resolveOffset, isRunning, isStale }) {
      if (!isRunning() || isStale()) return
      emit({ read: [batch.topic, batch.partition], offsets: batch.messages.map(message => Number(message.offset)) })
      resolveOffset(batch.lastOffset())
      await consumer.commitOffsets([{ topic: batch.topic, partition: batch.partition, offset: `${BigInt(batch.lastOffset()) + 1n}` }]).catch(error => {
        emit({ refused: error.message })
        throw error
      })
    },
  })
  await new Promise(resolve => process.stdin.on('end', resolve).resume())
  await consumer.disconnect()
  process.exit(0)
}

async function main() {
  await zstd.init()
  if (process.argv[2] === 'member') return member(JSON.parse(process.argv[3]))
  emit({ version: require('kafkajs/package.json').version })
  await admin.connect()
  const wanted = (process.env.COMPAT_FEATURES || '').split(' ').filter(Boolean)
  for (const [feature, run] of Object.entries(features)) {
    if (wanted.length && !wanted.includes(feature)) continue
    const started = Date.now()
    let [ok, detail] = [true, '']
    let timer
    try {
      detail = (await Promise.race([run(), new Promise((_, reject) => (timer = setTimeout(() => reject(new Error('no end within 60 s')), 60000)))])) || ''
    } catch (error) {
      ;[ok, detail] = [error instanceof NotRun ? null : false, `${error instanceof NotRun ? '' : error.name + ': '}${error.message}`]
    }
    clearTimeout(timer)
    emit({ feature, ok, detail: detail.slice(0, 500), seconds: (Date.now() - started) / 1000 })
  }
  process.exit(0)
}

main().catch(error => {
  console.error(error)
  process.exit(1)
})
