"""confluent-kafka (librdkafka) against the broker under test; the contract is contract.py."""
import functools
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import contract as c
import confluent_kafka
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource, NewPartitions, NewTopic, ResourceType

BASE = {"bootstrap.servers": c.BOOTSTRAP, "log_level": 2}


@functools.cache  # the futures of a client that is gone fail with it
def admin():
    return AdminClient(BASE)


def create(name, partitions=1, **config):
    for future in admin().create_topics([NewTopic(name, partitions, 1, config=config)], operation_timeout=20).values():
        future.result(30)
    return name


def produce(name, records, partition=0, **config):
    """records: (key, value) or (key, value, headers, timestamp). Returns the offsets delivered."""
    producer = Producer({**BASE, "message.timeout.ms": 30000, "queue.buffering.max.messages": 1000000, **config})
    offsets, errors = [], []

    def delivered(error, message):
        errors.append(error) if error else offsets.append(message.offset())

    for key, value, *more in records:
        extra = dict(zip(("headers", "timestamp"), more))
        while True:
            try:
                producer.produce(name, value, key, partition, on_delivery=delivered, **extra)
                break
            except BufferError:
                producer.poll(0.05)
        producer.poll(0)
    left = producer.flush(40)
    if errors or left:
        raise AssertionError(f"{left} undelivered, errors {[str(e) for e in errors[:3]]}")
    return offsets


def consumer(**config):
    return Consumer({**BASE, "group.id": "unused", "enable.auto.commit": False, "auto.offset.reset": "error", "check.crcs": True,
                     "enable.partition.eof": False, **config})


def read(name, count, partition=0, offset=0, seconds=40, **config):
    reader = consumer(**config)
    reader.assign([TopicPartition(name, partition, offset)])
    found, end = [], time.monotonic() + seconds
    while len(found) < count and time.monotonic() < end:
        for message in reader.consume(min(500, count - len(found)), 0.5):
            if message.error():
                raise KafkaException(message.error())
            found.append(message)
    reader.close()
    c.same(len(found), count, f"records read from {name}-{partition}")
    return found


def pairs(messages):
    return [(m.key(), m.value()) for m in messages]


def round_trip(name, count, **config):
    records = c.records(count)
    produce(create(c.topic(name)), records, **config)
    found = read(c.topic(name), count)
    c.same(c.digest(pairs(found)), c.digest(records), "digest")
    c.same([m.offset() for m in found], list(range(count)), "offsets")
    return f"{count} records"


def metadata():
    found = admin().list_topics(timeout=10)
    assert found.brokers and found.cluster_id, "no broker or no cluster id"
    return f"{len(found.brokers)} broker, cluster {found.cluster_id}"


def create_topic():
    name = create(c.topic("created"), 3)
    c.same(len(admin().list_topics(name, 10).topics[name].partitions), 3, "partitions")
    try:
        create(name, 3)
    except KafkaException as error:
        c.same(error.args[0].code(), KafkaError.TOPIC_ALREADY_EXISTS, "error of a second create")
        return
    raise AssertionError("a second create of the same topic was accepted")


def grow():
    name = create(c.topic("grown"))
    for future in admin().create_partitions([NewPartitions(name, 4)]).values():
        future.result(30)
    c.within(10, "4 partitions", lambda: len(admin().list_topics(name, 10).topics[name].partitions) == 4)
    produce(name, c.records(10), partition=3)
    c.same(c.digest(pairs(read(name, 10, 3))), c.digest(c.records(10)), "digest")


def acks_0():
    name, records = create(c.topic("acks-0")), c.records(500)
    produce(name, records, acks="0")
    c.same(c.digest(pairs(read(name, 500))), c.digest(records), "digest")


def idempotent():
    name, records = create(c.topic("idempotent")), c.records(2000)
    produce(name, records, **{"enable.idempotence": True, "acks": "all", "linger.ms": 0, "batch.num.messages": 50})
    c.same(c.digest(pairs(read(name, 2000))), c.digest(records), "digest")
    c.same(consumer().get_watermark_offsets(TopicPartition(name, 0), 10), (0, 2000), "offsets")


def consume():
    name, records = create(c.topic("consume"), 3), c.records(3000)
    for partition in range(3):
        produce(name, records[partition::3], partition)
    reader = consumer()
    reader.assign([TopicPartition(name, p, 0) for p in range(3)])
    found, end = {0: [], 1: [], 2: []}, time.monotonic() + 40
    while sum(map(len, found.values())) < 3000 and time.monotonic() < end:
        for message in reader.consume(500, 0.5):
            if message.error():
                raise KafkaException(message.error())
            found[message.partition()].append(message)
    for partition in range(3):
        c.same(c.digest(pairs(found[partition])), c.digest(records[partition::3]), f"digest of partition {partition}")
    reader.seek(TopicPartition(name, 1, 500))
    message = c.within(20, "a record after the seek", lambda: next((m for m in reader.consume(1, 1) if m.partition() == 1 and not m.error()), None))
    c.same(message.key(), records[1::3][500][0], "key at offset 500")
    reader.close()


def shapes():
    name = create(c.topic("shapes"))
    produce(name, c.shapes(), **{"message.max.bytes": 1000000})
    found = [(m.key(), m.value(), m.headers() or []) for m in read(name, len(c.shapes()))]
    for have, want in zip(found, c.shapes()):
        c.same(have, want, f"record {want[0]}")


def timestamps():
    name = create(c.topic("timestamps"))
    produce(name, [(b"t", b"%d" % i, [], c.TIME_0 + i * 1000) for i in range(100)])
    found = read(name, 100)
    c.same([m.timestamp()[1] for m in found], [c.TIME_0 + i * 1000 for i in range(100)], "timestamps")
    reader = consumer()
    asked = [TopicPartition(name, 0, c.TIME_0 + 41_500)]
    c.same(reader.offsets_for_times(asked, 10)[0].offset, 42, "offset for time")
    c.same(reader.offsets_for_times([TopicPartition(name, 0, c.TIME_0 + 10**9)], 10)[0].offset, -1, "offset for a time after the last")
    c.same(reader.get_watermark_offsets(TopicPartition(name, 0), 10), (0, 100), "beginning and end")
    reader.close()


def parked():
    name, waits = create(c.topic("parked")), []
    reader = consumer(**{"fetch.wait.max.ms": 30000, "fetch.min.bytes": 1, "socket.timeout.ms": 60000})
    reader.assign([TopicPartition(name, 0, 0)])
    for turn in range(3):
        sent = []

        def later():
            time.sleep(2)
            produce(name, [(b"parked", b"%d" % turn)], acks="all")
            sent.append(time.monotonic())

        threading.Thread(target=later, daemon=True).start()
        message = c.within(20, f"record {turn} of a parked fetch", lambda: reader.poll(1))
        arrived = time.monotonic()
        c.within(5, "the producer", lambda: sent)
        c.same(message.value(), b"%d" % turn, "value")
        waits.append(arrived - sent[0])
    reader.close()
    assert max(waits) < c.PARKED_SECONDS_MAX, f"{max(waits):.1f} s after the ack"
    return f"at most {max(0, max(waits)) * 1000:.0f} ms after the ack"


def errors():
    name = create(c.topic("errors"))
    produce(name, c.records(10))
    try:
        produce(name, [(None, os.urandom(c.OVERSIZE_BYTES))], **{"message.max.bytes": 10_000_000})
        raise AssertionError("a record above max.message.bytes was accepted")
    except AssertionError as error:
        if "too large" not in str(error).lower():
            raise
    c.same(pairs(read(name, 10, 0, 5_000_000, **{"auto.offset.reset": "earliest"})), c.records(10), "after a reset to earliest")
    try:
        read(name, 1, 0, 5_000_000, 20)
        raise AssertionError("an offset out of range was answered with records")
    except KafkaException as error:
        c.same(error.args[0].code() in (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET), True, str(error))
    found = admin().list_topics(c.topic("absent"), 10).topics[c.topic("absent")]
    c.same(found.error.code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "error of an unknown topic")


def describe():
    name = create(c.topic("admin"), 2, **{"retention.ms": "86400000"})
    asked = [ConfigResource(ResourceType.TOPIC, name), ConfigResource(ResourceType.BROKER, str(next(iter(admin().list_topics(timeout=10).brokers))))]
    topic, broker = [f.result(30) for f in admin().describe_configs(asked).values()]
    c.same(topic["retention.ms"].value, "86400000", "retention.ms")
    assert len(topic) > 10 and len(broker) > 10, f"{len(topic)} topic configs, {len(broker)} broker configs"
    cluster = admin().describe_cluster().result(20)
    found = admin().describe_topics(confluent_kafka.TopicCollection([name]))[name].result(20)
    c.same([len(p.replicas) for p in found.partitions], [1, 1], "replicas")
    try:
        answer(admin().create_topics([NewTopic(c.topic("two-replicas"), 1, 2)]))
        raise AssertionError("two replicas on one broker were accepted")
    except KafkaException as error:
        c.same(error.args[0].code(), KafkaError.INVALID_REPLICATION_FACTOR, "error of two replicas on one broker")
        c.same(bool(c.TWO_REPLICAS.search(error.args[0].str())), True, error.args[0].str())
    answer(admin().create_topics([NewTopic(c.topic("only-checked"), 2, 1)], validate_only=True))
    answer(admin().create_partitions([NewPartitions(name, 5)], validate_only=True))
    topics = admin().list_topics(timeout=10).topics
    c.same((c.topic("only-checked") in topics, len(topics[name].partitions)), (False, 2), "what was only checked")
    return f"{len(topic)} topic configs, {len(broker)} broker configs, controller {cluster.controller.id}"


def answer(futures):
    """Of the only thing asked. The futures stay where they are: the client looks them up there."""
    return next(iter(futures.values())).result(30)


def settings():
    name = create(c.topic("settings"))
    topic, broker = (ResourceType.TOPIC, name), (ResourceType.BROKER, str(next(iter(admin().list_topics(timeout=10).brokers))))

    def alter(resource, operation, key, value=None):
        answer(admin().incremental_alter_configs([ConfigResource(*resource, incremental_configs=[ConfigEntry(key, value, incremental_operation=operation)])]))

    def described(resource, key):
        found = answer(admin().describe_configs([ConfigResource(*resource)]))[key]
        return found.value, ConfigSource(found.source).name

    def refused(code, *change):
        try:
            alter(*change)
            raise AssertionError(f"{change} was accepted")
        except KafkaException as error:
            c.same(error.args[0].code(), code, str(error))

    alter(topic, AlterConfigOpType.SET, "retention.ms", "86400000")
    c.within(5, "retention.ms", lambda: described(topic, "retention.ms") == ("86400000", "DYNAMIC_TOPIC_CONFIG"))
    alter(topic, AlterConfigOpType.APPEND, "cleanup.policy", "compact")
    c.within(5, "two policies", lambda: set(described(topic, "cleanup.policy")[0].split(",")) == {"delete", "compact"})
    alter(topic, AlterConfigOpType.SUBTRACT, "cleanup.policy", "delete")
    c.within(5, "one policy", lambda: described(topic, "cleanup.policy")[0] == "compact")
    # The old AlterConfigs replaces all that a topic has of its own.
    answer(admin().alter_configs([ConfigResource(*topic, set_config={"max.message.bytes": "5000"})]))
    own = lambda: [described(topic, key)[1] == "DYNAMIC_TOPIC_CONFIG" for key in ("max.message.bytes", "retention.ms", "cleanup.policy")]
    c.within(5, "what AlterConfigs left", lambda: own() == [True, False, False])
    alter(broker, AlterConfigOpType.SET, "log.cleaner.threads", "2")
    c.within(5, "a setting of the broker", lambda: described(broker, "log.cleaner.threads") == ("2", "DYNAMIC_BROKER_CONFIG"))
    alter(broker, AlterConfigOpType.DELETE, "log.cleaner.threads")
    refused(KafkaError.INVALID_CONFIG, topic, AlterConfigOpType.SET, "segment.bytes", "1")
    refused(KafkaError.INVALID_REQUEST, broker, AlterConfigOpType.SET, "node.id", "7")


def delete_records():
    name = create(c.topic("records"))
    produce(name, c.records(10))
    deleted = answer(admin().delete_records([TopicPartition(name, 0, 4)]))
    c.same(deleted.low_watermark, 4, "low watermark")
    c.same(pairs(read(name, 6, 0, 4)), c.records(10)[4:], "the records that stay")


def group_admin():
    name, group = create(c.topic("grouped")), c.topic("group")
    produce(name, c.records(10))
    reader = consumer(**{"group.id": group, "auto.offset.reset": "earliest", "client.id": "reader"})
    reader.subscribe([name])
    found, end = 0, time.monotonic() + 40
    while found < 10 and time.monotonic() < end:
        message = reader.poll(1)
        found += message is not None and message.error() is None
    c.same(found, 10, "records consumed in the group")
    reader.commit(asynchronous=False)
    described = admin().describe_consumer_groups([group])[group].result(30)
    c.same((described.state.name, len(described.members)), ("STABLE", 1), "state, members")
    member = described.members[0]
    c.same((member.host, member.client_id, [p.topic for p in member.assignment.topic_partitions]), ("/127.0.0.1", "reader", [name]), "the member")
    reset = lambda offset: answer(admin().alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [TopicPartition(name, 0, offset)])])).topic_partitions[0].error
    committed = lambda: answer(admin().list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])).topic_partitions[0].offset
    c.same(reset(3).code(), KafkaError.UNKNOWN_MEMBER_ID, "another's commit")
    c.same(admin().delete_consumer_groups([group])[group].exception(30).args[0].code(), KafkaError.NON_EMPTY_GROUP, "deleting a group that has members")
    reader.close()
    listed = {listed.group_id: listed.state.name for listed in admin().list_consumer_groups().result(30).valid}
    c.same(listed.get(group), "EMPTY", "listed as")
    c.same((committed(), reset(3), committed()), (10, None, 3), "committed, after a change")
    answer(admin().delete_consumer_groups([group]))
    c.same(admin().delete_consumer_groups([group])[group].exception(30).args[0].code(), KafkaError.GROUP_ID_NOT_FOUND, "deleting a group that is no more")


def delete():
    name = create(c.topic("deleted"))
    produce(name, c.records(5))
    for future in admin().delete_topics([name], operation_timeout=20).values():
        future.result(30)
    c.within(10, "the topic's end", lambda: name not in admin().list_topics(timeout=10).topics)
    c.within(20, "the second create", lambda: create(name))
    produce(name, c.records(1))
    c.same(consumer().get_watermark_offsets(TopicPartition(name, 0), 10), (0, 1), "offsets of the topic created anew")


def read_digest(name, partition, count):
    total, reader = c.Digest(), consumer(**{"queued.max.messages.kbytes": 65536})
    reader.assign([TopicPartition(name, partition, 0)])
    last = time.monotonic()
    while total.count < count and time.monotonic() - last < 20:
        for message in reader.consume(min(1000, count - total.count), 0.5):
            if message.error():
                raise KafkaException(message.error())
            total.add(message.key(), message.value())
            last = time.monotonic()
    reader.close()
    return total


def send(name, partitions, codec, values):
    create(name, partitions)
    producer = Producer({**BASE, "compression.type": codec, "linger.ms": 20, "batch.size": 1_000_000, "queue.buffering.max.kbytes": 262144,
                         "enable.idempotence": True})
    errors, sent = [], 0
    note = lambda error, _: errors.append(str(error)) if error else None
    for sent, value in enumerate(values, 1):
        while True:
            try:
                producer.produce(name, value, partition=(sent - 1) % partitions, on_delivery=note)
                break
            except BufferError:
                producer.poll(0.1)
        if sent % 1000 == 0:
            producer.poll(0)
    left = producer.flush(120)
    if errors or left:
        raise AssertionError(f"{left} undelivered, errors {errors[:3]}")
    return sent


def member(m):
    settings = {"consumer": {"group.remote.assignor": m.assignor} if m.assignor else {},
                "classic": {"session.timeout.ms": m.session_ms, "heartbeat.interval.ms": m.heartbeat_ms, **({"partition.assignment.strategy": m.assignor} if m.assignor else {})}}[m.protocol]
    reader = Consumer({**BASE, **settings, "client.id": m.client_id, "group.id": m.group, "group.protocol": m.protocol, "enable.auto.commit": False, "auto.offset.reset": "earliest",
                       "topic.metadata.refresh.interval.ms": m.metadata_ms, **({"group.instance.id": m.instance} if m.instance else {})})
    read = {}  # and not yet committed

    def commit(attempts=1):
        while read and attempts:
            try:
                reader.commit(offsets=[TopicPartition(*at, offset) for at, offset in read.items()], asynchronous=False)
                read.clear()
            except KafkaException as error:
                m.refused(error)
                attempts -= 1
                time.sleep(0.2 if attempts else 0)

    def gains(_, partitions):
        m.gains((p.topic, p.partition) for p in partitions)

    def loses(_, partitions):
        commit(10)  # refused while the leader of a rebalance makes the assignment
        m.loses((p.topic, p.partition) for p in partitions)

    reader.subscribe([f"^{m.topic}.*" if m.pattern else m.topic], on_assign=gains, on_revoke=loses, on_lost=loses)
    while not m.left.is_set():
        message = reader.poll(0.2)
        if message is not None and not message.error():
            m.read([(message.topic(), message.partition(), message.offset())])
            read[message.topic(), message.partition()] = message.offset() + 1
        commit()
    reader.close()


FEATURES = [
    ("metadata", metadata), ("create", create_topic), ("partitions", grow),
    ("acks-0", acks_0),
    ("acks-1", lambda: round_trip("acks-1", 500, acks="1")),
    ("acks-all", lambda: round_trip("acks-all", 500, acks="all")),
    ("idempotent", idempotent),
    *[(codec, lambda codec=codec: round_trip(codec, 1000, **{"compression.type": codec, "linger.ms": 50})) for codec in c.CODECS],
    ("consume", consume), ("shapes", shapes), ("timestamps", timestamps), ("parked", parked), ("errors", errors), ("admin", describe), ("settings", settings), ("records", delete_records), ("group-admin", group_admin), ("delete", delete),
]
c.main(f"{confluent_kafka.version()} (librdkafka {confluent_kafka.libversion()[0]})", FEATURES, read_digest, send, member)
