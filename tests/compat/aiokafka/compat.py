"""aiokafka against the broker under test; the contract is contract.py."""
import asyncio
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import contract as c
import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType


class Admin:
    """An admin client for one `async with`."""

    async def __aenter__(self):
        self.client = AIOKafkaAdminClient(bootstrap_servers=c.BOOTSTRAP)
        await self.client.start()
        return self.client

    async def __aexit__(self, *_):
        await self.client.close()


def refuse(response):
    """Raises the first error in a create or delete answer, whose entries are (topic, code, …)."""
    for entry in getattr(response, "topic_errors", None) or getattr(response, "topic_error_codes", []):
        if entry[1]:
            raise kafka_errors.for_code(entry[1])(str(entry))


async def create(name, partitions=1, **configs):
    async with Admin() as admin:
        refuse(await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)], timeout_ms=20000))
    return name


async def produce(name, records, partition=0, **config):
    """records: (key, value) or (key, value, headers, timestamp)."""
    async with AIOKafkaProducer(bootstrap_servers=c.BOOTSTRAP, **config) as producer:
        sent = [await producer.send(name, value, key, partition, (more[1:] or [None])[0], (more or [None])[0]) for key, value, *more in records]
        await producer.flush()
        return await asyncio.wait_for(asyncio.gather(*sent), 30)


async def consumer(partitions, **config):
    """A started consumer of [(topic, partition, offset)]."""
    reader = AIOKafkaConsumer(bootstrap_servers=c.BOOTSTRAP, enable_auto_commit=False, check_crcs=True, **{"auto_offset_reset": "none", **config})
    await reader.start()
    reader.assign([TopicPartition(name, partition) for name, partition, _ in partitions])
    for name, partition, offset in partitions:
        reader.seek(TopicPartition(name, partition), offset)
    return reader


async def poll(reader, count, seconds=40):
    """Up to `count` records, in the order of arrival; fewer only when the time is over."""
    found, end = [], time.monotonic() + seconds
    while len(found) < count and time.monotonic() < end:
        for batch in (await reader.getmany(timeout_ms=500, max_records=min(1000, count - len(found)))).values():
            found.extend(batch)
    return found


async def read(name, count, partition=0, offset=0, seconds=40, **config):
    reader = await consumer([(name, partition, offset)], **config)
    try:
        found = await poll(reader, count, seconds)
    finally:
        await reader.stop()
    c.same(len(found), count, f"records read from {name}-{partition}")
    return found


async def ends(name):
    """(beginning, end) of partition 0."""
    reader, at = await consumer([(name, 0, 0)]), TopicPartition(name, 0)
    try:
        return (await reader.beginning_offsets([at]))[at], (await reader.end_offsets([at]))[at]
    finally:
        await reader.stop()


def pairs(messages):
    return [(m.key, m.value) for m in messages]


async def round_trip(name, count, **config):
    records = c.records(count)
    await produce(await create(c.topic(name)), records, **config)
    found = await read(c.topic(name), count)
    c.same(c.digest(pairs(found)), c.digest(records), "digest")
    c.same([m.offset for m in found], list(range(count)), "offsets")
    return f"{count} records"


async def metadata():
    async with Admin() as admin:
        cluster = await admin.describe_cluster()
    assert cluster["brokers"] and cluster["cluster_id"], cluster
    return f"{len(cluster['brokers'])} broker, cluster {cluster['cluster_id']}"


async def partition_count(name):
    async with Admin() as admin:
        return len((await admin.describe_topics([name]))[0]["partitions"])


async def create_topic():
    name = await create(c.topic("created"), 3)
    c.same(await partition_count(name), 3, "partitions")
    try:
        await create(name, 3)
    except kafka_errors.TopicAlreadyExistsError:
        return
    raise AssertionError("a second create of the same topic was accepted")


async def grow():
    name = await create(c.topic("grown"))
    async with Admin() as admin:
        refuse(await admin.create_partitions({name: NewPartitions(4)}))
    for _ in range(50):
        if await partition_count(name) == 4:
            break
        await asyncio.sleep(0.1)
    await produce(name, c.records(10), 3)
    c.same(c.digest(pairs(await read(name, 10, 3))), c.digest(c.records(10)), "digest")


async def idempotent():
    name, records = await create(c.topic("idempotent")), c.records(2000)
    await produce(name, records, enable_idempotence=True, acks="all", max_batch_size=2000)
    c.same(c.digest(pairs(await read(name, 2000))), c.digest(records), "digest")
    c.same(await ends(name), (0, 2000), "beginning and end")


async def consume():
    name, records = await create(c.topic("consume"), 3), c.records(3000)
    for partition in range(3):
        await produce(name, records[partition::3], partition)
    reader = await consumer([(name, partition, 0) for partition in range(3)])
    found = {0: [], 1: [], 2: []}
    for message in await poll(reader, 3000):
        found[message.partition].append(message)
    for partition in range(3):
        c.same(c.digest(pairs(found[partition])), c.digest(records[partition::3]), f"digest of partition {partition}")
    reader.seek(TopicPartition(name, 1), 500)
    c.same((await poll(reader, 1, 20))[0].key, records[1::3][500][0], "key at offset 500")
    await reader.stop()


async def shapes():
    name = await create(c.topic("shapes"))
    wanted = [shape for shape in c.shapes() if shape[:2] != (None, None)]
    await produce(name, wanted)
    found = [(m.key, m.value, list(m.headers)) for m in await read(name, len(wanted))]
    for have, want in zip(found, wanted):
        c.same(have, want, f"record {want[0]}")
    return "this client sends no record without key and value"


async def timestamps():
    name = await create(c.topic("timestamps"))
    await produce(name, [(b"t", b"%d" % i, [], c.TIME_0 + i * 1000) for i in range(100)])
    c.same([m.timestamp for m in await read(name, 100)], [c.TIME_0 + i * 1000 for i in range(100)], "timestamps")
    reader, at = await consumer([(name, 0, 0)]), TopicPartition(name, 0)
    c.same((await reader.offsets_for_times({at: c.TIME_0 + 41_500}))[at].offset, 42, "offset for time")
    c.same((await reader.offsets_for_times({at: c.TIME_0 + 10**9}))[at], None, "offset for a time after the last")
    await reader.stop()
    c.same(await ends(name), (0, 100), "beginning and end")


async def parked():
    name, waits = await create(c.topic("parked")), []
    reader = await consumer([(name, 0, 0)], fetch_max_wait_ms=30000, fetch_min_bytes=1)

    async def later(turn):
        await asyncio.sleep(2)
        await produce(name, [(b"parked", b"%d" % turn)], acks="all")
        return time.monotonic()

    for turn in range(3):
        sending = asyncio.ensure_future(later(turn))
        message = await poll(reader, 1, 20)
        arrived = time.monotonic()
        c.same([m.value for m in message], [b"%d" % turn], "value")
        waits.append(arrived - await sending)
    await reader.stop()
    assert max(waits) < c.PARKED_SECONDS_MAX, f"{max(waits):.1f} s after the ack"
    return f"at most {max(0, max(waits)) * 1000:.0f} ms after the ack"


async def errors():
    name = await create(c.topic("errors"))
    await produce(name, c.records(10))
    try:
        await produce(name, [(None, os.urandom(c.OVERSIZE_BYTES))], max_request_size=10_000_000)
        raise AssertionError("a record above max.message.bytes was accepted")
    except kafka_errors.MessageSizeTooLargeError:
        pass
    c.same(pairs(await read(name, 10, 0, 5_000_000, auto_offset_reset="earliest")), c.records(10), "after a reset to earliest")
    try:
        await read(name, 1, 0, 5_000_000, 20)
        raise AssertionError("an offset out of range was answered with records")
    except kafka_errors.OffsetOutOfRangeError:
        pass
    try:
        async with Admin() as admin:
            refuse(await admin.delete_topics([c.topic("absent")]))
        raise AssertionError("deleting an unknown topic was accepted")
    except kafka_errors.UnknownTopicOrPartitionError:
        pass


async def describe():
    name = await create(c.topic("admin"), 2, **{"retention.ms": "86400000"})
    async with Admin() as admin:
        broker = str((await admin.describe_cluster())["brokers"][0]["node_id"])
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name), ConfigResource(ConfigResourceType.BROKER, broker)])
    found = {}
    for answer in answers:
        for code, text, _, resource, configs in answer.resources:
            c.same(code, 0, f"error of {resource}: {text}")
            found[resource] = {config[0]: config[1] for config in configs}
    c.same(found[name]["retention.ms"], "86400000", "retention.ms")
    assert len(found[name]) > 10 and len(found[broker]) > 10, {resource: len(configs) for resource, configs in found.items()}
    return f"{len(found[name])} topic configs, {len(found[broker])} broker configs"


async def delete():
    name = await create(c.topic("deleted"))
    await produce(name, c.records(5))
    async with Admin() as admin:
        refuse(await admin.delete_topics([name], timeout_ms=20000))
        for attempt in range(100):
            if name not in await admin.list_topics():
                break
            assert attempt < 99, "the topic is still listed"
            await asyncio.sleep(0.1)
    await create(name)
    await produce(name, c.records(1))
    c.same(await ends(name), (0, 1), "offsets of the topic created anew")


async def read_digest(name, partition, count):
    total, reader = c.Digest(), await consumer([(name, partition, 0)], max_partition_fetch_bytes=8_000_000)
    last = time.monotonic()
    while total.count < count and time.monotonic() - last < 20:
        for message in await poll(reader, min(1000, count - total.count), 2):
            total.add(message.key, message.value)
            last = time.monotonic()
    await reader.stop()
    return total


async def send(name, partitions, codec, values):
    await create(name, partitions)
    sent = 0
    async with AIOKafkaProducer(bootstrap_servers=c.BOOTSTRAP, compression_type=None if codec == "none" else codec, acks="all", max_batch_size=500_000) as producer:
        for sent, value in enumerate(values, 1):
            last = await producer.send(name, value, partition=(sent - 1) % partitions)
        await producer.flush()
        await last
    return sent


async def member(m):
    reader = AIOKafkaConsumer(bootstrap_servers=c.BOOTSTRAP, client_id=m.client_id, group_id=m.group, group_instance_id=m.instance, enable_auto_commit=False, auto_offset_reset="earliest",
                              session_timeout_ms=m.session_ms, heartbeat_interval_ms=m.heartbeat_ms, metadata_max_age_ms=m.metadata_ms)
    # This client rebalances beside its reader: what was read is committed before partitions go, and what comes after they went is left to their new owner.
    turn = asyncio.Lock()

    class Owned(ConsumerRebalanceListener):
        async def on_partitions_assigned(self, assigned):
            m.now(map(tuple, assigned))

        async def on_partitions_revoked(self, revoked):
            async with turn:
                m.now([])

    reader.subscribe([m.topic], listener=Owned())
    await reader.start()
    while not m.left.is_set():
        batches = await reader.getmany(timeout_ms=100)
        async with turn:
            mine = {at: messages for at, messages in batches.items() if tuple(at) in m.owned}
            m.read((message.topic, message.partition, message.offset) for messages in mine.values() for message in messages)
            try:
                if mine:
                    await reader.commit({at: messages[-1].offset + 1 for at, messages in mine.items()})
            except kafka_errors.KafkaError as error:
                m.refused(error)
    await reader.stop()


def here(work):
    """The coroutine function as a plain one."""
    return lambda *arguments: asyncio.run(work(*arguments))


FEATURES = [
    ("metadata", here(metadata)), ("create", here(create_topic)), ("partitions", here(grow)),
    *[(f"acks-{acks}", here(lambda acks=acks: round_trip(f"acks-{acks}", 500, acks=acks))) for acks in (0, 1, "all")],
    ("idempotent", here(idempotent)),
    *[(codec, here(lambda codec=codec: round_trip(codec, 1000, compression_type=None if codec == "none" else codec, linger_ms=50))) for codec in c.CODECS],
    ("consume", here(consume)), ("shapes", here(shapes)), ("timestamps", here(timestamps)), ("parked", here(parked)), ("errors", here(errors)),
    ("admin", here(describe)), ("delete", here(delete)),
]
c.main(aiokafka.__version__, FEATURES, here(read_digest), here(send), here(member))
