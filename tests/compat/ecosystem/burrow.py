"""Burrow, the lag monitor: it knows of groups only what it decodes from the records of __consumer_offsets.

Debian's package will not do: that is 1.2.1, which wants ZooKeeper, asks with ListOffsets 0, which Kafka 4 has not, and does not know
the records that Kafka 4 writes.
"""
from . import http, same, within

MODULE, VERSION = "github.com/linkedin/Burrow", "v1.9.5"


def row(site):
    """Clusters, topics, groups and their lag are what we made them, and follow when the group reads on and when it is deleted."""
    binary, port = site.go_program("burrow", MODULE, VERSION), site.runner.free_port()
    topic, group, taken = site.lagging_group(600, 200)
    servers = f'servers=["{site.bootstrap}"]'
    site.file("burrow.toml", f"""[general]
pidfile="{site.path('burrow.pid')}"
[logging]
filename="{site.path('burrow.log')}"
level="info"
[client-profile.compat]
client-id="burrow"
kafka-version="2.8.0"
[cluster.compat]
class-name="kafka"
{servers}
client-profile="compat"
topic-refresh=2
offset-refresh=1
[consumer.compat]
class-name="kafka"
cluster="compat"
{servers}
client-profile="compat"
[httpserver.default]
address="127.0.0.1:{port}"
[storage.default]
class-name="inmemory"
intervals=3
min-distance=0
""")
    site.start("burrow", [binary, "--config-dir", site.directory])
    base = f"http://127.0.0.1:{port}/v3/kafka"
    within(30, "its admin page", lambda: http(f"http://127.0.0.1:{port}/burrow/admin") == "GOOD")
    same(http(base)["clusters"], ["compat"], "clusters")
    within(20, "the topic", lambda: topic in http(f"{base}/compat/topic")["topics"])
    within(20, "the end offsets", lambda: sum(http(f"{base}/compat/topic/{topic}")["offsets"]) == 600)
    within(20, "the group", lambda: group in http(f"{base}/compat/consumer")["consumers"])
    lag = lambda: http(f"{base}/compat/consumer/{group}/lag")["status"]
    within(30, f"a lag of {600 - taken}", lambda: lag()["totallag"] == 600 - taken)
    taken += site.ask("consume", group, topic, 200)[0]["taken"]
    within(30, f"a lag of {600 - taken}", lambda: lag()["totallag"] == 600 - taken)
    status = lag()
    same(sum(each["current_lag"] for each in status["partitions"]), 600 - taken, "lag of the partitions together")
    same(sorted({each["topic"] for each in status["partitions"]}), [topic], "topics of the group")
    committed = site.ask("committed", group)[0]["committed"]
    same({f"{topic}-{each['partition']}": each["end"]["offset"] for each in status["partitions"]}, {partition: offset for partition, offset in committed.items()}, "the last commits")
    site.ask("consume", group, topic, 600 - taken)
    within(30, "no lag", lambda: lag()["totallag"] == 0)
    site.ask("delete-group", group)
    within(30, "no group after its deletion", lambda: group not in http(f"{base}/compat/consumer")["consumers"])
    return f"{VERSION}: lag {600 - taken} of 3 partitions, then 0, then no group"
