"""Just enough of Kafka's wire to look at a group, feed it and clean up after it without any of the clients under test: requests over one plain connection."""
import io
import socket
import struct
import threading
import time

NOT_YET = {14: "loading", 15: "no coordinator", 16: "not coordinator"}


class Refused(Exception):
    def __init__(self, code, what):
        super().__init__(f"{what}: error {code}")
        self.code = code


class Answer(io.BytesIO):
    def take(self, form):
        found = struct.unpack(">" + form, self.read(struct.calcsize(">" + form)))
        return found[0] if len(found) == 1 else found

    def text(self):
        length = self.take("h")
        return None if length < 0 else self.read(length).decode()

    def blob(self):
        return self.read(max(0, self.take("i")))

    def array(self, one):
        return [one() for _ in range(self.take("i"))]

    # The flexible forms: lengths as unsigned varints, one more than they are, and tags after every structure.
    def varint(self):
        value = shift = 0
        while True:
            byte = self.take("B")
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def compact_text(self):
        length = self.varint() - 1
        return None if length < 0 else self.read(length).decode()

    def compact_array(self, one):
        return [one() for _ in range(self.varint() - 1)]

    def tags(self):
        for _ in range(self.varint()):
            self.varint()
            self.read(self.varint())


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def varint(value):
    """Zigzag, as records carry them."""
    value, out = (value << 1) ^ (value >> 63), b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


CRC = list(table())


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def batch(values):
    """A record batch of magic 2 without keys and compression."""
    now, records = int(time.time() * 1000), b""
    for i, value in enumerate(values):
        record = b"\0\0" + varint(i) + varint(-1) + varint(len(value)) + value + b"\0"
        records += varint(len(record)) + record
    rest = struct.pack(">hiqqqhii", 0, len(values) - 1, now, now, -1, -1, -1, len(values)) + records
    return struct.pack(">qiibI", 0, len(rest) + 9, -1, 2, crc32c(rest)) + rest


class Wire:
    """One connection, one request at a time; for one thread."""

    def __init__(self, bootstrap):
        host, port = bootstrap.rsplit(":", 1)
        self.connection = socket.create_connection((host, int(port)), 10)
        self.connection.settimeout(30)
        self.incoming, self.lock = self.connection.makefile("rb"), threading.Lock()

    def close(self):
        self.incoming.close()
        self.connection.close()

    def call(self, api, version, body, flexible=False):
        frame = struct.pack(">hhi", api, version, 1) + text("compat") + (b"\0" if flexible else b"") + body
        with self.lock:
            self.connection.sendall(struct.pack(">i", len(frame)) + frame)
            answer = Answer(self.incoming.read(struct.unpack(">i", self.incoming.read(4))[0]))
        answer.take("i")
        if flexible:
            answer.tags()
        return answer

    def create(self, topic, partitions):
        body = struct.pack(">i", 1) + text(topic) + struct.pack(">ihii", partitions, 1, 0, 0) + struct.pack(">i?", 20000, False)
        answer = self.call(19, 2, body)
        [(_, code, _)] = (answer.take("i"), answer.array(lambda: (answer.text(), answer.take("h"), answer.text())))[1]
        self.check(code, f"creating {topic}")

    def grow(self, topic, partitions):
        answer = self.call(37, 0, struct.pack(">i", 1) + text(topic) + struct.pack(">iii?", partitions, -1, 20000, False))
        [(_, code, _)] = (answer.take("i"), answer.array(lambda: (answer.text(), answer.take("h"), answer.text())))[1]
        self.check(code, f"growing {topic}")

    def set_of_group(self, group, key, value):
        """A setting of one group (IncrementalAlterConfigs 0)."""
        answer = self.call(44, 0, struct.pack(">ib", 1, 32) + text(group) + struct.pack(">i", 1) + text(key) + b"\0" + text(value) + b"\0")
        [(code, why, _, _)] = (answer.take("i"), answer.array(lambda: (answer.take("h"), answer.text(), answer.take("b"), answer.text())))[1]
        self.check(code, f"{key}={value} of group {group}: {why}")

    def delete(self, *topics):
        self.call(20, 1, struct.pack(">i", len(topics)) + b"".join(map(text, topics)) + struct.pack(">i", 20000))

    def produce(self, values):
        """{(topic, partition): [value]} with acks=all; {(topic, partition): offset after the last}, of those that were taken."""
        body = struct.pack(">hhii", -1, -1, 20000, len(values))
        for (topic, partition), sent in values.items():
            records = batch(sent)
            body += text(topic) + struct.pack(">iii", 1, partition, len(records)) + records
        answer = self.call(0, 3, body)
        found = answer.array(lambda: (answer.text(), answer.array(lambda: answer.take("ihqq"))))
        return {(topic, partition): base + len(values[topic, partition]) for topic, parts in found for partition, code, base, _ in parts if code == 0}

    def committed(self, group):
        """{(topic, partition): offset} of all that is committed, None while the coordinator cannot tell."""
        answer = self.call(9, 2, text(group) + struct.pack(">i", -1))
        found = answer.array(lambda: (answer.text(), answer.array(lambda: (answer.take("iq"), answer.text(), answer.take("h")))))
        code = answer.take("h")
        if code in NOT_YET:
            return None
        self.check(code, f"offsets of {group}")
        return {(topic, partition): offset for topic, parts in found for (partition, offset), _, _ in parts}

    def group(self, group):
        """(state, protocol, members) of either kind of group; a member is a dict. None while the coordinator cannot tell."""
        found = self.consumer_group(group)
        return found if found else self.classic_group(group)

    def classic_group(self, group):
        answer = self.call(15, 4, struct.pack(">i", 1) + text(group) + b"\0")

        def assigned():
            found = Answer(answer.blob())
            if not found.getvalue():
                return set()
            found.take("h")
            return {(topic, partition) for topic, parts in found.array(lambda: (found.text(), found.array(lambda: found.take("i")))) for partition in parts}

        def member():
            names = ("id", "instance", "client", "host")
            found = {name: answer.text() for name in names}
            answer.blob()
            return {**found, "owned": assigned(), "kind": "classic"}

        answer.take("i")
        [(code, _, state, _, protocol, members, _)] = answer.array(
            lambda: (answer.take("h"), answer.text(), answer.text(), answer.text(), answer.text(), answer.array(member), answer.take("i")))
        if code in NOT_YET:
            return None
        self.check(code, f"describing {group}")
        return state, protocol, members

    def consumer_group(self, group):
        """None too if the group is none of the new protocol."""
        answer = self.call(69, 1, b"\2" + bytes([len(group) + 1]) + group.encode() + b"\0\0", flexible=True)

        def part():
            answer.read(16)
            topic, partitions = answer.compact_text(), answer.compact_array(lambda: answer.take("i"))
            answer.tags()
            return topic, partitions

        def assigned():
            found = {(topic, partition) for topic, parts in answer.compact_array(part) for partition in parts}
            answer.tags()
            return found

        def member():
            found = {name: answer.compact_text() for name in ("id", "instance", "rack")}
            found["epoch"] = answer.take("i")
            found |= {name: answer.compact_text() for name in ("client", "host")}
            answer.compact_array(answer.compact_text)
            answer.compact_text()
            found["owned"], found["target"] = assigned(), assigned()
            found["kind"] = {0: "classic", 1: "consumer"}.get(answer.take("b"))
            answer.tags()
            return found

        answer.take("i")
        answer.varint()
        code, _, _, state = answer.take("h"), answer.compact_text(), answer.compact_text(), answer.compact_text()
        if code:
            return None
        _, _, assignor = answer.take("i"), answer.take("i"), answer.compact_text()
        members = answer.compact_array(member)
        return state, assignor, members

    def nodes(self):
        """Where the brokers are (Metadata 0)."""
        answer = self.call(3, 0, struct.pack(">i", 0))
        return [f"{host}:{port}" for _, host, port in answer.array(lambda: (answer.take("i"), answer.text(), answer.take("i")))]

    def groups(self):
        """Of all brokers: each lists its own."""
        found = set()
        for node in self.nodes():
            wire = Wire(node)
            answer = wire.call(16, 0, b"")
            wire.check(answer.take("h"), "listing groups")
            found |= {group for group, _ in answer.array(lambda: (answer.text(), answer.text()))}
            wire.close()
        return found

    def remove(self, group, instance):
        """Takes a static member out of its group (LeaveGroup 3)."""
        answer = self.call(13, 3, text(group) + struct.pack(">i", 1) + text("") + text(instance))
        _, code = answer.take("i"), answer.take("h")
        [(_, _, of_member)] = answer.array(lambda: (answer.text(), answer.text(), answer.take("h")))
        self.check(code or of_member, f"removing {instance} of {group}")

    def delete_group(self, group):
        answer = self.call(42, 0, struct.pack(">i", 1) + text(group))
        [(_, code)] = (answer.take("i"), answer.array(lambda: (answer.text(), answer.take("h"))))[1]
        self.check(code, f"deleting {group}")

    def check(self, code, what):
        if code:
            raise Refused(code, what)
