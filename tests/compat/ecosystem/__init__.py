"""What others built on Kafka, unmodified: one row each, which proves something from end to end (its docstring tells what).

`tests/compat/run` calls run() with the broker under test. Everything a row starts ends with the row; all it writes is below target/compat.
"""
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
TOOL_JVM = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]

# How much longer than on a machine at rest something may take before it counts as not happening.
PATIENCE = 3


class Site:
    """Where a row works: a broker, a directory of its own, and what it has started."""

    def __init__(self, runner, broker, row):
        self.runner, self.broker, self.row, self.processes = runner, broker, row, []
        self.bootstrap, self.prefix = broker.bootstrap, f"{runner.PREFIX}-{row}"
        self.directory = os.path.join(runner.CACHE, f"ecosystem-{row}")
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory)
        if not shutil.which("java"):
            raise runner.NotInstalled("no java on this machine")
        self.jars = runner.jars("ecosystem")
        self.classes = runner.cached("ecosystem-classes", ["ecosystem/pom.xml", "ecosystem/Ecosystem.java", "ecosystem/__init__.py"], self.compile)
        self.version = next(name[len("kafka-clients-"):-len(".jar")] for name in os.listdir(self.jars) if name.startswith("kafka-clients-"))

    def compile(self, directory):
        self.runner.install(["javac", "-nowarn", "-cp", self.jars + "/*", "-d", f"{directory}/classes", f"{HERE}/Ecosystem.java"])
        self.runner.install(["jar", "--create", "--file", f"{directory}/ecosystem.jar", "-C", f"{directory}/classes", "."])
        # Its start is paid a hundred times: an archive of loaded classes halves it.
        self.runner.install(["java", f"-XX:ArchiveClassesAtExit={directory}/ask.jsa", *TOOL_JVM, "-cp", f"{directory}/ecosystem.jar:{self.jars}/*", "Ecosystem", "load"], COMPAT_BOOTSTRAP="127.0.0.1:9")

    def path(self, name):
        return os.path.join(self.directory, name)

    def file(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    def properties(self, name, pairs):
        return self.file(name, "".join(f"{key}={value}\n" for key, value in pairs.items()))

    def java(self, *arguments, options=()):
        return ["java", "-Xmx512m", *(options or TOOL_JVM), "-cp", f"{self.classes}/ecosystem.jar:{self.jars}/*", *arguments]

    def start(self, name, command, **environment):
        """A process in the background; what it prints goes to a file of its name."""
        with open(self.path(name + ".out"), "ab") as out, open(self.path(name + ".err"), "ab") as err:
            process = subprocess.Popen(command, cwd=self.directory, env={**os.environ, "COMPAT_BOOTSTRAP": self.bootstrap, **environment}, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        self.processes.append(process)
        self.runner.STARTED_HERE.append(process)
        return process

    def stop(self, process, number=signal.SIGTERM, seconds=30):
        if process.poll() is None:
            os.kill(process.pid, number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.runner.end(process)
            process.wait()
        self.processes.remove(process)
        self.runner.STARTED_HERE.remove(process)

    def close(self):
        for process in list(self.processes):
            self.stop(process, signal.SIGKILL)

    def said(self, name):
        """The JSON lines that a process has printed so far."""
        with open(self.path(name + ".out")) as file:
            return [json.loads(line) for line in file if line.startswith("{") and line.endswith("}\n")]

    def ask(self, *arguments, bootstrap=None, seconds=180):
        """A command of Ecosystem.java; its JSON lines."""
        environment = {**os.environ, "COMPAT_BOOTSTRAP": bootstrap or self.bootstrap}
        command = self.java("Ecosystem", *map(str, arguments), options=[f"-XX:SharedArchiveFile={self.classes}/ask.jsa", *TOOL_JVM])
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
        if done.returncode:
            raise AssertionError(f"{' '.join(map(str, arguments))}: {done.stderr.decode(errors='replace').strip()[-400:]}")
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]

    def go_program(self, name, module, version):
        """A program published as a Go module; or from COMPAT_<NAME>, a checkout of it, where the module proxy does not have it."""
        checkout = os.environ.get(f"COMPAT_{name.upper()}")
        binary = os.path.basename(module.removesuffix("/v2"))
        if checkout:
            os.makedirs(os.path.join(self.runner.CACHE, name), exist_ok=True)
            binary = os.path.join(self.runner.CACHE, name, binary)
            self.runner.install(["go", "build", "-o", binary, "."], checkout)
            return binary
        with open(self.path("go-module"), "w") as file:
            file.write(f"{module}@{version}")
        try:
            directory = self.runner.cached(name, [self.path("go-module")], lambda directory: self.runner.install(["go", "install", f"{module}@{version}"], GOBIN=directory, GOFLAGS="-mod=mod"))
        except self.runner.NotInstalled as reason:
            raise self.runner.NotInstalled(f"{reason}; COMPAT_{name.upper()}=a checkout of {module} {version} is used instead")
        return os.path.join(directory, binary)

    def lagging_group(self, records, taken):
        """A topic of so many records, and a group that has read some of them: (topic, group, committed)."""
        topic, group = f"{self.prefix}-topic", f"{self.prefix}-group"
        self.ask("create", topic, 3)
        self.ask("produce", topic, self.runner.LINES, 0, records, 0)
        return topic, group, self.ask("consume", group, topic, taken)[0]["taken"]

    def table(self, topic):
        return self.ask("table", topic)[0]["table"]

    def lines(self):
        with open(self.runner.LINES) as file:
            return file.read().split("\n")


def same(found, wanted, what):
    if found != wanted:
        raise AssertionError(f"{what}: {str(found)[:300]}, not {str(wanted)[:300]}")


def within(seconds, what, look, pause=0.5):
    """The first true answer of `look`, which may also fail until then."""
    until, last = time.monotonic() + seconds * PATIENCE, None
    while time.monotonic() < until:
        try:
            last = look()
            if last:
                return last
        except (AssertionError, OSError, KeyError, ValueError, StopIteration) as wrong:
            last = wrong
        time.sleep(pause)
    raise AssertionError(f"{what} not within {seconds * PATIENCE} s; last {str(last)[:300]}")


def http(url, body=None, method=None, kind="application/json"):
    """The JSON (else the text) that a server answers."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": kind, "Accept": "*/*"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            text = response.read().decode()
    except urllib.error.HTTPError as refused:
        raise OSError(f"{method or 'GET'} {url}: {refused.code} {refused.read().decode(errors='replace')[:300]}")
    try:
        return json.loads(text)
    except ValueError:
        return text


def rows():
    from . import burrow, connect, exporter, mirror, registry, streams

    return {"streams": streams.row, "connect": connect.row, "mirror": mirror.row, "burrow": burrow.row, "exporter": exporter.row, "registry": registry.row}


NAMES = ("streams", "connect", "mirror", "burrow", "exporter", "registry")


def run(runner, results, wanted):
    """Every wanted row against the broker that `runner` has running."""
    for name, row in rows().items():
        if name not in wanted:
            continue
        site, started = None, time.monotonic()
        try:
            site = Site(runner, runner.BROKER, name)
            detail, ok = row(site), True
        except runner.NotInstalled as reason:
            detail, ok = str(reason), None
        except Exception as wrong:
            detail, ok = f"{type(wrong).__name__}: {wrong}"[:600] + (f" (see {os.path.relpath(site.directory, runner.ROOT)})" if site else ""), False
        finally:
            if site:
                site.close()
        if runner.BROKER.has_ended():
            detail, ok = f"the broker ended: {runner.BROKER.stop()}; {detail}", False
            runner.BROKER.start()
        results.note_broker(name, ok, f"{detail} ({time.monotonic() - started:.0f} s)")
