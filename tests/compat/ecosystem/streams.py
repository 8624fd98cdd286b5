"""Kafka Streams: a word count of two instances, its repartition topic purged, its state restored from the changelogs."""
import collections
import re
import signal

from . import same, within

PARTITIONS = 4


def truth(lines, count):
    """What each word's count and set of lines (as Java prints a BitSet) must be after the first `count` lines."""
    counts, sets = collections.Counter(), collections.defaultdict(int)
    for number in range(count):
        for word in filter(None, re.split("[^A-Za-z]+", lines[number % len(lines)])):
            counts[word] += 1
            sets[word] |= 1 << number
    return counts, {word: bits.to_bytes((bits.bit_length() + 7) // 8, "little").hex() for word, bits in sets.items()}


def row(site):
    """The first half of the lines is counted exactly. Then one instance is killed while the second half flows, its state is
    deleted, and it starts again: every word's set of lines is exact, no count is below the true one (at least once)."""
    lines, application, source = site.lines(), f"{site.prefix}-words", f"{site.prefix}-text"
    half, whole = 600, 1200
    site.ask("create", source, PARTITIONS)

    def instance(name):
        state = site.path(f"state-{name}")
        return site.start(name, site.java("Ecosystem", "streams", application, source, state, f"127.0.0.1:{1 if name == 'one' else 2}"), MALLOC_ARENA_MAX="2")

    def running(name):
        return any(line.get("state") == "RUNNING" for line in site.said(name))

    for output in ("counts", "lines"):
        site.ask("create", f"{application}-out-{output}", 1)
    one, two = instance("one"), instance("two")
    within(60, "two running instances", lambda: running("one") and running("two"))
    within(60, "each of them knowing of both", lambda: all(any(len(line.get("hosts", ())) == 2 for line in site.said(name)) for name in ("one", "two")))
    site.ask("produce", source, site.runner.LINES, 0, half, 0)
    counts, sets = truth(lines, half)
    numbers = lambda table: {word: int(value) for word, value in table.items()}
    within(60, "the lines of the first half", lambda: site.table(f"{application}-out-lines") == sets)
    within(20, "the counts of the first half", lambda: numbers(site.table(f"{application}-out-counts")) == counts)

    site.start("producer", site.java("Ecosystem", "produce", source, site.runner.LINES, str(half), str(whole), "150"))
    within(20, "a word of the second half", lambda: site.table(f"{application}-out-lines") != sets)
    site.stop(two, signal.SIGKILL)
    site.runner.shutil.rmtree(site.path("state-two"))
    two = instance("two-again")
    counts, sets = truth(lines, whole)
    within(90, "the lines of both halves", lambda: site.table(f"{application}-out-lines") == sets)
    found = within(20, "the counts of both halves", lambda: (lambda table: table if all(table[word] >= count for word, count in counts.items()) else None)(numbers(site.table(f"{application}-out-counts"))))
    same(sorted(found), sorted(counts), "words")
    restored = within(60, "state restored by the instance that lost its own", lambda: sum(line.get("restored", 0) for line in site.said("two-again")))
    topics = within(30, "a repartition topic without the records that were counted", lambda: purged(site, application))
    for name, topic in topics.items():
        policy = topic["configs"].get("cleanup.policy")
        wanted = {"words-repartition": ("delete",), "counts-changelog": ("compact",), "lines-changelog": ("compact",), "windowed-changelog": ("compact,delete", "delete,compact")}[name]
        same((policy in wanted, topic["partitions"]), (True, PARTITIONS), f"cleanup.policy {policy} and partitions of {name}")
    for process in (one, two):
        site.stop(process)
        same(process.returncode, 143, "exit status after SIGTERM")
    changelog = site.table(f"{application}-lines-changelog")
    same(len(changelog), len(sets), "words of the changelog")
    reset(site, application, source)
    twice = sum(found.values()) - sum(counts.values())
    return f"{site.version}: {len(counts)} words of {whole} lines, {restored} records restored, {twice} counted again after kill -9, repartition topic purged, application reset"


def purged(site, application):
    topics = {line["topic"][len(application) + 1:]: line for line in site.ask("topics", application + "-") if "-out-" not in line["topic"]}
    repartition = topics["words-repartition"]
    return topics if sum(repartition["latest"]) > 0 and repartition["earliest"] == repartition["latest"] else None


def reset(site, application, source):
    """Kafka's reset tool takes away the internal topics and sets the input's offsets back."""
    command = ["java", "-Xmx256m", "-cp", site.runner.jars("kafka-tools") + "/*", "org.apache.kafka.tools.StreamsResetter"]
    done = site.runner.subprocess.run([*command, "--bootstrap-server", site.bootstrap, "--application-id", application, "--input-topics", source, "--force"], capture_output=True, timeout=60)
    same(done.returncode, 0, f"the reset tool: {(done.stdout + done.stderr).decode(errors='replace')[-400:]}")
    same([line["topic"] for line in site.ask("topics", application + "-") if "-out-" not in line["topic"]], [], "internal topics after the reset")
    same(sum(site.ask("committed", application)[0]["committed"].values()), 0, "offsets after the reset")
