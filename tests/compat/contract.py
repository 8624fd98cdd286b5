"""The contract of a client program, for those written in Python; `run` tells what each feature proves.

Environment: COMPAT_BOOTSTRAP (host:port), COMPAT_PREFIX (of every topic's name), COMPAT_LINES (a file of 2000 lines of text), COMPAT_LOG_DIR (optional),
COMPAT_FEATURES (those wanted; none: all).
Commands: `features`; `digest TOPIC:PARTITION:COUNT…`; `send TOPIC:PARTITIONS CODEC FILE`; `member SETTINGS`, which groups.py tells. Standard output carries JSON lines only.
"""
import hashlib
import io
import json
import os
import re
import socket
import struct
import sys
import threading
import time

BOOTSTRAP = os.environ.get("COMPAT_BOOTSTRAP", "127.0.0.1:9092")
PREFIX = os.environ.get("COMPAT_PREFIX", "compat")
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
FEATURE_SECONDS = 60
CHUNK_BYTES = 1024
# The first record's time in the `timestamps` feature: a moment of 2024, one record a second after it.
TIME_0 = 1_720_000_000_000
PARKED_SECONDS_MAX = 5.0
OVERSIZE_BYTES = 2_000_000
# What Kafka says of two replicas on one broker, before and since version 4.
TWO_REPLICAS = re.compile(r"2 larger than available brokers: 1\.|factor of 2 cannot be reached because only 1 broker")


def topic(name):
    return f"{PREFIX}-{name}"


def lines():
    with open(os.environ["COMPAT_LINES"], "rb") as file:
        return file.read().split(b"\n")[:2000]


def records(count):
    """The first `count` records every program sends: key-<i> and the i-th line."""
    text = lines()
    return [(b"key-%d" % i, text[i % len(text)]) for i in range(count)]


class Digest:
    """SHA-256 over keys and values in offset order, each with its length before it (2^32-1 for null)."""

    def __init__(self):
        self.sha, self.count = hashlib.sha256(), 0

    def add(self, key, value):
        for part in (key, value):
            self.sha.update(struct.pack(">I", 0xFFFFFFFF if part is None else len(part)))
            self.sha.update(part or b"")
        self.count += 1

    def hex(self):
        return self.sha.hexdigest()


def digest(pairs):
    total = Digest()
    for key, value in pairs:
        total.add(key, value)
    return total.hex()


def shapes():
    """(key, value, headers) as unlike each other as the format allows."""
    big = bytes((i * 31 + (i >> 8)) & 0xFF for i in range(900_000))
    return [
        (b"plain", b"value", []),
        (None, b"null key", []),
        (b"tombstone", None, []),
        (b"empty value", b"", []),
        (b"", b"empty key", []),
        (b"headers", b"value", [("a", b"1"), ("b", b""), ("c", None), ("a", b"2"), ("\u00fcml\u00e4ut", b"\x00\xff")]),
        (None, None, [("only", b"header")]),
        (b"large", big, [("size", b"900000")]),
    ]


def same(found, wanted, what):
    if found != wanted:
        raise AssertionError(f"{what}: found {str(found)[:300]}, wanted {str(wanted)[:300]}")


def within(seconds, what, attempt):
    """Repeats `attempt` until it returns something true."""
    end = time.monotonic() + seconds
    while True:
        found = attempt()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s, last {found!r}")
        time.sleep(0.1)


def create_topics(partitions):
    """Creates topics {name: partitions} with one plain request (CreateTopics 2), for programs whose client cannot."""
    text = lambda value: struct.pack(">h", len(value)) + value.encode()
    topics = b"".join(text(name) + struct.pack(">ihii", count, 1, 0, 0) for name, count in partitions.items())
    body = struct.pack(">hhi", 19, 2, 1) + text("compat") + struct.pack(">i", len(partitions)) + topics + struct.pack(">i?", 20000, False)
    host, port = BOOTSTRAP.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 10) as connection, connection.makefile("rb") as answers:
        connection.settimeout(30)
        connection.sendall(struct.pack(">i", len(body)) + body)
        answer = io.BytesIO(answers.read(struct.unpack(">i", answers.read(4))[0]))
    (count,) = struct.unpack(">8xi", answer.read(12))
    for _ in range(count):
        name = answer.read(struct.unpack(">h", answer.read(2))[0]).decode()
        code, length = struct.unpack(">hh", answer.read(4))
        same((code, answer.read(max(0, length)).decode()), (0, ""), f"creating {name}")


class NotRun(Exception):
    """The client has no such feature; the reason goes into the matrix."""


def emit(**line):
    sys.stdout.write(json.dumps(line) + "\n")  # in one piece, whichever thread
    sys.stdout.flush()


def report(feature, ok, detail, started):
    emit(feature=feature, ok=ok, detail=str(detail or "")[:500], seconds=round(time.monotonic() - started, 2))


def run_features(version, features, seconds=FEATURE_SECONDS):
    """Runs each feature on a thread of its own, so that one that hangs is reported and the next one runs."""
    emit(version=version)
    wanted = os.environ.get("COMPAT_FEATURES", "").split()
    for name, feature in features:
        if wanted and name not in wanted:
            continue
        started, outcome = time.monotonic(), []

        def work():
            try:
                outcome.append((True, feature()))
            except NotRun as reason:
                outcome.append((None, reason))
            except BaseException as error:  # a program's report must not stop at the first surprise
                outcome.append((False, f"{type(error).__name__}: {error}"))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(seconds)
        ok, detail = outcome[0] if outcome else (False, f"no end within {seconds} s")
        report(name, ok, detail, started)


def chunks(path):
    """The corpus as records: whole lines up to CHUNK_BYTES, a longer line by itself."""
    with open(path, "rb") as file:
        part, size = [], 0
        for line in file:
            if size and size + len(line) > CHUNK_BYTES:
                yield b"".join(part)
                part, size = [], 0
            part.append(line)
            size += len(line)
        if part:
            yield b"".join(part)


class Member:
    """The settings of a group's member, and what it tells of itself."""

    def __init__(self, settings):
        self.__dict__.update(settings)
        self.left, self.owned = threading.Event(), set()
        threading.Thread(target=lambda: (sys.stdin.buffer.read(), self.left.set()), daemon=True).start()

    def gains(self, partitions):
        self.now(self.owned | set(partitions))

    def loses(self, partitions):
        self.now(self.owned - set(partitions))

    def now(self, partitions):
        self.owned = set(partitions)
        emit(owned=sorted(self.owned))

    def read(self, messages):
        """[(topic, partition, offset)], in the order of their arrival."""
        found = {}
        for name, partition, offset in messages:
            found.setdefault((name, partition), []).append(offset)
        for at, offsets in found.items():
            emit(read=at, offsets=offsets)

    def refused(self, why):
        emit(refused=str(why)[:200])


def main(version, features, read_digest, send, member, seconds=FEATURE_SECONDS):
    """`features` a list of (name, function); read_digest(topic, partition, count) -> Digest; send(topic, partitions, codec, values); member(Member)."""
    command = sys.argv[1]
    if command == "features":
        run_features(version, features, seconds)
    elif command == "digest":
        for argument in sys.argv[2:]:
            name, partition, count = argument.rsplit(":", 2)
            try:
                total = read_digest(name, int(partition), int(count))
                emit(topic=name, partition=int(partition), count=total.count, digest=total.hex())
            except Exception as error:
                emit(topic=name, partition=int(partition), count=-1, digest="", detail=f"{type(error).__name__}: {error}")
    elif command == "send":
        name, partitions = sys.argv[2].rsplit(":", 1)
        sent = send(name, int(partitions), sys.argv[3], chunks(sys.argv[4]))
        emit(topic=name, sent=sent)
    elif command == "member":
        member(Member(json.loads(sys.argv[2])))
    else:
        sys.exit(f"unknown command {command}")
    sys.stdout.flush()
    os._exit(0)  # a client's own threads must not keep a finished program alive
