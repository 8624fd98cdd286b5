"""Kafka Connect: a distributed worker with the file source and the file sink; its state in three compacted topics."""
import os
import signal
import time

from . import http, same, within


def row(site):
    """File in = file out, exactly, also over a clean restart of the worker; after kill -9 without loss and from the stored offset."""
    topic, group, port = f"{site.prefix}-lines", f"{site.prefix}-workers", site.runner.free_port()
    stores = {store: f"{group}-{store}" for store in ("config", "offset", "status")}
    properties = site.properties("worker.properties", {
        "bootstrap.servers": site.bootstrap, "group.id": group, "listeners": f"http://127.0.0.1:{port}", **{f"{store}.storage.topic": name for store, name in stores.items()},
        **{f"{store}.storage.replication.factor": 1 for store in stores}, "offset.storage.partitions": 5, "status.storage.partitions": 3,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter", "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        "offset.flush.interval.ms": 1000, "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000, "scheduled.rebalance.max.delay.ms": 1000, "plugin.discovery": "hybrid_warn"})
    base, before, after = f"http://127.0.0.1:{port}", site.file("in.txt", ""), site.path("out.txt")
    lines = [line for line in site.lines() if line]
    wanted = []

    def worker():
        process = site.start("worker", site.java("org.apache.kafka.connect.cli.ConnectDistributed", properties))
        within(90, "the worker's REST port", lambda: (process.poll() is None) and http(base)["version"])
        return process

    def write(count):
        more = [f"{len(wanted) + i} {lines[(len(wanted) + i) % len(lines)]}" for i in range(count)]
        with open(before, "a") as file:
            file.write("".join(line + "\n" for line in more))
        wanted.extend(more)

    def read():
        with open(after) as file:
            return file.read().split("\n")[:-1]

    def up(name):
        status = http(f"{base}/connectors/{name}/status")
        return [status["connector"]["state"], *[task["state"] for task in status["tasks"]]] == ["RUNNING", "RUNNING"]

    process = worker()
    site.ask("create", topic, 1)
    http(f"{base}/connectors", {"name": "source", "config": {"connector.class": "FileStreamSource", "tasks.max": "1", "file": before, "topic": topic}})
    http(f"{base}/connectors", {"name": "sink", "config": {"connector.class": "FileStreamSink", "tasks.max": "1", "file": after, "topics": topic, "consumer.override.auto.offset.reset": "earliest"}})
    within(60, "running tasks", lambda: up("source") and up("sink"))
    write(2000)
    within(60, "file out = file in", lambda: read() == wanted)
    configs = {line["topic"]: line for line in site.ask("topics", group)}
    same({name: (configs[name]["configs"].get("cleanup.policy"), configs[name]["partitions"]) for name in stores.values()},
         {stores["config"]: ("compact", 1), stores["offset"]: ("compact", 5), stores["status"]: ("compact", 3)}, "the worker's topics")

    site.stop(process, seconds=60)
    write(500)
    process = worker()
    within(60, "running tasks after a restart", lambda: up("source") and up("sink"))
    within(60, "file out = file in after a clean restart", lambda: read() == wanted)

    write(1000)
    within(30, "some of the third part", lambda: len(read()) > 2500)
    time.sleep(1.5)
    write(1000)
    within(30, "some of the fourth part", lambda: len(read()) > 3500, 0.01)
    site.stop(process, signal.SIGKILL)
    write(500)
    process = worker()
    within(90, "every line after kill -9", lambda: set(read()) == set(wanted) and read()[-1] == wanted[-1])
    found = read()
    same([line for i, line in enumerate(dict.fromkeys(found))], wanted, "lines without those repeated")
    assert len(found) <= len(wanted) + 2500, f"{len(found)} lines of {len(wanted)}: the offsets were not kept"

    # A source's offset, asked for and reset; a restarted task reads the file again from its beginning.
    where = http(f"{base}/connectors/source/offsets")["offsets"]
    same([each["partition"]["filename"] for each in where], [before], "the source's partition")
    within(20, "the source's position", lambda: http(f"{base}/connectors/source/offsets")["offsets"][0]["offset"]["position"] == os.path.getsize(before))
    http(f"{base}/connectors/sink/stop", method="PUT")
    within(30, "a stopped sink", lambda: http(f"{base}/connectors/sink/status")["connector"]["state"] == "STOPPED")
    http(f"{base}/connectors/sink/offsets", {"offsets": [{"partition": {"kafka_topic": topic, "kafka_partition": 0}, "offset": {"kafka_offset": 10}}]}, "PATCH")
    moved = http(f"{base}/connectors/sink/offsets")["offsets"]
    same([each["offset"]["kafka_offset"] for each in moved], [10], "the sink's offset after it was moved")
    http(f"{base}/connectors/sink/offsets", method="DELETE")
    same(http(f"{base}/connectors/sink/offsets")["offsets"], [], "the sink's offsets after they were reset")
    for name in ("source", "sink"):
        http(f"{base}/connectors/{name}", method="DELETE")
    within(20, "no connectors", lambda: http(f"{base}/connectors") == [])
    site.stop(process, seconds=60)
    process = worker()
    same(http(f"{base}/connectors"), [], "connectors after their deletion and a restart")
    site.stop(process, seconds=60)
    return f"{site.version}: {len(wanted)} lines equal over a clean restart, {len(found) - len(wanted)} repeated and none lost by kill -9, offsets read, moved and reset over REST"
