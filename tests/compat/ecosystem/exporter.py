"""KMinion, an exporter of lag for Prometheus."""
import re

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
    binary, found = site.go_program("kminion", MODULE, VERSION), []
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
