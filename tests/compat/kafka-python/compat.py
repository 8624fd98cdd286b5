"""kafka-python against the broker under test; the contract is contract.py."""
import os
import re
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import contract as c
import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor


def admin():
    return KafkaAdminClient(bootstrap_servers=c.BOOTSTRAP)


def create(name, partitions=1, **configs):
    with_configs = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
    admin().create_topics({name: with_configs}, timeout_ms=20000)
    return name


def produce(name, records, partition=0, **config):
    """records: (key, value) or (key, value, headers, timestamp)."""
    producer = KafkaProducer(bootstrap_servers=c.BOOTSTRAP, **config)
    try:
        sent = [producer.send(name, value, key, *more[:1], partition=partition, timestamp_ms=(more[1:] or [None])[0]) for key, value, *more in records]
        producer.flush(40)
        return [future.get(1) for future in sent]
    finally:
        producer.close(5)


def consumer(partitions, **config):
    """A consumer of [(topic, partition, offset)]."""
    reader = KafkaConsumer(bootstrap_servers=c.BOOTSTRAP, enable_auto_commit=False, check_crcs=True, **{"auto_offset_reset": "none", **config})
    reader.assign([TopicPartition(name, partition) for name, partition, _ in partitions])
    for name, partition, offset in partitions:
        reader.seek(TopicPartition(name, partition), offset)
    return reader


def poll(reader, count, seconds=40):
    """Up to `count` records, in the order of arrival; fewer only when the time is over."""
    found, end = [], time.monotonic() + seconds
    while len(found) < count and time.monotonic() < end:
        for batch in reader.poll(500, max_records=min(1000, count - len(found))).values():
            found.extend(batch)
    return found


def read(name, count, partition=0, offset=0, seconds=40, **config):
    reader = consumer([(name, partition, offset)], **config)
    found = poll(reader, count, seconds)
    reader.close()
    c.same(len(found), count, f"records read from {name}-{partition}")
    return found


def pairs(messages):
    return [(m.key, m.value) for m in messages]


def round_trip(name, count, **config):
    records = c.records(count)
    produce(create(c.topic(name)), records, **config)
    found = read(c.topic(name), count)
    c.same(c.digest(pairs(found)), c.digest(records), "digest")
    c.same([m.offset for m in found], list(range(count)), "offsets")
    return f"{count} records"


def metadata():
    cluster = admin().describe_cluster()
    assert cluster["brokers"] and cluster["cluster_id"], cluster
    return f"{len(cluster['brokers'])} broker, cluster {cluster['cluster_id']}"


def create_topic():
    name = create(c.topic("created"), 3)
    c.same(len(admin().describe_topics([name])[0]["partitions"]), 3, "partitions")
    try:
        create(name, 3)
    except kafka_errors.TopicAlreadyExistsError:
        return
    raise AssertionError("a second create of the same topic was accepted")


def grow():
    name = create(c.topic("grown"))
    admin().create_partitions({name: 4})
    c.within(10, "4 partitions", lambda: len(admin().describe_topics([name])[0]["partitions"]) == 4)
    produce(name, c.records(10), 3)
    c.same(c.digest(pairs(read(name, 10, 3))), c.digest(c.records(10)), "digest")


def idempotent():
    name, records = create(c.topic("idempotent")), c.records(2000)
    produce(name, records, enable_idempotence=True, acks="all", linger_ms=0, batch_size=2000)
    c.same(c.digest(pairs(read(name, 2000))), c.digest(records), "digest")
    at = TopicPartition(name, 0)
    c.same(consumer([]).end_offsets([at])[at], 2000, "end offset")


def consume():
    name, records = create(c.topic("consume"), 3), c.records(3000)
    for partition in range(3):
        produce(name, records[partition::3], partition)
    reader = consumer([(name, partition, 0) for partition in range(3)])
    found = {0: [], 1: [], 2: []}
    for message in poll(reader, 3000):
        found[message.partition].append(message)
    for partition in range(3):
        c.same(c.digest(pairs(found[partition])), c.digest(records[partition::3]), f"digest of partition {partition}")
    reader.seek(TopicPartition(name, 1), 500)
    c.same(poll(reader, 1, 20)[0].key, records[1::3][500][0], "key at offset 500")
    reader.close()


def shapes():
    name = create(c.topic("shapes"))
    wanted = [(key, value, [h for h in headers if h[1] is not None]) for key, value, headers in c.shapes() if (key, value) != (None, None)]
    produce(name, wanted)
    found = [(m.key, m.value, list(m.headers)) for m in read(name, len(wanted))]
    for have, want in zip(found, wanted):
        c.same(have, want, f"record {want[0]}")
    return "this client has no null header values, no record without key and value"


def timestamps():
    name = create(c.topic("timestamps"))
    produce(name, [(b"t", b"%d" % i, [], c.TIME_0 + i * 1000) for i in range(100)])
    c.same([m.timestamp for m in read(name, 100)], [c.TIME_0 + i * 1000 for i in range(100)], "timestamps")
    reader, at = consumer([]), TopicPartition(name, 0)
    c.same(reader.offsets_for_times({at: c.TIME_0 + 41_500})[at].offset, 42, "offset for time")
    c.same(reader.offsets_for_times({at: c.TIME_0 + 10**9})[at], None, "offset for a time after the last")
    c.same((reader.beginning_offsets([at])[at], reader.end_offsets([at])[at]), (0, 100), "beginning and end")
    reader.close()


def parked():
    name, waits = create(c.topic("parked")), []
    reader = consumer([(name, 0, 0)], fetch_max_wait_ms=30000, fetch_min_bytes=1, request_timeout_ms=60000)
    for turn in range(3):
        sent = []

        def later():
            time.sleep(2)
            produce(name, [(b"parked", b"%d" % turn)], acks="all")
            sent.append(time.monotonic())

        threading.Thread(target=later, daemon=True).start()
        message = poll(reader, 1, 20)
        arrived = time.monotonic()
        c.within(5, "the producer", lambda: sent)
        c.same([m.value for m in message], [b"%d" % turn], "value")
        waits.append(arrived - sent[0])
    reader.close()
    assert max(waits) < c.PARKED_SECONDS_MAX, f"{max(waits):.1f} s after the ack"
    return f"at most {max(0, max(waits)) * 1000:.0f} ms after the ack"


def errors():
    name = create(c.topic("errors"))
    produce(name, c.records(10))
    try:
        produce(name, [(None, os.urandom(c.OVERSIZE_BYTES))], max_request_size=10_000_000)
        raise AssertionError("a record above max.message.bytes was accepted")
    except kafka_errors.MessageSizeTooLargeError:
        pass
    c.same(pairs(read(name, 10, 0, 5_000_000, auto_offset_reset="earliest")), c.records(10), "after a reset to earliest")
    try:
        read(name, 1, 0, 5_000_000, 20)
        raise AssertionError("an offset out of range was answered with records")
    except kafka_errors.OffsetOutOfRangeError:
        pass
    try:
        admin().delete_topics([c.topic("absent")])
        raise AssertionError("deleting an unknown topic was accepted")
    except kafka_errors.UnknownTopicOrPartitionError:
        pass


def describe():
    name = create(c.topic("admin"), 2, **{"retention.ms": "86400000"})
    client = admin()
    broker = str(client.describe_cluster()["brokers"][0]["broker_id"])
    asked = [ConfigResource(ConfigResourceType.TOPIC, name), ConfigResource(ConfigResourceType.BROKER, broker)]
    found = client.describe_configs(asked, config_filter="all")
    topic, brokers = found["topic"][name], found["broker"][broker]
    c.same(topic["retention.ms"]["value"], "86400000", "retention.ms")
    assert len(topic) > 10 and len(brokers) > 10, f"{len(topic)} topic configs, {len(brokers)} broker configs"
    try:
        client.create_topics({c.topic("two-replicas"): {"num_partitions": 1, "replication_factor": 2}})
        raise AssertionError("two replicas on one broker were accepted")
    except kafka_errors.InvalidReplicationFactorError as error:
        c.same(bool(c.TWO_REPLICAS.search(str(error))), True, str(error))
    client.create_topics({c.topic("only-checked"): {"num_partitions": 2, "replication_factor": 1}}, validate_only=True)
    client.create_partitions({name: 5}, validate_only=True)
    c.same((c.topic("only-checked") in client.list_topics(), len(client.describe_topics([name])[0]["partitions"])), (False, 2), "what was only checked")
    return f"{len(topic)} topic configs, {len(brokers)} broker configs"


def settings():
    name = create(c.topic("settings"))
    client = admin()
    kinds = ConfigResourceType
    topic, broker, group, metrics = (kinds.TOPIC, name), (kinds.BROKER, str(client.describe_cluster()["brokers"][0]["broker_id"])), (kinds.GROUP, c.topic("settings-group")), (kinds.CLIENT_METRICS, c.topic("settings-metrics"))

    def alter(resource, key, *operation, **options):
        [(_, answers)] = client.alter_configs([ConfigResource(*resource, configs={key: operation})], raise_on_unknown=False, **options).items()
        return str(answers[resource[1]])

    def described(resource, key):
        [found] = client.describe_configs([ConfigResource(*resource)], config_filter="all").values()
        return found[resource[1]][key]["value"] if key in found[resource[1]] else None

    for resource, key, value in ((topic, "retention.ms", "86400000"), (broker, "log.cleaner.threads", "2"), (group, "consumer.session.timeout.ms", "50000"), (metrics, "metrics", "org.apache.kafka.consumer.")):
        alter(resource, key, "SET", value)
        c.within(5, f"{key} of {resource}", lambda: described(resource, key) == value)
        c.same(resource[1] in str(client.list_config_resources([resource[0]])), True, f"{resource} is listed")
        alter(resource, key, "DELETE", None)
        c.within(5, f"{key} of {resource} is taken back", lambda: described(resource, key) != value)
    alter(topic, "cleanup.policy", "APPEND", "compact")
    c.within(5, "two policies", lambda: set(described(topic, "cleanup.policy").split(",")) == {"delete", "compact"})
    alter(topic, "retention.ms", "SET", "1000", validate_only=True)
    c.same(described(topic, "retention.ms") == "1000", False, "retention.ms was only checked")
    c.same("InvalidConfig" in refusal(lambda: alter(topic, "segment.bytes", "SET", "1")), True, "a segment of one byte")
    # The old AlterConfigs replaces all that a topic has of its own.
    alter(topic, "max.message.bytes", "SET", "1000")
    client.alter_configs([ConfigResource(*topic, configs={"max.message.bytes": "1000"})], incremental=False)
    try:
        produce(name, [(b"key", b"x" * 5000)])
        raise AssertionError("a record above the new max.message.bytes was accepted")
    except kafka_errors.MessageSizeTooLargeError:
        pass
    features = client.describe_features()
    c.same("group.version" in str(features), True, str(features))
    level = 1
    c.same(str(client.update_features({"group.version": level}, validate_only=True)), "{'group.version': 'OK'}", "the level that it has")
    c.same("OK" in str(refusal(lambda: client.update_features({"group.version": 99}))), False, "a level that there is not")


def refusal(work):
    """What is said, raised or answered."""
    try:
        return str(work())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def delete_records():
    name = create(c.topic("records"))
    produce(name, c.records(10))
    at = TopicPartition(name, 0)
    admin().delete_records({at: 4}, timeout_ms=20000)
    c.same(consumer([]).beginning_offsets([at])[at], 4, "the new start")
    c.same(pairs(read(name, 6, offset=4)), c.records(10)[4:], "the records that stay")


def log_dirs():
    name = create(c.topic("dirs"))
    produce(name, c.records(100))
    found = str(admin().describe_log_dirs())
    c.same(name in found, True, found[:300])
    [producers] = admin().describe_producers([TopicPartition(name, 0)]).values()
    c.same("last_sequence=99" in str(producers), True, str(producers))


def group_admin():
    name, group = create(c.topic("grouped")), c.topic("group")
    produce(name, c.records(10))
    reader = KafkaConsumer(name, bootstrap_servers=c.BOOTSTRAP, client_id="reader", group_id=group, auto_offset_reset="earliest", enable_auto_commit=False)
    c.same(len(poll(reader, 10)), 10, "records consumed in the group")
    reader.commit()
    client, at = admin(), TopicPartition(name, 0)
    described = str(client.describe_groups([group]))
    c.same([part in described for part in ("Stable", "/127.0.0.1", "reader-", name)], [True] * 4, described)
    reset = lambda offset: client.alter_group_offsets(group, {at: OffsetAndMetadata(offset, "", -1)})[at].__name__
    committed = lambda: re.findall(r"offset=(-?\d+)", str(client.list_group_offsets({group: None})))
    c.same(reset(3), "UnknownMemberIdError", "another's commit")
    c.same("NonEmptyGroup" in refusal(lambda: client.delete_groups([group])), True, "deleting a group that has members")
    c.same(client.delete_group_offsets(group, [at])[at].__name__, "GroupSubscribedToTopicError", "deleting what is subscribed to")
    reader.close()
    c.same(group in str(client.list_groups()), True, "listed")
    c.same((committed(), reset(3), committed()), (["10"], "NoError", ["3"]), "committed, after a change")
    c.same((client.delete_group_offsets(group, [at])[at].__name__, committed()), ("NoError", []), "after the deletion of the offset")
    reset(5)
    client.delete_groups([group])
    c.within(10, "the group's end", lambda: group not in str(client.list_groups()))
    c.same("GroupIdNotFound" in refusal(lambda: client.delete_groups([group])), True, "deleting a group that is no more")


def delete():
    name, at = create(c.topic("deleted")), TopicPartition(c.topic("deleted"), 0)
    produce(name, c.records(5))
    admin().delete_topics([name], timeout_ms=20000)
    c.within(10, "the topic's end", lambda: name not in admin().list_topics())
    c.within(20, "the second create", lambda: create(name))
    produce(name, c.records(1))
    c.same(consumer([]).end_offsets([at])[at], 1, "end offset of the topic created anew")


def read_digest(name, partition, count):
    total, reader = c.Digest(), consumer([(name, partition, 0)])
    last = time.monotonic()
    while total.count < count and time.monotonic() - last < 20:
        for message in poll(reader, min(1000, count - total.count), 2):
            total.add(message.key, message.value)
            last = time.monotonic()
    reader.close()
    return total


def send(name, partitions, codec, values):
    create(name, partitions)
    producer = KafkaProducer(bootstrap_servers=c.BOOTSTRAP, compression_type=None if codec == "none" else codec, linger_ms=20, batch_size=500_000, acks="all")
    sent = 0
    for sent, value in enumerate(values, 1):
        last = producer.send(name, value, partition=(sent - 1) % partitions)
    producer.flush(120)
    last.get(1)
    return sent


def member(m):
    assignors = {"range": RangePartitionAssignor, "cooperative-sticky": CooperativeStickyAssignor}
    reader = KafkaConsumer(bootstrap_servers=c.BOOTSTRAP, client_id=m.client_id, group_id=m.group, group_instance_id=m.instance, enable_auto_commit=False, auto_offset_reset="earliest",
                           session_timeout_ms=m.session_ms, heartbeat_interval_ms=m.heartbeat_ms, metadata_max_age_ms=m.metadata_ms,
                           **({"partition_assignment_strategy": [assignors[m.assignor]]} if m.assignor else {}))

    read = False  # what is not yet committed

    def commit():
        nonlocal read
        try:
            if read:
                reader.commit(timeout_ms=5000)
            read = False
        except kafka_errors.KafkaError as error:
            m.refused(error)

    class Owned(ConsumerRebalanceListener):
        def on_partitions_assigned(self, assigned):
            m.gains(map(tuple, assigned))

        def on_partitions_revoked(self, revoked):
            commit()
            m.loses(map(tuple, revoked))

    reader.subscribe([m.topic], listener=Owned())
    while not m.left.is_set():
        # Longer than a rebalance takes: when a poll ends in the middle of one that the leader began over new metadata, 3.0.12 takes its own
        # assignment for done before it is applied, and stops sending heartbeats for good.
        batches = reader.poll(5000)
        m.read((message.topic, message.partition, message.offset) for batch in batches.values() for message in batch)
        read = read or bool(batches)
        commit()
    reader.close()


FEATURES = [
    ("metadata", metadata), ("create", create_topic), ("partitions", grow),
    *[(f"acks-{name}", lambda name=name, acks=acks: round_trip(f"acks-{name}", 500, acks=acks, enable_idempotence=False))
      for name, acks in (("0", 0), ("1", 1), ("all", "all"))],
    ("idempotent", idempotent),
    *[(codec, lambda codec=codec: round_trip(codec, 1000, compression_type=None if codec == "none" else codec, linger_ms=50)) for codec in c.CODECS],
    ("consume", consume), ("shapes", shapes), ("timestamps", timestamps), ("parked", parked), ("errors", errors), ("admin", describe), ("settings", settings), ("records", delete_records), ("log-dirs", log_dirs), ("group-admin", group_admin),
    ("delete", delete),
]
c.main(kafka.__version__, FEATURES, read_digest, send, member)
