"""MirrorMaker 2, both ways at once between the broker under test and an Apache Kafka."""
from . import same, within

RECORDS, PARTITIONS = 1200, 3


def row(site):
    """What is written on either side arrives on the other: records, partitions, topic settings, and the offsets of groups."""
    other = second_kafka(site)
    here, there = site.bootstrap, other.bootstrap
    sides = {"left": here, "right": there}
    topics = {side: f"{site.prefix}-of-{side}" for side in sides}
    for side, bootstrap in sides.items():
        site.ask("create", topics[side], PARTITIONS, "retention.ms=123456789", "cleanup.policy=compact,delete", bootstrap=bootstrap)
        site.ask("produce", topics[side], site.runner.LINES, 0, RECORDS, 0, bootstrap=bootstrap)
        site.ask("consume", f"{side}-whole", topics[side], RECORDS, bootstrap=bootstrap)
        site.ask("consume", f"{side}-part", topics[side], RECORDS // 3, bootstrap=bootstrap)
    common = {"clusters": "left, right", "left.bootstrap.servers": here, "right.bootstrap.servers": there, "replication.factor": 1, "checkpoints.topic.replication.factor": 1,
              "heartbeats.topic.replication.factor": 1, "offset-syncs.topic.replication.factor": 1, "offset.storage.replication.factor": 1, "status.storage.replication.factor": 1,
              "config.storage.replication.factor": 1, "offset.storage.partitions": 3, "status.storage.partitions": 1, "offset.lag.max": 0, "tasks.max": 1, "offset.flush.interval.ms": 1000,
              "refresh.topics.interval.seconds": 3, "refresh.groups.interval.seconds": 3, "sync.topic.configs.interval.seconds": 3, "emit.checkpoints.interval.seconds": 2,
              "sync.group.offsets.interval.seconds": 2, "emit.heartbeats.interval.seconds": 2, "scheduled.rebalance.max.delay.ms": 500}
    for source, target in (("left", "right"), ("right", "left")):
        common |= {f"{source}->{target}.enabled": "true", f"{source}->{target}.topics": topics[source], f"{source}->{target}.groups": f"{source}-.*",
                   f"{source}->{target}.sync.group.offsets.enabled": "true"}
    maker = site.start("mirror", site.java("org.apache.kafka.connect.mirror.MirrorMaker", site.properties("mirror.properties", common)))

    def digests(topic, bootstrap):
        return [(line["partition"], line["count"], line["digest"]) for line in site.ask("digest", topic, bootstrap=bootstrap)]

    found = []
    for source, target in (("left", "right"), ("right", "left")):
        mirrored = f"{source}.{topics[source]}"
        wanted = digests(topics[source], sides[source])
        within(120, f"{mirrored} as it is on its own side", lambda: maker.poll() is None and digests(mirrored, sides[target]) == wanted, 2)
        # What is written later follows.
        site.ask("produce", topics[source], site.runner.LINES, RECORDS, RECORDS + 300, 0, bootstrap=sides[source])
        wanted = digests(topics[source], sides[source])
        within(60, f"what was added to {topics[source]}", lambda: digests(mirrored, sides[target]) == wanted, 1)
        configs = lambda: next(line["configs"] for line in site.ask("topics", mirrored, bootstrap=sides[target]))
        within(30, f"settings of {mirrored}", lambda: (configs().get("retention.ms"), configs().get("cleanup.policy")) == ("123456789", "compact,delete"), 1)
        committed = lambda group, bootstrap: site.ask("committed", group, bootstrap=bootstrap)[0]["committed"]
        whole = {f"{source}.{partition}": offset for partition, offset in committed(f"{source}-whole", sides[source]).items()}
        group = within(60, f"offsets of a group that had read all of {topics[source]}", lambda: offsets_follow(committed(f"{source}-whole", sides[target]), whole), 1)
        part = {f"{source}.{partition}": offset for partition, offset in committed(f"{source}-part", sides[source]).items()}
        within(60, f"offsets of a group that had read some of {topics[source]}", lambda: offsets_follow(committed(f"{source}-part", sides[target]), part), 1)
        found.append(f"{source}: {sum(count for _, count, _ in wanted)} records equal, offsets {sum(group.values())} of {sum(whole.values())}")
    site.stop(maker, seconds=60)
    return f"{site.version}: {'; '.join(found)} (left is the broker under test)"


def offsets_follow(found, source):
    """A checkpoint never lies beyond what the group has read; where the group has read something it lies behind some of it."""
    read = {partition: offset for partition, offset in source.items() if offset > 0}
    return found if found.keys() >= read.keys() and all(0 < found[partition] <= offset for partition, offset in read.items()) else None


def second_kafka(site):
    """An Apache Kafka beside the broker under test."""

    class Other(site.runner.Kafka):
        name = "mirror"

    other = Other()
    other.command = [{"-Xmx1g": "-Xmx512m", "-Xms1g": "-Xms256m"}.get(word, word) for word in other.command]
    other.start()
    site.processes.append(other.process)
    return other
