"""Who reports the lag of groups: KMinion, an exporter for Prometheus, where its Go module or a checkout of it is to be had; else
kafkatop, from PyPI.

Others were looked at. prometheus-kafka-consumer-group-exporter and kommitted know records of __consumer_offsets up to version 3, while
Kafka 4 writes 4, and the first asks with ListOffsets 0, which Kafka 4 has not; kafka-overwatch takes minutes to install.
"""
import json
import re
import signal
import subprocess
import sys

from . import http, same, within

MODULE, VERSION = "github.com/cloudhut/kminion/v2", "v2.3.5"


def samples(port, metric, **labels):
    """The values of a metric whose labels have these values."""
    found = []
    for line in http(f"http://127.0.0.1:{port}/metrics").splitlines():
        match = re.match(r"(\w+)(?:\{(.*)\})? (\S+)$", line)
        if match and match[1] == metric and labels.items() <= dict(re.findall(r'(\w+)="([^"]*)"', match[2] or "")).items():
            found.append(float(match[3]))
    return found


def row(site):
    """The lag is the true one, also after the group has read on, in both ways to scrape: over the admin API, and from the records
    of __consumer_offsets. Its own probe sends a record to itself ten times a second, in a topic that it makes."""
    try:
        binary, found = site.go_program("kminion", MODULE, VERSION), []
    except site.runner.NotInstalled as reason:
        return f"{kafkatop(site)}; KMinion not run: {reason}"
    topic, group, _ = site.lagging_group(600, 200)
    for mode in ("adminApi", "offsetsTopic"):
        port = site.runner.free_port()
        config = site.file(f"{mode}.yaml", f"""kafka:
  brokers: ["{site.bootstrap}"]
minion:
  consumerGroups: {{enabled: true, scrapeMode: {mode}, granularity: partition}}
  topics: {{enabled: true, granularity: partition}}
  logDirs: {{enabled: true}}
  endToEnd: {{enabled: true, probeInterval: 100ms, topicManagement: {{enabled: true, name: {site.prefix}-probe, replicationFactor: 1}}}}
exporter: {{host: 127.0.0.1, port: {port}}}
""")
        process = site.start(f"kminion-{mode}", [binary], CONFIG_FILEPATH=config)
        within(30, "its metrics", lambda: samples(port, "kminion_kafka_cluster_info"))
        found.append(follows(site, lambda: samples(port, "kminion_kafka_consumer_group_topic_partition_lag", group_id=group, topic_name=topic), topic, group))
        within(20, "its own records coming back", lambda: sum(samples(port, "kminion_end_to_end_messages_received_total")) > 10)
        same(sum(samples(port, "kminion_end_to_end_messages_lost_total")), 0.0, "its own records lost")
        same(sum(samples(port, "kminion_kafka_topic_high_water_mark_sum", topic_name=topic)), 600.0, "high watermarks")
        assert sum(samples(port, "kminion_kafka_topic_log_dir_size_total_bytes", topic_name=topic)) > 10_000, "size of the topic's log"
        site.stop(process)
    return f"kminion {VERSION}: {' and '.join(found)}"


def follows(site, lag, topic, group):
    """Compares what `lag` says with the truth, lets the group read on, and compares again."""
    for more in (0, 60):
        if more:
            site.ask("consume", group, topic, more)
        truth = 600 - sum(site.ask("committed", group)[0]["committed"].values())
        within(40, f"a lag of {truth}", lambda: sum(lag()) == truth)
    return f"lag {truth:.0f}"


def kafkatop(site):
    """The largest and the smallest lag of a partition are the true ones, also after the group has read on and after kill -9 of the broker;
    a deleted group is gone."""
    def make(directory):
        site.runner.install([sys.executable, "-m", "venv", directory])
        site.runner.install([f"{directory}/bin/pip", "install", "-q", "--disable-pip-version-check", "-r", "ecosystem/exporter.txt"])

    venv = site.runner.cached("venv-exporter", ["ecosystem/exporter.txt"], make)
    topic, group, _ = site.lagging_group(600, 200)
    stays = f"{group}-stays"
    site.ask("consume", stays, topic, 1)

    def summary():
        done = subprocess.run([f"{venv}/bin/kafkatop", "--kafka-broker", site.bootstrap, "--summary-json", "--all", "--group-filter-pattern", site.prefix], stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        return json.loads(done.stdout)

    def follows():
        truth = [200 - offset for offset in site.ask("committed", group)[0]["committed"].values()]
        wanted = {"partitions": 3, "lag_max": max(truth), "lag_min": min(truth)}
        within(30, f"lags of {wanted}", lambda: summary()[group]["topics"] == {topic: wanted})
        return f"{wanted['lag_max']} and {wanted['lag_min']}"

    found = [follows()]
    site.ask("consume", group, topic, 60)
    found.append(follows())
    if site.broker.log:
        site.broker.stop(signal.SIGKILL)
        site.broker.start()
        found.append(follows())
    site.ask("consume", group, topic, 600 - 260)
    found.append(follows())
    site.ask("delete-group", group)
    within(30, "the other group alone after its deletion", lambda: list(summary()) == [stays])
    return f"kafkatop 1.16: largest and smallest lag of 3 partitions {', '.join(found)}, then no group"
