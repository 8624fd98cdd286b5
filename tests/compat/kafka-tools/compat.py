"""Apache Kafka's own command line tools against the broker under test; the contract is contract.py.

COMPAT_KAFKA_LIB is the directory of their jars. One command more than the contract's: `dump LOG_DIR` reads every segment and index
of a broker that was stopped.
"""
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import commands
import contract as c

TOOLS = "org.apache.kafka.tools."
# Each tool is a JVM of its own; these make its start cheap, and the archive of loaded classes halves it.
ARCHIVE = os.environ.get("COMPAT_KAFKA_LIB", ".").rstrip("/") + ".jsa"
JAVA = ["java", f"-XX:SharedArchiveFile={ARCHIVE}", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", os.environ.get("COMPAT_KAFKA_LIB", ".") + "/*"]
# What DumpLogSegments says of a file that is not as it should be.
COMPLAINT = re.compile(r"mismatch|Non-consecutive|corrupt|Exception|isvalid: false|Found |Could not|out of order|larger than|missing|unreadable", re.I)


def command(name, *arguments):
    connect = [] if name.endswith("DumpLogSegments") else ["--bootstrap-server", c.BOOTSTRAP]
    if name == "ClusterTool":
        arguments, connect = ["cluster-id", *connect], []
    return [*JAVA, name if name.startswith("kafka.") else TOOLS + name, *connect, *arguments]


def tool(name, *arguments, stdin=b"", ok=True, seconds=50):
    done = subprocess.run(command(name, *arguments), input=stdin, capture_output=True, timeout=seconds)
    out, complaints = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if ok and (done.returncode != 0 or " ERROR " in complaints or "Exception" in complaints):
        raise AssertionError(f"{name} {' '.join(arguments)[:100]}: exit {done.returncode}, {out[-200:]} {complaints[-300:]}")
    return out if ok else out + complaints


def topics(*arguments, **options):
    return tool("TopicCommand", *arguments, **options)


def create(name, partitions=1):
    c.create_topics({name: partitions})
    return name


def properties(**pairs):
    return [part for name, value in pairs.items() for part in ("--command-property", f"{name.replace('_', '.')}={value}")]


def produce(name, lines, *arguments, **config):
    """lines: key|value; to the partition that the key decides, so for topics of one partition."""
    reader = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=|"]
    tool("ConsoleProducer", "--topic", name, *reader, *arguments, *properties(**config), stdin=b"\n".join(lines) + b"\n")


def consume(name, count, *arguments, partition=0, offset="earliest"):
    out = tool("consumer.ConsoleConsumer", "--topic", name, "--partition", str(partition), "--offset", str(offset), "--max-messages", str(count), "--timeout-ms", "20000",
               "--formatter-property", "print.key=true", "--formatter-property", "key.separator=|", *arguments)
    return out.encode("utf-8", "replace").split(b"\n")[:-1]


def lines(count):
    """The common records as text, in which what is not UTF-8 would not come back as it was."""
    return [key + b"|" + value for key, value in c.records(count)]


def end_offset(name, at="-1", partition=0):
    out = tool("GetOffsetShell", "--topic-partitions", f"{name}:{partition}", "--time", str(at)).strip()
    return int(out.rsplit(":", 1)[1] or -1)


def round_trip(name, count, *arguments, **config):
    topic = create(c.topic(name))
    produce(topic, lines(count), *arguments, **config)
    c.same(end_offset(topic), count, "end offset")
    c.same(consume(topic, count), lines(count), "records")
    return f"{count} records"


def metadata():
    cluster, versions = tool("ClusterTool").strip(), tool("BrokerApiVersionsCommand")
    c.same(cluster.startswith("Cluster ID: "), True, cluster)
    known = re.findall(r"\((\d+)\): [\d ]", versions)
    assert len(known) > 10, versions[:300]
    return f"{cluster}, {len(known)} APIs"


def create_topic():
    name = c.topic("created")
    topics("--create", "--topic", name, "--partitions", "3", "--replication-factor", "1")
    c.same("PartitionCount: 3" in topics("--describe", "--topic", name), True, "PartitionCount: 3")
    c.same(name in topics("--list").split(), True, "listed")
    c.same("already exists" in topics("--create", "--topic", name, ok=False), True, "already exists")
    topics("--create", "--topic", name, "--if-not-exists")


def grow():
    name = create(c.topic("grown"))
    topics("--alter", "--topic", name, "--partitions", "4")
    c.within(10, "PartitionCount: 4", lambda: "PartitionCount: 4" in topics("--describe", "--topic", name))


def performance(codec, acks, records=20000):
    name = create(c.topic(f"perf-{codec}-{acks}"))
    out = tool("ProducerPerformance", "--topic", name, "--num-records", str(records), "--record-size", "500", "--throughput", "-1",
               "--command-property", f"acks={acks}", f"compression.type={codec}", "batch.size=65536", "linger.ms=5")
    c.same(c.within(10, "the end offset", lambda: end_offset(name)), records, "end offset")
    return re.findall(r"([\d.]+) records/sec", out)[-1]


def perf():
    rates = {f"{codec} {acks}": performance(codec, acks) for codec, acks in [*[(codec, "all") for codec in c.CODECS], ("none", "0"), ("none", "1")]}
    return ", ".join(f"{name} {float(rate):.0f}/s" for name, rate in rates.items())


def idempotent():
    return round_trip("idempotent", 2000, "--batch-size", "2000", enable_idempotence="true", acks="all")


def from_offset():
    name = create(c.topic("consume"))
    produce(name, lines(1000))
    c.same(consume(name, 1000), lines(1000), "records")
    c.same(consume(name, 10, offset=500), lines(1000)[500:510], "records from offset 500")


def shapes():
    name = create(c.topic("shapes"))
    reader = ["parse.headers=true", "null.marker=NULL"]
    produce(name, [b"a:1,b:2,a:3\tkey|value", b"h:x\ttombstone|NULL", b"h:x\tNULL|null key", b"h:x\tlarge|" + b"x" * 900_000], *[part for r in reader for part in ("--reader-property", r)],
            max_request_size="1000000")
    found = consume(name, 4, "--formatter-property", "print.headers=true", "--formatter-property", "null.literal=NULL")
    c.same([line[:40] for line in found[:3]], [b"a:1,b:2,a:3|key|value", b"h:x|tombstone|NULL", b"h:x|NULL|null key"], "records")
    c.same(found[3], b"h:x|large|" + b"x" * 900_000, "the large record")


def timestamps():
    name = create(c.topic("timestamps"))
    produce(name, lines(5))
    time.sleep(0.05)
    produce(name, lines(5))
    found = [int(re.match(rb"CreateTime:(\d+)", line)[1]) for line in consume(name, 10, "--formatter-property", "print.timestamp=true")]
    c.same(end_offset(name, found[5]), 5, "offset for time")
    # The greatest timestamp's offset is the first record of the last batch that carries it.
    c.same((end_offset(name, "-2"), end_offset(name, "-1"), end_offset(name, "-3")), (0, 10, found.index(max(found))), "earliest, latest, max-timestamp")


def parked():
    name = create(c.topic("parked"))
    reader = subprocess.Popen(command("consumer.ConsoleConsumer", "--topic", name, "--partition", "0", "--offset", "earliest", *properties(fetch_max_wait_ms=30000, fetch_min_bytes=1, request_timeout_ms=60000)),
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    guard = threading.Timer(50, reader.kill)
    guard.start()
    waits = []
    try:
        for turn in range(2):
            sent = []

            def later():
                time.sleep(4 if turn == 0 else 1)
                produce(name, [b"parked|%d" % turn])
                sent.append(time.monotonic())

            threading.Thread(target=later, daemon=True).start()
            c.same(reader.stdout.readline(), b"%d\n" % turn, "value")
            arrived = time.monotonic()
            c.within(15, "the producer", lambda: sent)
            waits.append(arrived - sent[0])
    finally:
        guard.cancel()
        reader.kill()
    assert max(waits) < c.PARKED_SECONDS_MAX, f"{max(waits):.1f} s after the ack"
    return "before the producer had ended" if max(waits) < 0 else f"{max(waits):.1f} s after the producer's end"


def errors():
    name = create(c.topic("errors"))
    refused = tool("ConsoleProducer", "--topic", name, *properties(max_request_size=10_000_000), stdin=os.urandom(c.OVERSIZE_BYTES // 2).hex().encode() + b"\n", ok=False)
    c.same("RecordTooLargeException" in refused, True, f"a record above max.message.bytes: {refused[-200:]}")
    c.same(end_offset(name), 0, "end offset after a refused record")
    missing = topics("--describe", "--topic", c.topic("absent"), ok=False)
    c.same("does not exist" in missing, True, f"an unknown topic: {missing[-200:]}")


def describe():
    name = c.topic("admin")
    topics("--create", "--topic", name, "--partitions", "2", "--config", "retention.ms=86400000")
    described = topics("--describe", "--topic", name)
    c.same("retention.ms=86400000" in described and "Leader: none" not in described, True, described)
    configs = "kafka.admin.ConfigCommand"
    of_topic = tool(configs, "--describe", "--entity-type", "topics", "--entity-name", name, "--all")
    broker = re.search(r"Leader: (\d+)", described)[1]
    of_broker = tool(configs, "--describe", "--entity-type", "brokers", "--entity-name", broker, "--all")
    c.same("retention.ms=86400000" in of_topic, True, of_topic[:300])
    dynamic = tool(configs, "--describe", "--entity-type", "topics", "--entity-name", name)
    c.same("retention.ms=86400000" in dynamic and "segment.bytes" not in dynamic, True, f"only what was set: {dynamic[:300]}")
    counts = [text.count("synonyms={") for text in (of_topic, of_broker)]
    assert min(counts) > 10, counts
    return f"{counts[0]} topic configs, {counts[1]} broker configs"


CONFIGS = "kafka.admin.ConfigCommand"


def settings():
    name = create(c.topic("settings"))
    of_topic = ("--entity-type", "topics", "--entity-name", name)
    change = lambda *arguments, **options: tool(CONFIGS, "--alter", *arguments, **options)
    change(*of_topic, "--add-config", "retention.ms=86400000,cleanup.policy=[compact,delete]")
    shown = tool(CONFIGS, "--describe", *of_topic)
    c.same("retention.ms=86400000" in shown and "cleanup.policy=compact,delete" in shown, True, shown)
    change(*of_topic, "--delete-config", "retention.ms")
    c.same("retention.ms" in tool(CONFIGS, "--describe", *of_topic), False, "retention.ms was taken back")
    refused = change(*of_topic, "--add-config", "segment.bytes=1", ok=False)
    c.same("InvalidConfigurationException" in refused, True, f"a segment of one byte: {refused[:200]}")
    # A size of its own reaches the log at once.
    change(*of_topic, "--add-config", "max.message.bytes=1000")
    refused = tool("ConsoleProducer", "--topic", name, stdin=b"x" * 5000 + b"\n", ok=False)
    c.same("RecordTooLargeException" in refused, True, f"a record above the new max.message.bytes: {refused[-200:]}")
    brokers = ("--entity-type", "brokers", "--entity-default")
    change(*brokers, "--add-config", "log.cleaner.threads=2")
    c.same("log.cleaner.threads=2" in tool(CONFIGS, "--describe", *brokers), True, "a setting of all brokers")
    change(*brokers, "--delete-config", "log.cleaner.threads")
    refused = change(*brokers, "--add-config", "node.id=7", ok=False)
    c.same("Cannot update these configs dynamically" in refused, True, f"node.id: {refused[:200]}")
    for whom, quota in [(("clients", "--entity-name", name), "consumer_byte_rate"), (("ips", "--entity-name", "10.1.2.3"), "connection_creation_rate")]:
        whom = ("--entity-type", *whom)
        change(*whom, "--add-config", f"{quota}=1048576")
        c.same(f"{quota}=1048576.0" in tool(CONFIGS, "--describe", *whom), True, f"a quota of {whom}")
        change(*whom, "--delete-config", quota)
        c.same(quota in tool(CONFIGS, "--describe", *whom), False, f"a quota of {whom} was taken back")
    features = tool("FeatureCommand", "describe")
    c.same("metadata.version" in features and "group.version" in features, True, features)
    return re.search(r"metadata.version.*FinalizedVersionLevel: (\S+)", features)[1]


def delete_records():
    name = create(c.topic("records"))
    produce(name, lines(10))
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write('{"version": 1, "partitions": [{"topic": "%s", "partition": 0, "offset": 4}]}' % name)
        file.flush()
        out = tool("DeleteRecordsCommand", "--offset-json-file", file.name)
    c.same(f"partition: {name}-0\tlow_watermark: 4" in out, True, out)
    c.same((end_offset(name, "-2"), end_offset(name)), (4, 10), "earliest, latest")
    c.same(consume(name, 6), lines(10)[4:], "the records that stay")


def log_dirs():
    name = create(c.topic("dirs"), 2)
    produce(create(c.topic("dirs-filled")), lines(100))
    out = tool("LogDirsCommand", "--describe", "--topic-list", f"{name},{c.topic('dirs-filled')}")
    found = [directory for broker in json.loads(out.strip().splitlines()[-1])["brokers"] for directory in broker["logDirs"]]
    c.same([directory["error"] for directory in found], [None] * len(found), "errors")
    sizes = {partition["partition"]: partition["size"] for directory in found for partition in directory["partitions"]}
    c.same(sorted(sizes), sorted([f"{name}-0", f"{name}-1", f"{c.topic('dirs-filled')}-0"]), "partitions")
    assert sizes[f"{c.topic('dirs-filled')}-0"] > 1000, sizes
    return f"{len(found)} directory"


def group_admin():
    name, group = create(c.topic("grouped")), c.topic("group")
    produce(name, lines(10))
    out = tool("consumer.ConsoleConsumer", "--topic", name, "--group", group, "--from-beginning", "--max-messages", "10", "--timeout-ms", "30000")
    c.same(len(out.splitlines()), 10, "records consumed in the group")
    groups = lambda *arguments, **options: tool("consumer.group.ConsumerGroupCommand", *arguments, **options)
    c.same(group in groups("--list").split(), True, "listed")
    row = lambda: next(line.split() for line in groups("--describe", "--group", group).splitlines() if line.startswith(group))
    c.same(c.within(30, "an empty group", lambda: row()[1:6]), [name, "0", "10", "10", "0"], "topic, partition, current offset, end, lag")
    reset = ("--reset-offsets", "--group", group, "--topic", name, "--to-offset", "3")
    c.within(60, "no members", lambda: "NEW-OFFSET" in groups(*reset, "--execute", ok=False))
    c.same(row()[1:6], [name, "0", "3", "10", "7"], "after the reset")
    groups("--delete", "--group", group)
    c.same(group in groups("--list").split(), False, "listed after its deletion")


def delete():
    name = create(c.topic("deleted"))
    produce(name, lines(5))
    topics("--delete", "--topic", name)
    c.within(10, "the topic's end", lambda: name not in topics("--list").split())
    c.within(10, "the second create", lambda: create(name))
    c.same(end_offset(name), 0, "end offset of the topic created anew")


def dump_files(files, *arguments):
    """What DumpLogSegments reads of the files, none of which it may complain of."""
    if not files:
        return ""
    out = tool("DumpLogSegments", "--files", ",".join(files), *arguments, ok=False, seconds=300)
    # The tool says this of the first record of each segment but a partition's first.
    out = re.sub(r"Non-consecutive offsets in .*\n\s+-1 is followed by \d+\n(?!\s)", "", out)
    complaint = next((line for line in out.splitlines() if COMPLAINT.search(line) and "DEPRECAT" not in line.upper()), None)
    if complaint:
        raise AssertionError(f"dump of {len(files)} files, first {files[0]}: {complaint[:300]}")
    return out


def dump_sealed():
    """Segments that the running broker has closed, with their indexes."""
    if not os.environ.get("COMPAT_LOG_DIR"):
        raise c.NotRun("needs the log directory")
    name = c.topic("sealed")
    topics("--create", "--topic", name, "--config", "segment.bytes=1048576")
    tool("ProducerPerformance", "--topic", name, "--num-records", "12000", "--record-size", "500", "--throughput", "-1", "--command-property", "acks=all", "batch.size=16384")
    segments = lambda: sorted(glob.glob(os.path.join(os.environ["COMPAT_LOG_DIR"], "**", name + "-0", "*.log"), recursive=True))
    sealed = c.within(30, "three segments on disk", lambda: segments() if len(segments()) >= 4 else None)[:-1]
    out = dump_files(sealed, "--deep-iteration")
    c.same(sum(map(int, re.findall(r" count: (\d+) ", out))), len(re.findall(r"^\| offset: ", out, re.M)), "records in the batches of sealed segments")
    indexes = [re.sub(r"log$", kind, path) for path in sealed for kind in ("index", "timeindex")]
    dump_files(indexes, "--verify-index-only")
    dump_files(indexes, "--index-sanity-check")
    return f"{len(sealed)} sealed segments, {len(re.findall(r'^baseOffset', out, re.M))} batches"


def dump_all(directory):
    """Everything below a stopped broker's log directory, the metadata log by its own decoder."""
    started = time.monotonic()
    find = lambda kind: sorted(glob.glob(os.path.join(directory, "**", f"*-[0-9]*/*.{kind}"), recursive=True))
    metadata_log = [path for path in find("log") if "__cluster_metadata-0" in path]
    logs = [path for path in find("log") if "__cluster_metadata-0" not in path and os.path.getsize(path)]
    indexes = [re.sub(r"log$", kind, path) for path in logs for kind in ("index", "timeindex")]

    def read_logs():
        batches = 0
        for start in range(0, len(logs), 100):
            out = dump_files(logs[start:start + 100], "--deep-iteration")
            batches += len(re.findall(r"^baseOffset", out, re.M))
        return f"{len(logs)} segments, {batches} batches"

    def read_indexes():
        missing = [path for path in indexes if not os.path.exists(path)]
        c.same(missing[:3], [], "indexes that are absent")
        for start in range(0, len(indexes), 200):
            dump_files(indexes[start:start + 200], "--verify-index-only")
        return f"{len(indexes)} indexes"

    def read_metadata():
        c.same(bool(metadata_log), True, "a directory __cluster_metadata-0")
        out = dump_files(metadata_log, "--cluster-metadata-decoder", "--skip-record-metadata")
        kinds = sorted(set(re.findall(r'"type":"(\w+)"', out)))
        c.same("TOPIC_RECORD" in kinds, True, f"kinds of records {kinds}")
        return ", ".join(kinds)

    c.run_features("", [("dump-logs", read_logs), ("dump-indexes", read_indexes), ("dump-metadata", read_metadata)], 300)


def read_digest(name, partition, count):
    raise c.NotRun("its formatter is for text")


def member(m):
    """The console consumer keeps its rebalances to itself and commits by itself."""
    settings = {"client.id": m.client_id, "group.protocol": m.protocol, "auto.offset.reset": "earliest", "auto.commit.interval.ms": 100, "metadata.max.age.ms": m.metadata_ms, "group.instance.id": m.instance}
    if m.protocol == "classic":
        assignors = {"range": "RangeAssignor", "cooperative-sticky": "CooperativeStickyAssignor"}
        settings |= {"session.timeout.ms": m.session_ms, "heartbeat.interval.ms": m.heartbeat_ms,
                     "partition.assignment.strategy": m.assignor and "org.apache.kafka.clients.consumer." + assignors[m.assignor]}
    topic = ("--include", f"{m.topic}.*") if m.pattern else ("--topic", m.topic)
    printed = ("--formatter-property", "print.partition=true", "--formatter-property", "print.offset=true")
    reader = subprocess.Popen(command("consumer.ConsoleConsumer", *topic, "--group", m.group, *printed,
                                      *[part for key, value in settings.items() if value for part in ("--command-property", f"{key}={value}")]), stdout=subprocess.PIPE)
    c.emit(pid=reader.pid)
    threading.Thread(target=lambda: (m.left.wait(), reader.terminate()), daemon=True).start()
    for line in reader.stdout:
        if record := re.fullmatch(r"Partition:(\d+)\tOffset:(\d+)\t(\S+)\n", line.decode()):
            partition, offset, name = record.groups()
            m.read([(name, int(partition), int(offset))])
        else:
            print(f"{m.client_id} printed {line}", file=sys.stderr)  # warnings of a JVM go to its standard output
    if not m.left.is_set():
        print(f"{m.client_id}: the console consumer ended with status {reader.wait()}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(reader.wait() != 0 and not m.left.is_set())  # sys.exit aborts where the thread that waits for the end of the input has its lock


FEATURES = [
    ("metadata", metadata), ("create", create_topic), ("partitions", grow),
    *[(f"acks-{acks}", lambda acks=acks: round_trip(f"acks-{acks}", 500, acks=acks, enable_idempotence="false")) for acks in ("0", "1", "all")],
    ("idempotent", idempotent),
    *[(codec, lambda codec=codec: round_trip(codec, 1000, "--compression-codec", codec)) for codec in c.CODECS],
    ("consume", from_offset), ("shapes", shapes), ("timestamps", timestamps), ("parked", parked), ("errors", errors),
    ("admin", describe), ("settings", settings), ("records", delete_records), ("log-dirs", log_dirs), ("group-admin", group_admin), ("delete", delete), ("perf", perf), ("dump-sealed", dump_sealed),
    *commands.features(tool, create, produce, lines),
]
if sys.argv[1] == "dump":
    dump_all(sys.argv[2])
    sys.exit(0)
if sys.argv[1] == "features":
    listing = command("consumer.group.ConsumerGroupCommand", "--list")
    subprocess.run([f"-XX:ArchiveClassesAtExit={ARCHIVE}" if "SharedArchiveFile" in part else part for part in listing], capture_output=True, timeout=60)
jar = glob.glob(os.path.join(os.environ["COMPAT_KAFKA_LIB"], "kafka-tools-[0-9]*.jar"))[0]
c.main(re.search(r"kafka-tools-([\d.]+)\.jar", jar)[1], FEATURES, read_digest, lambda *_: sys.exit("the console producer sends text only"), member, 4 * c.FEATURE_SECONDS)
