"""Just so much of Kafka's protocol as the comparisons of two brokers need, in versions without tagged fields."""
import socket
import struct


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


class Wire:
    """One connection; one request at a time."""

    def __init__(self, bootstrap):
        host, port = bootstrap.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), 10)
        self.socket.settimeout(60)

    def ask(self, key, version, body):
        frame = struct.pack(">hhih", key, version, 1, 8) + b"cleaning" + body
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)
        size = struct.unpack(">i", self.read(4))[0]
        self.answer, self.at = self.read(size), 4

    def read(self, size):
        got = bytearray()
        while len(got) < size:
            part = self.socket.recv(size - len(got))
            if not part:
                raise ConnectionError("the broker closed the connection")
            got += part
        return bytes(got)

    def take(self, form):
        form = ">" + form
        found = struct.unpack_from(form, self.answer, self.at)
        self.at += struct.calcsize(form)
        return found[0] if len(found) == 1 else found

    def text(self):
        length = self.take("h")
        self.at += max(length, 0)
        return None if length < 0 else self.answer[self.at - length:self.at].decode()

    def create(self, name, configs, validate_only=False):
        """(error, message)"""
        pairs = b"".join(text(key) + text(value) for key, value in configs.items())
        self.ask(19, 4, struct.pack(">i", 1) + text(name) + struct.pack(">ihii", 1, 1, 0, len(configs)) + pairs + struct.pack(">i?", 30_000, validate_only))
        self.take("ii")
        self.text()
        return self.take("h"), self.text()

    def delete_topic(self, name):
        self.ask(20, 1, struct.pack(">i", 1) + text(name) + struct.pack(">i", 30_000))
        self.take("ii")
        self.text()
        return self.take("h")

    def alter(self, name, configs, kind=2, validate_only=False):
        """(error, message)"""
        pairs = b"".join(text(key) + b"\0" + text(value) for key, value in configs.items())
        self.ask(44, 0, struct.pack(">ib", 1, kind) + text(name) + struct.pack(">i", len(configs)) + pairs + struct.pack(">?", validate_only))
        self.take("ii")
        return self.take("h"), self.text()

    def produce(self, name, batch):
        """(error, base offset, log start offset, errors of records, message)"""
        part = struct.pack(">iii", 1, 0, len(batch)) + batch
        self.ask(0, 8, struct.pack(">hhii", -1, -1, 30_000, 1) + text(name) + part)
        self.take("i")
        self.text()
        _, _, code, base_offset, _, start = self.take("iihqqq")
        errors = [(self.take("i"), self.text()) for _ in range(self.take("i"))]
        return code, base_offset, start, errors, self.text()

    def fetch(self, name, offset):
        """(error, high watermark, log start offset, bytes)"""
        part = struct.pack(">iiiqqi", 1, 0, -1, offset, -1, 4 << 20)
        self.ask(1, 11, struct.pack(">iiiibiii", -1, 0, 1, 8 << 20, 0, 0, -1, 1) + text(name) + part + struct.pack(">ih", 0, 0))
        self.take("ihii")
        self.text()
        _, _, code, high_watermark, _, start, aborted = self.take("iihqqqi")
        assert aborted <= 0, aborted
        _, size = self.take("ii")
        return code, high_watermark, start, self.answer[self.at:self.at + max(size, 0)]

    def offset(self, name, timestamp):
        """(error, timestamp, offset) of a search by time; -1 is the end, -2 the start."""
        self.ask(2, 5, struct.pack(">ibi", -1, 0, 1) + text(name) + struct.pack(">iiiq", 1, 0, -1, timestamp))
        self.take("ii")
        self.text()
        _, _, code, found, offset, _ = self.take("iihqqi")
        return code, found, offset

    def delete_records(self, name, offset):
        self.ask(21, 1, struct.pack(">i", 1) + text(name) + struct.pack(">iiqi", 1, 0, offset, 30_000))
        self.take("ii")
        self.text()
        _, _, low_watermark, code = self.take("iiqh")
        return code, low_watermark

    def describe(self, kind, name):
        """Of a resource: {name: value, read only, source, sensitive, synonyms as (name, value, source), type, documentation}."""
        self.ask(32, 3, struct.pack(">ib", 1, kind) + text(name) + struct.pack(">i??", -1, True, True))
        self.take("ii")
        code, message = self.take("h"), self.text()
        assert code == 0, (name, code, message)
        self.take("b")
        self.text()
        return dict(self.setting() for _ in range(self.take("i")))

    def setting(self):
        name, value, (read_only, source, sensitive) = self.text(), self.text(), self.take("?b?")
        synonyms = [(self.text(), self.text(), self.take("b")) for _ in range(self.take("i"))]
        return name, dict(value=value, read_only=read_only, source=source, sensitive=sensitive, synonyms=synonyms, type=self.take("b"), documentation=self.text())
