"""The rest of Kafka's command line tools, each with all of its ways to be called; features of compat.py, which gives `tool` and its kin.

Kafka is the measure: where a tool's API is not offered (the Java client says UnsupportedVersionException), the detail says so, and that
is no failure; any other difference is one.
"""
import datetime
import re
import tempfile
import time

import contract as c

GROUPS, CONFIGS, OFFSETS = "consumer.group.ConsumerGroupCommand", "kafka.admin.ConfigCommand", "GetOffsetShell"


def features(tool, create, produce, lines):
    def contains(out, *wanted):
        missing = [word for word in wanted if word not in out]
        c.same(missing, [], f"not found in {out.strip()[:400]!r}")
        return out

    def file_of(text, suffix):
        file = tempfile.NamedTemporaryFile("w", suffix=suffix)
        file.write(text)
        file.flush()
        return file

    def group_reset():
        """Every way to say where a group shall go on, tried dry before it is carried out."""
        name, group = create(c.topic("reset")), c.topic("reset-group")
        produce(name, lines(8))
        time.sleep(0.3)
        between = datetime.datetime.now(datetime.timezone.utc)
        time.sleep(0.3)
        produce(name, lines(4))
        groups = lambda *arguments, **options: tool(GROUPS, "--group", group, *arguments, **options)
        row = lambda out: next(int(line.split()[3]) for line in out.splitlines() if line.split()[:2] == [group, name])
        reset = lambda *arguments: row(groups("--reset-offsets", "--topic", name, *arguments))
        iso = between.strftime("%Y-%m-%dT%H:%M:%S.%f")[:23]
        ways = [(("--to-earliest",), 0), (("--to-latest",), 12), (("--shift-by", "-3"), 9), (("--to-current",), 9), (("--shift-by", "100"), 12), (("--to-offset", "5"), 5), (("--to-offset", "100"), 12),
                (("--to-datetime", iso), 8), (("--by-duration", "PT1H"), 0), (("--by-duration", "PT0S"), 12), (("--shift-by", "-100"), 0)]
        for way, wanted in ways:
            c.same(reset(*way, "--execute"), wanted, f"offset after {' '.join(way)}")
        c.same(reset("--to-offset", "7", "--dry-run"), 7, "a dry run's offset")
        described = groups("--describe", ok=False)
        c.same([int(line.split()[3]) for line in described.splitlines() if line.split()[:2] == [group, name]], [0], "nothing changes in a dry run")
        exported = groups("--reset-offsets", "--all-topics", "--to-offset", "6", "--export", "--dry-run")
        rows = [line for line in exported.splitlines() if line.count(",") == 2]
        c.same([row.replace('"', "") for row in rows], [f"{name},0,6"], "what is exported")
        with file_of("\n".join(rows) + "\n", ".csv") as file:
            c.same(row(groups("--reset-offsets", "--from-file", file.name, "--execute")), 6, "offset from a file")
        return f"{len(ways) + 3} ways"

    def group_tool():
        """A group while it has a member and when it has none; its offsets and itself deleted."""
        name, other, group = create(c.topic("gt")), create(c.topic("gt-other")), c.topic("gt-group")
        produce(name, lines(10))
        groups = lambda *arguments, **options: tool(GROUPS, *arguments, **options)
        for topic in (name, other):
            groups("--group", group, "--reset-offsets", "--topic", topic, "--to-earliest", "--execute")
        contains(groups("--list", "--state"), "STATE", group, "Empty")
        contains(groups("--list", "--type"), "TYPE", group)
        c.same(group in groups("--list", "--state", "Stable"), False, "an empty group among the stable")
        contains(groups("--describe", "--group", group, "--state", ok=False), "COORDINATOR (ID)", "Empty")
        contains(groups("--describe", "--group", group, "--members", "--verbose", ok=False), "has no active members")
        contains(groups("--describe", "--group", group, "--offsets", "--verbose", ok=False), name, other)
        contains(groups("--describe", "--all-groups", ok=False), group)
        contains(groups("--delete-offsets", "--group", group, "--topic", f"{other}:0"), "Successful")
        c.same(other in groups("--describe", "--group", group, ok=False), False, "the topic whose offsets were deleted")
        contains(groups("--delete-offsets", "--group", c.topic("no-group"), "--topic", name, ok=False), "GroupIdNotFoundException")
        contains(groups("--describe", "--group", c.topic("no-group"), ok=False), "not found")
        contains(groups("--delete", "--group", c.topic("no-group"), ok=False), "GroupIdNotFoundException")
        contains(tool("GroupsCommand", "--list"), group, "GROUP", "PROTOCOL")
        contains(groups("--delete", "--group", group), "was successful")
        c.same(group in groups("--list"), False, "the group that was deleted")

    def offsets():
        """kafka-get-offsets with each form of --time."""
        name = create(c.topic("offsets"), 2)
        produce(name, [b"a|1", b"b|2", b"c|3", b"d|4"])
        before = int(time.time() * 1000) - 3_600_000
        ask = lambda *arguments: {line.rsplit(":", 1)[0]: line.rsplit(":", 1)[1] for line in tool(OFFSETS, *arguments).split()}
        latest = ask("--topic", name)
        c.same((sorted(latest), sum(map(int, latest.values()))), ([f"{name}:0", f"{name}:1"], 4), "latest")
        ways = {"-1": latest, "latest": latest, "-2": "0", "earliest": "0", "-4": "0", "earliest-local": "0", "-5": None, "latest-tiered": None, str(before): "0"}
        for way, wanted in ways.items():
            found = ask("--topic-partitions", f"{name}:0-2", "--time", way)
            c.same(found, wanted if isinstance(wanted, dict) else {} if wanted is None else {f"{name}:{p}": (wanted if int(latest[f"{name}:{p}"]) or way != str(before) else "") for p in (0, 1)}, f"--time {way}")
        for way in ("-3", "max-timestamp"):
            found = ask("--topic-partitions", f"{name}:0-2", "--time", way)
            assert all(int(found.get(partition) or -1) < int(end) for partition, end in latest.items()), (way, found)
        c.same(ask("--topic", name, "--partitions", "1"), {f"{name}:1": latest[f"{name}:1"]}, "one partition")
        assert name + ":0" in ask("--exclude-internal-topics") and not any(key.startswith("__") for key in ask("--exclude-internal-topics"))
        contains(tool(OFFSETS, "--topic", c.topic("absent"), ok=False), "Could not match any topic-partitions")
        return f"{len(ways) + 2} forms of --time"

    def topic_flags():
        """Every filter of kafka-topics, and what it refuses."""
        name = c.topic("flags")
        topics = lambda *arguments, **options: tool("TopicCommand", *arguments, **options)

        def of_all(*arguments):
            """Of every topic. One that another client deletes between the tool's list and its question ends the tool: again then."""
            for left in reversed(range(5)):
                try:
                    return topics("--describe", *arguments)
                except AssertionError as error:
                    if not left or "does not host this topic-partition" not in str(error):
                        raise

        broker = re.search(r"\(id: (\d+) ", tool("BrokerApiVersionsCommand"))[1]
        topics("--create", "--topic", name, "--replica-assignment", f"{broker},{broker}", "--config", "retention.ms=1000000")
        identity = re.search(r"TopicId: (\S+)", contains(topics("--describe", "--topic", name), "PartitionCount: 2", "ReplicationFactor: 1", "retention.ms=1000000"))[1]
        contains(topics("--describe", "--topic-id", identity), name)
        contains(topics("--describe", "--topic", name[:-1] + ".*"), name)
        contains(of_all("--topics-with-overrides"), name)
        contains(topics("--describe", "--topic", name, "--partition-size-limit-per-response", "1"), "Partition: 1")
        for healthy in ("--under-replicated-partitions", "--unavailable-partitions", "--under-min-isr-partitions"):
            c.same(of_all(healthy).strip(), "", healthy)
        contains(of_all("--at-min-isr-partitions"), name)
        listed = topics("--list", "--exclude-internal").split()
        assert name in listed and "__consumer_offsets" not in listed, listed
        contains(topics("--alter", "--topic", name, "--partitions", "1", ok=False), "InvalidPartitionsException")
        contains(topics("--alter", "--topic", c.topic("absent"), "--partitions", "3", ok=False), "does not exist")
        topics("--alter", "--topic", c.topic("absent"), "--partitions", "3", "--if-exists")
        contains(topics("--create", "--topic", c.topic("three"), "--replication-factor", "3", ok=False), "InvalidReplicationFactorException")
        contains(topics("--create", "--topic", c.topic("wrong"), "--config", "segment.bytes=1", ok=False), "Invalid value 1 for configuration segment.bytes")
        contains(topics("--create", "--topic", "not/a/name", ok=False), "InvalidTopicException")
        topics("--delete", "--topic", c.topic("absent"), "--if-exists")
        contains(topics("--delete", "--topic", c.topic("absent"), ok=False), "does not exist")
        topics("--delete", "--topic", name)

    def config_entities():
        """kafka-configs for every kind of entity."""
        configs = lambda *arguments, **options: tool(CONFIGS, *arguments, **options)
        group, subscription = c.topic("configured"), c.topic("metrics")
        of_group, of_metrics = ("--entity-type", "groups", "--entity-name", group), ("--entity-type", "client-metrics", "--entity-name", subscription)
        configs("--alter", *of_group, "--add-config", "consumer.session.timeout.ms=50000,consumer.heartbeat.interval.ms=6000")
        contains(configs("--describe", *of_group), "consumer.session.timeout.ms=50000", "consumer.heartbeat.interval.ms=6000")
        contains(configs("--alter", *of_group, "--add-config", "consumer.session.timeout.ms=1", ok=False), "InvalidConfigurationException")
        configs("--alter", *of_group, "--delete-config", "consumer.session.timeout.ms,consumer.heartbeat.interval.ms")
        c.same("=50000" in configs("--describe", *of_group), False, "a group's setting that was taken back")
        configs("--alter", *of_metrics, "--add-config", "interval.ms=30000,metrics=[org.apache.kafka.producer.]")
        contains(configs("--describe", *of_metrics), "interval.ms=30000", "metrics=org.apache.kafka.producer.")
        contains(tool("ClientMetricsCommand", "--list"), subscription)
        contains(tool("ClientMetricsCommand", "--describe", "--name", subscription), "30000")
        contains(configs("--alter", *of_metrics, "--add-config", "interval.ms=1", ok=False), "InvalidRequestException")
        tool("ClientMetricsCommand", "--delete", "--name", subscription)
        c.same(subscription in tool("ClientMetricsCommand", "--list"), False, "the subscription that was deleted")
        contains(configs("--describe", "--entity-type", "brokers", "--all", "--entity-name", re.search(r"\(id: (\d+) ", tool("BrokerApiVersionsCommand"))[1]), "log.retention.ms")
        contains(configs("--describe", "--entity-type", "topics", "--entity-name", c.topic("absent"), ok=False), "doesn't exist")
        contains(configs("--alter", "--entity-type", "topics", "--entity-name", create(c.topic("unknown-config")), "--add-config", "no.such.setting=1", ok=False), "InvalidConfigurationException")

    def rest():
        """Tools for clusters, security and transactions: the same words as from Kafka, or the API is not offered."""
        name, absent = create(c.topic("rest")), []
        produce(name, lines(20))

        def ask(what, *arguments, wanted=()):
            out = tool(*arguments, ok=False, seconds=40)
            if "UnsupportedVersionException" in out or "does not support" in out:
                absent.append(what)
            else:
                contains(out, *wanted)

        with file_of('{"topics": [{"topic": "%s"}], "version": 1}' % name, ".json") as topics, file_of('{"version": 1, "partitions": [{"topic": "%s", "partition": 0}]}' % name, ".json") as election:
            ask("leader election", "LeaderElectionCommand", "--election-type", "preferred", "--path-to-json-file", election.name, wanted=["Valid replica already elected"])
            ask("reassignments", "reassign.ReassignPartitionsCommand", "--list", wanted=["No partition reassignments found"])
            broker = re.search(r"Replicas: (\d+)", tool("TopicCommand", "--describe", "--topic", name))[1]
            ask("a reassignment's plan", "reassign.ReassignPartitionsCommand", "--generate", "--topics-to-move-json-file", topics.name, "--broker-list", broker, wanted=["Proposed partition reassignment"])
            with file_of('{"version": 1, "partitions": [{"topic": "%s", "partition": 0, "replicas": [%s]}]}' % (name, broker), ".json") as plan:
                reassign = ("reassign.ReassignPartitionsCommand", "--reassignment-json-file", plan.name)
                ask("a reassignment to where it is", *reassign, "--execute", wanted=["Successfully started partition reassignment"])
                ask("its end", *reassign, "--verify", wanted=["is completed"])
                ask("its cancellation", *reassign, "--cancel", wanted=["None of the specified partition reassignments are active"])
        ask("quorum", "MetadataQuorumCommand", "describe", "--status", wanted=["LeaderId", "HighWatermark"])
        ask("quorum's replicas", "MetadataQuorumCommand", "describe", "--replication", wanted=["NodeId", "Leader"])
        ask("transactions", "TransactionsCommand", "list", wanted=["TransactionalId"])
        ask("producers", "TransactionsCommand", "describe-producers", "--topic", name, "--partition", "0", wanted=["ProducerId", "LastSequence"])
        ask("ACLs", "AclCommand", "--list", wanted=["SecurityDisabledException"])
        ask("SCRAM users", CONFIGS, "--describe", "--entity-type", "users")
        ask("quotas", CONFIGS, "--describe", "--entity-type", "clients", "--entity-default")
        ask("share groups", "consumer.group.ShareGroupCommand", "--list")
        ask("streams groups", "streams.StreamsGroupCommand", "--list")
        ask("features", "FeatureCommand", "describe", wanted=["Feature: metadata.version", "Feature: group.version"])
        ask("log directories", "LogDirsCommand", "--describe", wanted=['"version":1', f'"{name}-0"'])
        ask("endpoints", "ClusterTool", wanted=["Cluster ID: "])
        ask("consumer performance", "ConsumerPerformance", "--topic", name, "--num-records", "20", wanted=["MB.sec"])
        return f"not offered: {', '.join(absent)}" if absent else ""

    return [("group-reset", group_reset), ("group-tool", group_tool), ("get-offsets", offsets), ("topic-flags", topic_flags), ("entities", config_entities), ("tools", rest)]
