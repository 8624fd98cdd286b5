#!/usr/bin/env python3
"""The company that benches/company/run and benches/soak/run keep, one process each, of next to no processor of its own. Until SIGTERM; then what it did, as JSON.

    guests.py silent HOST:PORT TOPIC PARTITIONS N    N consumers that never read, half a frame, and garbage
    guests.py cold HOST:PORT TOPIC PARTITIONS        one consumer from the beginning, over and over, as fast as it is served
    guests.py device PATH read|write MB/S            direct I/O in 512 KiB on a file of 1 GiB; 0 MB/s is as fast as it goes
    guests.py floor PATH                             durable writes of 4 KiB, one after the other
    guests.py group HOST:PORT TOPIC PARTITIONS       a member that heartbeats and commits every partition's offset five times a second
    guests.py visitors HOST:PORT GANNET              connections that come and go, and every 20 s a topic that is created, used and deleted
"""
import bisect
import itertools
import json
import mmap
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "tests", "compat"))
from plain_wire import Wire, text

FETCH, FETCH_VERSION = 1, 11
FETCHES_EACH, FETCH_BYTES = 8, 50 << 20
GARBAGE_A_SECOND = 100
FILE_BYTES, CHUNK_BYTES, THREADS = 1 << 30, 512 << 10, 4
ended = threading.Event()


def frame(key, version, body):
    header = struct.pack(">hhih", key, version, 1, 7) + b"company" + body
    return struct.pack(">i", len(header)) + header


def fetch(topic, offsets, bytes_max, partition_bytes):
    parts = b"".join(struct.pack(">iiqqi", partition, -1, offset, -1, partition_bytes) for partition, offset in enumerate(offsets))
    return frame(FETCH, FETCH_VERSION, struct.pack(">iiiibiii", -1, 500, 1, bytes_max, 0, 0, -1, 1) + text(topic) + struct.pack(">i", len(offsets)) + parts + struct.pack(">ih", 0, 0))


def connect(bootstrap, buffer=0):
    host, port = bootstrap.rsplit(":", 1)
    made = socket.socket()
    if buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    made.settimeout(5)
    made.connect((host, int(port)))
    return made


def garbage():
    """Frames that no client sends; the same ones in each run."""
    chance = random.Random(1)
    while True:
        noise = chance.randbytes(chance.randrange(1, 2048))
        yield chance.choice([
            noise,
            struct.pack(">i", chance.choice([-1, 0, 3, 2**31 - 1, 100 << 20])) + noise,
            struct.pack(">i", len(noise)) + noise,
            frame(chance.randrange(0, 90), chance.randrange(0, 20), noise),
            frame(9999, 0, noise),
            # Arrays that claim to be long.
            frame(FETCH, FETCH_VERSION, struct.pack(">iiiibiii", -1, 0, 1, 1 << 20, 0, 0, -1, 2**31 - 1) + noise),
            frame(3, 1, struct.pack(">i", 2**31 - 1) + noise),
            frame(0, 8, struct.pack(">hhii", -1, -1, 1000, 1) + text("front") + struct.pack(">iii", 1, 0, len(noise)) + noise),
        ])


def silent(bootstrap, topic, partitions, count):
    asked = fetch(topic, [0] * int(partitions), FETCH_BYTES, FETCH_BYTES) * FETCHES_EACH
    mute, half, counts = {}, None, dict(silent_closed=0, half_closed=0, garbage_frames=0, garbage_closed=0)
    frames, poll = garbage(), select.poll()

    def begin(what):
        made = connect(bootstrap, 4096)
        made.sendall(what)
        poll.register(made, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        return made

    while not ended.is_set():
        while len(mute) < int(count):
            made = begin(asked)
            mute[made.fileno()] = made
        half = half or begin(struct.pack(">i", 1 << 20) + bytes(512 << 10))
        for number, _ in poll.poll(0):
            poll.unregister(number)
            if half and number == half.fileno():
                half, counts["half_closed"] = half.close(), counts["half_closed"] + 1
            else:
                mute.pop(number).close()
                counts["silent_closed"] += 1
        try:
            with connect(bootstrap) as made:
                counts["garbage_frames"] += 1
                made.sendall(next(frames))
                made.settimeout(0.005)
                counts["garbage_closed"] += made.recv(4096) == b""
        except (TimeoutError, ConnectionError):
            pass
        ended.wait(1 / GARBAGE_A_SECOND)
    return counts


class Reader(Wire):
    """Reads into one buffer, again and again."""

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.room = bytearray(64 << 20)

    def read(self, size):
        view, at = memoryview(self.room)[:size], 0
        while at < size:
            count = self.socket.recv_into(view[at:])
            if not count:
                raise ConnectionError("the broker closed the connection")
            at += count
        return view


def cold(bootstrap, topic, partitions):
    wire, offsets, came, rounds = Reader(bootstrap), [0] * int(partitions), 0, 0
    began = time.monotonic()
    while not ended.is_set():
        wire.socket.sendall(fetch(topic, offsets, FETCH_BYTES, 1 << 20))
        size = struct.unpack(">i", wire.read(4))[0]
        came, wire.answer, wire.at = came + size, wire.read(size), 4
        wire.take("ihii")
        wire.at += 2 + len(topic)
        got_any = False
        for _ in range(wire.take("i")):
            partition, code, *_, aborted = wire.take("ihqqqi")
            wire.at += 16 * max(aborted, 0)
            _, length = wire.take("ii")
            at, end = wire.at, wire.at + max(length, 0)
            assert code == 0, code
            while at + 61 <= end:
                base, bytes_of = struct.unpack_from(">qi", wire.answer, at)
                if at + 12 + bytes_of <= end:
                    offsets[partition], got_any = base + struct.unpack_from(">i", wire.answer, at + 23)[0] + 1, True
                at += 12 + bytes_of
            wire.at = end
        if not got_any:
            offsets, rounds = [0] * int(partitions), rounds + 1
    return dict(mb_per_s=round(came / (time.monotonic() - began) / 1e6, 1), rounds=rounds)


def device(path, verb, mb_per_s):
    if not os.path.exists(path) or os.path.getsize(path) < FILE_BYTES:
        with open(path + ".new", "wb") as file:
            for _ in range(FILE_BYTES >> 20):
                file.write(os.urandom(1 << 20))
            os.fsync(file.fileno())
        os.rename(path + ".new", path)
    descriptor = os.open(path, os.O_RDWR | os.O_DIRECT)
    turn, done, rate = itertools.count(), [0] * THREADS, float(mb_per_s) * 1e6
    began = time.monotonic()

    def work(number):
        page = mmap.mmap(-1, CHUNK_BYTES)
        page.write(os.urandom(CHUNK_BYTES))
        late = 0.0
        while not ended.is_set():
            mine = next(turn)
            if rate:
                wait = began + late + mine * CHUNK_BYTES / rate - time.monotonic()
                # What the device did not do in time is not done later, all at once.
                late = late - wait - 0.1 if wait < -0.1 else late
                if wait > 0 and ended.wait(wait):
                    break
            at = mine * CHUNK_BYTES % FILE_BYTES
            done[number] += os.preadv(descriptor, [page], at) if verb == "read" else os.pwritev(descriptor, [page], at)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return dict(mb_per_s=round(sum(done) / (time.monotonic() - began) / 1e6, 1))


def floor(path):
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_DSYNC)
    page, span, times = mmap.mmap(-1, 4096), 16 << 20, []
    page.write(os.urandom(4096))
    if os.fstat(descriptor).st_size < span:
        whole = mmap.mmap(-1, span)
        os.pwritev(descriptor, [whole], 0)
    while not ended.is_set():
        began = time.perf_counter()
        os.pwritev(descriptor, [page], len(times) * 4096 % span)
        times.append((time.perf_counter() - began) * 1000)
    # By the time they took and not by their number: what one meets who comes at any moment.
    times.sort()
    reached, whole = list(itertools.accumulate(times)), sum(times)
    at = lambda part: times[bisect.bisect_left(reached, part * whole)]
    return {"p50": at(0.5), "p99": at(0.99), "p99.9": at(0.999), "writes": len(times)}


def group(bootstrap, topic, partitions):
    wire, name, counts, offset = Wire(bootstrap), "soak", dict(commits=0, joins=0, refused=0), 0
    subscription = struct.pack(">hi", 0, 1) + text(topic) + struct.pack(">i", -1)
    wire.ask(10, 0, text(name))
    generation, member = -1, ""
    while not ended.is_set():
        if generation < 0:
            # Any assignment will do: the offsets are what is wanted.
            wire.ask(11, 2, text(name) + struct.pack(">ii", 10_000, 10_000) + text(member) + text("consumer") + struct.pack(">i", 1) + text("range") + struct.pack(">i", len(subscription)) + subscription)
            _, code, generation = wire.take("ihi")
            wire.text(), wire.text()
            member = wire.text()
            if code == 0:
                wire.ask(14, 1, text(name) + struct.pack(">i", generation) + text(member) + struct.pack(">i", 1) + text(member) + struct.pack(">i", 0))
                _, code = wire.take("ih")
            counts["joins"] += 1
            if code:
                generation, member, counts["refused"] = -1, "", counts["refused"] + 1
                ended.wait(0.5)
                continue
        offset += 1
        parts = b"".join(struct.pack(">iqh", partition, offset, -1) for partition in range(int(partitions)))
        wire.ask(8, 2, text(name) + struct.pack(">i", generation) + text(member) + struct.pack(">qi", -1, 1) + text(topic) + struct.pack(">i", int(partitions)) + parts)
        wire.take("i")
        wire.text()
        codes = {wire.take("ih")[1] for _ in range(wire.take("i"))}
        wire.ask(12, 0, text(name) + struct.pack(">i", generation) + text(member))
        codes.add(wire.take("h"))
        counts["commits"] += codes == {0}
        if codes != {0}:
            generation, counts["refused"] = -1, counts["refused"] + 1
        ended.wait(0.2)
    return counts


def visitors(bootstrap, gannet):
    counts, due, number = dict(connections=0, topics=0, topics_failed=0), time.monotonic(), 0
    while not ended.is_set():
        came = [connect(bootstrap) for _ in range(20)]
        for index, made in enumerate(came):
            made.sendall(frame(18, 0, b""))
            if index % 2:
                made.recv(4096)
            made.close()
        counts["connections"] += len(came)
        if time.monotonic() >= due:
            number, due = number + 1, time.monotonic() + 20
            topic = f"passing-{number}"
            command = [gannet, "load", "--bootstrap-server", bootstrap, "--quiet", "--threads", "1", "--topic", topic, "--create", "--partitions", "4", "--rate", "100", "--warm-up", "0s", "--duration", "3s"]
            used = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
            code = Wire(bootstrap).delete_topic(topic)
            counts["topics"] += 1
            counts["topics_failed"] += used.returncode not in (0, 4) or code != 0
        ended.wait(1)
    return counts


if __name__ == "__main__":
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: ended.set())
    print(json.dumps({"silent": silent, "cold": cold, "device": device, "floor": floor, "group": group, "visitors": visitors}[sys.argv[1]](*sys.argv[2:])), flush=True)
