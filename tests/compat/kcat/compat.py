"""kcat against the broker under test; the contract is contract.py. kcat creates no topics: contract.create_topics does."""
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import contract as c

KCAT = next((name for name in ("kcat", "kafkacat") if subprocess.run(["which", name], capture_output=True).returncode == 0), "kcat")
# Partition, offset, time, lengths (-1 for null), then the key, the value and the headers themselves.
FORMAT = "%p %o %T %K %S\\n%k%s%h\\n"


def kcat(*arguments, stdin=b"", ok=True):
    done = subprocess.run([KCAT, "-b", c.BOOTSTRAP, *arguments], input=stdin, capture_output=True, timeout=50)
    if ok and done.returncode != 0:
        raise AssertionError(f"kcat {' '.join(arguments)[:120]}: exit {done.returncode}, {done.stderr.decode(errors='replace')[-300:]}")
    return done


def create(name, partitions=1):
    c.create_topics({name: partitions})
    return name


def produce(name, records, *arguments, partition=0):
    stdin = b"".join(key + b"\x01" + value + b"\n" for key, value in records)
    kcat("-P", "-t", name, "-p", str(partition), "-K", "\\x01", *arguments, stdin=stdin)


class Message:
    def __init__(self, out):
        self.partition, self.offset, self.time, key, value = (int(number) for number in out.readline().split())
        self.key = None if key < 0 else out.read(key)
        self.value = None if value < 0 else out.read(value)
        self.headers = out.readline().rstrip(b"\n").decode()


def consume(name, count, *arguments):
    out = io.BytesIO(kcat("-C", "-q", "-t", name, "-e", "-c", str(count), "-f", FORMAT, *arguments).stdout)
    found = []
    while out.tell() < len(out.getvalue()):
        found.append(Message(out))
    c.same(len(found), count, f"records read from {name}")
    return found


def read(name, count, partition=0, offset="beginning"):
    return consume(name, count, "-p", str(partition), "-o", str(offset))


def pairs(messages):
    return [(m.key, m.value) for m in messages]


def round_trip(name, count, *arguments):
    records = c.records(count)
    produce(create(c.topic(name)), records, *arguments)
    found = read(c.topic(name), count)
    c.same(c.digest(pairs(found)), c.digest(records), "digest")
    c.same([m.offset for m in found], list(range(count)), "offsets")
    return f"{count} records"


def query(name, at):
    found = re.search(rb"offset (-?\d+)", kcat("-Q", "-t", f"{name}:0:{at}").stdout)
    return int(found[1])


def metadata():
    found = json.loads(kcat("-L", "-J").stdout)
    assert found["brokers"], "no broker"
    return f"{len(found['brokers'])} broker, controller {found['controllerid']}"


def needs_admin():
    raise c.NotRun("has none")


def all_partitions():
    name, records = create(c.topic("consume"), 3), c.records(3000)
    for partition in range(3):
        produce(name, records[partition::3], partition=partition)
    found = consume(name, 3000, "-o", "beginning")
    for partition in range(3):
        c.same(c.digest(pairs(m for m in found if m.partition == partition)), c.digest(records[partition::3]), f"digest of partition {partition}")
    c.same(read(name, 1, 1, 500)[0].key, records[1::3][500][0], "key at offset 500")


def shapes():
    name, large = create(c.topic("shapes")), c.shapes()[-1][1]
    kcat("-P", "-t", name, "-p", "0", "-Z", "-K", ":", stdin=b"tombstone:\n:null key\n")
    kcat("-P", "-t", name, "-p", "0", "-K", ":", stdin=b"empty value:\n")
    kcat("-P", "-t", name, "-p", "0", "-H", "a=1", "-H", "a=2", "-H", "b=", stdin=b"headers\n")
    with tempfile.NamedTemporaryFile() as file:
        file.write(large)
        file.flush()
        kcat("-P", "-t", name, "-p", "0", "-k", "large", file.name)
    found = read(name, 5)
    c.same(pairs(found[:4]), [(b"tombstone", None), (None, b"null key"), (b"empty value", b""), (None, b"headers")], "keys and values")
    c.same(found[3].headers, "a=1,a=2,b=", "headers")
    c.same((found[4].key, found[4].value == large), (b"large", True), "the large record")


def timestamps():
    name = create(c.topic("timestamps"))
    produce(name, c.records(5))
    time.sleep(0.05)
    produce(name, c.records(5))
    times = [m.time for m in read(name, 10)]
    c.same(query(name, times[5]), 5, "offset for time")
    c.same((query(name, -2), query(name, -1)), (0, 10), "beginning and end")
    c.same(read(name, 5, 0, f"s@{times[5]}")[0].offset, 5, "first offset from a time on")


def parked():
    name, waits = create(c.topic("parked")), []
    arguments = ["-C", "-q", "-u", "-t", name, "-p", "0", "-o", "beginning", "-f", "%s\\n", "-X", "fetch.wait.max.ms=30000", "-X", "fetch.min.bytes=1"]
    reader = subprocess.Popen([KCAT, "-b", c.BOOTSTRAP, *arguments], stdout=subprocess.PIPE)
    guard = threading.Timer(50, reader.kill)
    guard.start()
    try:
        for turn in range(3):
            sent = []

            def later():
                time.sleep(2)
                produce(name, [(b"parked", b"%d" % turn)], "-X", "acks=all")
                sent.append(time.monotonic())

            threading.Thread(target=later, daemon=True).start()
            c.same(reader.stdout.readline(), b"%d\n" % turn, "value")
            arrived = time.monotonic()
            c.within(5, "the producer", lambda: sent)
            waits.append(arrived - sent[0])
    finally:
        guard.cancel()
        reader.kill()
    assert max(waits) < c.PARKED_SECONDS_MAX, f"{max(waits):.1f} s after the ack"
    return f"at most {max(0, max(waits)) * 1000:.0f} ms after the ack"


def errors():
    name = create(c.topic("errors"))
    produce(name, c.records(10))
    with tempfile.NamedTemporaryFile() as file:
        file.write(os.urandom(c.OVERSIZE_BYTES))
        file.flush()
        done = kcat("-P", "-t", name, "-p", "0", "-X", "message.max.bytes=10000000", file.name, ok=False)
    assert b"too large" in done.stderr.lower(), f"a record above max.message.bytes: {done.stderr[-200:]}"
    c.same(query(name, -1), 10, "end offset after a refused record")
    done = kcat("-C", "-t", c.topic("absent"), "-p", "0", "-e", ok=False)
    assert b"unknown topic" in done.stderr.lower(), f"an unknown topic: {done.stderr[-200:]}"


def read_digest(name, partition, count):
    total = c.Digest()
    for message in read(name, count, partition):
        total.add(message.key, message.value)
    return total


def member(m):
    """kcat keeps its rebalances to itself and commits by itself."""
    settings = {"client.id": m.client_id, "session.timeout.ms": m.session_ms, "heartbeat.interval.ms": m.heartbeat_ms, "topic.metadata.refresh.interval.ms": m.metadata_ms,
                "auto.offset.reset": "earliest", "auto.commit.interval.ms": 100, "group.instance.id": m.instance, "partition.assignment.strategy": m.assignor}
    reader = subprocess.Popen([KCAT, "-b", c.BOOTSTRAP, "-G", m.group, "-q", "-u", "-f", "%t %p %o\n", *[part for key, value in settings.items() if value for part in ("-X", f"{key}={value}")], m.topic],
                              stdout=subprocess.PIPE)
    c.emit(pid=reader.pid)
    threading.Thread(target=lambda: (m.left.wait(), reader.terminate()), daemon=True).start()
    for line in reader.stdout:
        name, partition, offset = line.decode().split()
        m.read([(name, int(partition), int(offset))])
    sys.exit(reader.wait() != 0 and not m.left.is_set())


def version():
    return "{} (librdkafka {})".format(*re.search(r"Version (\S+).*librdkafka ([0-9.]+)", kcat("-V").stdout.decode(), re.S).groups())


FEATURES = [
    ("metadata", metadata), ("create", needs_admin), ("partitions", needs_admin),
    *[(f"acks-{acks}", lambda acks=acks: round_trip(f"acks-{acks}", 500, "-X", f"acks={acks}")) for acks in ("0", "1", "all")],
    ("idempotent", lambda: round_trip("idempotent", 2000, "-X", "enable.idempotence=true", "-X", "batch.num.messages=50")),
    *[(codec, lambda codec=codec: round_trip(codec, 1000, "-z", codec)) for codec in c.CODECS],
    ("consume", all_partitions), ("shapes", shapes), ("timestamps", timestamps), ("parked", parked), ("errors", errors),
    ("admin", needs_admin), ("delete", needs_admin),
]
c.main(version(), FEATURES, read_digest, lambda *_: sys.exit("kcat sends lines only"), member)
