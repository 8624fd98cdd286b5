"""Groups of other people's clients: members are processes, the rules are told once, here.

A client's program has one command for this: `member SETTINGS`, where SETTINGS is a JSON object
    topic, pattern (subscribe with the regular expression ^topic.* instead), group, client_id, protocol (classic or consumer),
    assignor (range, cooperative-sticky; null: the client's own), instance (group.instance.id or null), session_ms, heartbeat_ms, metadata_ms
A member consumes from the earliest record on, commits (synchronously, where it can) after every batch, once more what was refused (a rebalance goes
on) before its partition goes, and prints JSON lines
    {"owned": [[topic, partition]…]}                          after every change, all that it owns now
    {"read": [topic, partition], "offsets": [offset…]}        each record once, before it is committed
    {"refused": why}                                          a commit that was refused
    {"pid": number}                                           the process to kill, if not the program itself: what it has printed still counts
It leaves the group and ends with status 0 when its standard input ends.

What is held in every scenario, from the first join to the deletion of the group: the committed position of no partition ever goes back;
all records are read; a record is read twice only if its first reader was killed.
"""
import json
import os
import re
import signal
import threading
import time
from collections import defaultdict

import wire

SESSION_MS, HEARTBEAT_MS, METADATA_MS = 6000, 500, 1000
# A test broker's settings, so that the scenarios do not wait longer than they must.
BROKER = {"group.initial.rebalance.delay.ms": 300, "group.consumer.session.timeout.ms": SESSION_MS, "group.consumer.min.session.timeout.ms": SESSION_MS,
          "group.consumer.heartbeat.interval.ms": HEARTBEAT_MS, "group.consumer.min.heartbeat.interval.ms": HEARTBEAT_MS}
# What a change may take on a busy machine; a killed member's session is on top.
SETTLE_SECONDS = 40
# How long a static member may be away: a JVM on a busy machine takes its time to start.
STATIC_SECONDS = 40
UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

# Feature: the clients that have it.
CLASSIC = ["java", "franz-go", "confluent-kafka", "sarama", "kafka-python", "aiokafka", "kcat", "kafkajs", "kafka-tools"]
FEATURES = {
    "group": CLASSIC,
    "group-static": ["java", "franz-go", "confluent-kafka", "sarama", "kafka-python", "aiokafka", "kcat", "kafka-tools"],
    "group-coop": ["java", "franz-go", "confluent-kafka", "sarama", "kafka-python", "kcat", "kafka-tools"],
    "group-848": ["java", "franz-go", "confluent-kafka", "kafka-tools"],
    "group-848-static": ["java", "confluent-kafka"],
    "group-regex": ["java", "franz-go", "confluent-kafka", "kafka-tools"],
    "group-moves": ["java", "franz-go", "confluent-kafka", "kafka-tools"],
}
# Clients whose members share one group, with the assignor that all of them have.
MIXED = ["java", "confluent-kafka", "sarama"]
# They commit by themselves and do not wait for that when partitions go one by one: records may be read twice, with Apache Kafka too.
AT_LEAST_ONCE = [("kafka-tools", "group-coop"), ("kcat", "group-coop")]
# Told to stop, kcat drops the record that it holds, and commits it.
DROPS_ONE = ["kcat"]


class Wrong(Exception):
    pass


class Ended(Wrong):
    """A client's process, by itself."""


class Member:
    """One process of a client's program."""

    def __init__(self, scene, program, settings):
        self.client, self.instance, self.protocol = settings["client_id"], settings["instance"], settings["protocol"]
        self.owned, self.history, self.refused, self.killed, self.leaving, self.pid = None, [], [], False, False, None
        self.program = program
        self.process, self.done = program.begin("member", json.dumps(settings))
        self.scene = scene
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            if not line.startswith(b"{"):
                continue
            line = json.loads(line)
            if "owned" in line:
                self.owned = {tuple(one) for one in line["owned"]}
                self.history.append(self.owned)
            elif "read" in line:
                self.scene.note(self, tuple(line["read"]), line["offsets"])
            elif "pid" in line:
                self.pid = line["pid"]
            else:
                self.refused.append(line.get("refused"))

    def kill(self):
        self.killed = True
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.process.wait(10)
        self.done(kill=True)

    def leave(self):
        self.leaving = True
        self.process.stdin.close()
        try:
            code = self.process.wait(30)
        except Exception:
            raise Wrong(f"{self.client} did not end within 30 s of being asked to leave")
        finally:
            self.done(kill=True)
        if code:
            raise Wrong(f"{self.client} ended with status {code}")

    def __str__(self):
        owned = None if self.owned is None else sorted(self.owned)
        ended = self.process.poll()
        return f"{self.client} owns {owned}" + (f", refused {self.refused[-2:]}" if self.refused else "") + (f", ended with {ended}" if ended is not None else "")


class Scene:
    """One group, the topics it reads, and the two who look on: one feeds the topics, one watches the group."""

    def __init__(self, name, bootstrap, programs, protocol="classic", assignor=None, pattern=False, at_least_once=False):
        self.topic, self.group, self.programs = name, name, programs
        self.settings = {"topic": name, "pattern": pattern, "group": name, "protocol": protocol, "assignor": assignor, "session_ms": SESSION_MS, "heartbeat_ms": HEARTBEAT_MS, "metadata_ms": METADATA_MS}
        self.at_least_once, self.bootstrap, self.control = at_least_once, bootstrap, wire.Wire(bootstrap)
        self.members, self.started, self.lost = [], 0, 0
        self.partitions, self.ends, self.feeding = {}, defaultdict(int), threading.Event()
        self.readers, self.twice, self.lock = defaultdict(list), [], threading.Lock()
        self.committed, self.states, self.snapshot, self.wrong, self.over = {}, [], None, [], threading.Event()

    def __enter__(self):
        self.add_topic(self.topic, 4)
        self.feeding.set()
        self.lookers = [threading.Thread(target=self.guarded, args=(work,), daemon=True) for work in (self.feed, self.watch)]
        for looker in self.lookers:
            looker.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for member in self.members:
            member.done(kill=True)
        for looker in self.lookers:
            looker.join(10)
        self.control.close()

    def guarded(self, work):
        connection = wire.Wire(self.bootstrap)
        try:
            while not self.over.wait(0.1):
                work(connection)
        except Exception as error:
            if not self.over.is_set():
                self.wrong.append(f"{work.__name__}: {type(error).__name__}: {error}")
        finally:
            connection.close()

    def add_topic(self, topic, partitions):
        self.control.create(topic, partitions)
        self.partitions[topic] = partitions

    def grow(self, partitions):
        self.control.grow(self.topic, partitions)
        self.partitions[self.topic] = partitions

    def all(self):
        return {(topic, partition) for topic, count in self.partitions.items() for partition in range(count)}

    def feed(self, connection):
        if self.feeding.is_set():
            self.send(connection, 2)

    def send(self, connection, count):
        """A record's value is its topic's name, for readers that tell no more."""
        self.ends.update(connection.produce({at: [at[0].encode()] * count for at in self.all()}))

    def watch(self, connection):
        committed = connection.committed(self.group)
        for at, offset in (committed or {}).items():
            if offset < self.committed.get(at, 0):
                self.wrong.append(f"the committed position of {at} went back from {self.committed[at]} to {offset}")
            self.committed[at] = offset
        try:
            self.snapshot = connection.group(self.group)
        except wire.Refused as refused:
            if refused.code != 69:  # GROUP_ID_NOT_FOUND, before the first member
                raise
        if self.snapshot and self.snapshot[0] not in self.states[-1:]:
            self.states.append(self.snapshot[0])

    def note(self, member, at, offsets):
        with self.lock:
            for offset in offsets:
                readers = self.readers[at, offset]
                if readers and not readers[0].killed and not member.killed:
                    self.twice.append((at, offset, readers[0].client, readers[0].refused[-2:], member.client))
                readers.append(member)

    def join(self, program=0, instance=None, client=None, **settings):
        letter = chr(ord("a") + self.started)
        self.started += 1
        chosen = self.programs[program % len(self.programs)]
        settings = {**self.settings, **settings, "instance": instance, "client_id": client or f"{chosen.name}-{letter}"}
        member = Member(self, chosen, settings)
        self.members.append(member)
        return member

    def leave(self, member):
        member.leave()
        self.members.remove(member)
        self.lost += self.programs[0].name in DROPS_ONE

    def kill(self, member):
        member.kill()
        self.members.remove(member)

    def until(self, what, seconds, attempt, more=lambda: ""):
        started = time.monotonic()
        while True:
            if self.wrong:
                raise Wrong(self.wrong[0])
            if attempt():
                return time.monotonic() - started
            ended = [member for member in self.members if member.process.poll() is not None and not member.leaving]
            if ended or time.monotonic() - started > seconds:
                seen = self.snapshot and (*self.snapshot[:2], [(m["client"], m["id"][-6:], sorted(m["owned"])) for m in self.snapshot[2]])
                why = "a member ended" if ended else f"not within {seconds} s"
                said = "".join(f"; {member.program.name} said: {member.program.complaints()}" for member in ended)
                raise (Ended if ended else Wrong)(f"{what}: {why}; group {seen}; {'; '.join(map(str, self.members))} {more()}{said}"[:3000])
            time.sleep(0.1)

    def settle(self, what, seconds=SETTLE_SECONDS):
        """Waits until every partition has one owner, each member some, and coordinator and members agree; seconds taken."""

        def settled():
            if self.snapshot is None:
                return False
            state, _, found = self.snapshot
            owned = {member["client"]: member["owned"] for member in found}
            parts = [at for member in found for at in member["owned"]]
            return (state == "Stable" and sorted(member["client"] for member in found) == sorted(member.client for member in self.members) and sorted(parts) == sorted(self.all()) and all(owned.values())
                    and all(member.owned is None or member.owned == owned.get(member.client) for member in self.members))

        return self.until(what, seconds, settled)

    def member(self, client):
        """What the coordinator tells of it."""
        return next((member for member in self.snapshot[2] if member["client"] == client), {"id": None, "epoch": None, "owned": None})

    def check_members(self):
        """Names as Kafka's: the host with its slash, and of the classic protocol member ids that begin with the client's or the instance's."""
        for found in self.snapshot[2]:
            member = next((member for member in self.members if member.client == found["client"]), None)
            if member is None:
                raise Wrong(f"a member of client {found['client']} that is none of ours")
            if found["host"] != "/127.0.0.1":
                raise Wrong(f"host {found['host']} of {member.client}")
            if found["instance"] != member.instance:
                raise Wrong(f"instance {found['instance']} of {member.client}")
            if member.protocol == "classic" and not re.fullmatch(f"{re.escape(member.instance or member.client)}-{UUID}", found["id"]):
                raise Wrong(f"member id {found['id']} of {member.client}")

    def drain(self, what="all read and committed"):
        """Stops feeding and waits until all is read and committed."""
        self.feeding.clear()
        time.sleep(0.3)
        self.until(what, SETTLE_SECONDS, lambda: not self.uncommitted(), lambda: (self.uncommitted(), self.unread()))
        self.until("all read", 10, lambda: len(self.unread()) <= self.lost, self.unread)

    def uncommitted(self):
        return [(at, self.committed.get(at), self.ends[at]) for at in sorted(self.all()) if self.committed.get(at) != self.ends[at]]

    def unread(self):
        with self.lock:
            return [(at, offset) for at, end in list(self.ends.items()) for offset in range(end) if (at, offset) not in self.readers]

    def check_twice(self):
        if self.twice and not self.at_least_once:
            raise Wrong(f"{len(self.twice)} records read twice though their first reader lived, as {self.twice[:3]}")

    def check_records(self):
        self.check_twice()
        if len(self.unread()) > self.lost:
            raise Wrong(f"{len(self.unread())} records never read, as {self.unread()[:3]}")

    def end(self):
        """The last members leave; the group is empty, is listed, is deleted and is no more."""
        for member in list(self.members):
            self.leave(member)
            if member.instance:
                self.control.remove(self.group, member.instance)
        self.until("an empty group", 15, lambda: self.snapshot and self.snapshot[0] == "Empty" and not self.snapshot[2])
        if self.group not in self.control.groups():
            raise Wrong("an empty group with offsets is not listed")
        self.over.set()
        for looker in self.lookers:
            looker.join(10)
        self.control.delete_group(self.group)
        if self.group in self.control.groups() or self.control.committed(self.group):
            raise Wrong("a deleted group is listed or has offsets")
        self.check_records()
        self.control.delete(*self.partitions)
        return f"{sum(self.ends.values())} records"


def life(scene):
    """Members come, the topic grows, one leaves, one is killed; a second run goes on where the first stopped."""
    keeps = scene.settings["assignor"] == "cooperative-sticky" or scene.settings["protocol"] == "consumer"
    first = scene.join(0)
    scene.settle("the first member")
    second = scene.join(1)
    scene.settle("the second member")
    third = scene.join(2)
    scene.settle("the third member")
    scene.check_members()
    scene.grow(6)
    scene.settle("6 partitions")
    scene.leave(third)
    scene.settle("a member left", SESSION_MS / 1000 + SETTLE_SECONDS)
    if keeps and any(not owned for owned in first.history[1:] if first.history[0]):
        raise Wrong(f"the first member had to give all away: {first.history}")
    scene.check_twice()
    scene.kill(second)
    took = scene.settle("a killed member's partitions", SESSION_MS / 1000 + SETTLE_SECONDS)
    scene.drain()
    scene.leave(first)
    scene.until("an empty group", 15, lambda: scene.snapshot and scene.snapshot[0] == "Empty")
    scene.feeding.set()
    scene.join(0)
    scene.settle("the second run")
    scene.drain()
    return f"{scene.end()}, taken over {took:.1f} s after a kill"


def static(scene):
    """A static member dies and is back within its session: nobody else notices. Its partitions go to nobody in between."""
    stays, dies = [scene.join(program, instance, session_ms=STATIC_SECONDS * 1000) for program, instance in enumerate(("one", "two"))]
    scene.settle("two static members")
    scene.check_members()
    before, changes = scene.member(dies.client), len(stays.history)
    scene.states.clear()
    scene.kill(dies)
    back = scene.join(1, "two", client=dies.client)
    scene.until("the static member's return", SETTLE_SECONDS, lambda: scene.member(dies.client)["id"] != before["id"])
    scene.settle("the static member's return")
    owned, now = before["owned"], scene.member(dies.client)["owned"]
    if now != owned or scene.states not in ([], ["Stable"]) or any(owned != stays.owned for owned in stays.history[changes:]):
        raise Wrong(f"its return was noticed: {sorted(owned)} became {sorted(now)}, states {scene.states}, the other's changes {stays.history[changes:]}")
    time.sleep(2)  # its first heartbeat brings its own session timeout; until then its predecessor's holds
    scene.kill(back)
    took = scene.settle("a static member that stays away", SESSION_MS / 1000 + SETTLE_SECONDS)
    scene.drain()
    return f"{scene.end()}, taken over {took:.1f} s after it stayed away"


def static_consumer(scene):
    """The same of the consumer protocol, where a static member says that it goes for a while. The group has a session timeout of its own."""
    scene.control.set_of_group(scene.group, "consumer.session.timeout.ms", f"{STATIC_SECONDS * 1000}")
    stays, goes = scene.join(0, "one"), scene.join(1, "two")
    scene.settle("two static members")
    scene.check_members()
    before, changes = scene.member(goes.client), len(stays.history)
    scene.leave(goes)
    scene.until("the absence", SETTLE_SECONDS, lambda: scene.member(goes.client)["epoch"] == -2)
    scene.join(1, "two", client=goes.client)
    scene.until("the static member's return", SETTLE_SECONDS, lambda: (scene.member(goes.client)["epoch"] or 0) > 0)
    scene.settle("the static member's return")
    if scene.member(goes.client)["owned"] != before["owned"] or any(owned != stays.owned for owned in stays.history[changes:]):
        raise Wrong(f"its return was noticed: {before['owned']} became {scene.member(goes.client)['owned']}, the other's changes {stays.history[changes:]}")
    scene.drain()
    return scene.end()


def regex(scene):
    """A topic that matches appears while the members consume."""
    scene.join(0)
    scene.join(1)
    scene.settle("two members")
    scene.add_topic(f"{scene.topic}-more", 2)
    scene.settle("a topic that matches")
    scene.drain()
    return scene.end()


def moves(scene):
    """A live group goes from the classic protocol to the consumer protocol, member by member, and back."""
    kinds = lambda: sorted(member["kind"] for member in scene.snapshot[2])
    members = [scene.join(0), scene.join(0)]
    scene.settle("two classic members")
    for protocol, between in (("consumer", ["classic", "consumer"]), ("classic", ["classic", "consumer"])):
        for turn in range(2):
            scene.leave(members.pop(0))
            members.append(scene.join(0, protocol=protocol))
            scene.settle(f"{turn + 1} of 2 members moved to the {protocol} protocol")
            wanted = between if turn == 0 else [protocol] * 2
            if kinds() != wanted:
                raise Wrong(f"members are {kinds()}, wanted {wanted}")
            scene.check_twice()
    scene.drain()
    return scene.end()


SCENARIOS = {
    "group": (life, {}), "group-static": (static, {}), "group-coop": (life, {"assignor": "cooperative-sticky"}), "group-848": (life, {"protocol": "consumer"}),
    "group-848-static": (static_consumer, {"protocol": "consumer"}), "group-regex": (regex, {"protocol": "consumer", "pattern": True}), "group-moves": (moves, {}), "group-mixed": (life, {"assignor": "range"}),
}


def run(feature, name, bootstrap, programs):
    """(ok, detail, seconds) of one scenario. One in which a client's process ended by itself is played once more, and what it said stays in the table."""
    play, settings = SCENARIOS[feature]
    started, at_least_once, first = time.monotonic(), (programs[0].name, feature) in AT_LEAST_ONCE, ""
    for name in (name, f"{name}-again"):
        try:
            with Scene(name, bootstrap, programs, **settings, at_least_once=at_least_once) as scene:
                outcome = (True, play(scene) + first)
        except Ended as error:
            outcome, first = (False, str(error) + first), f"; at the second try. The first: {error}"
            continue
        except Exception as error:
            outcome = (False, (str(error) if isinstance(error, Wrong) else f"{type(error).__name__}: {error}") + first)
        break
    return (*outcome, round(time.monotonic() - started, 1))
