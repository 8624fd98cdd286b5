"""What the programs beside it share: a broker of ours on one core, gannet load on another, and what the kernel says of both."""
import ctypes
import importlib.machinery
import importlib.util
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "tests", "compat"))
from plain_wire import Wire


def program(name, *path):
    loader = importlib.machinery.SourceFileLoader(name, os.path.join(ROOT, *path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    sys.modules[name] = module
    loader.exec_module(module)
    return module


versus = program("versus", "benches", "versus", "run")
compat = versus.compat
# What comes as one record in an ordinary run, in the order of the load's JSON.
PERCENTILES = ("p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99")


def prepare(name, binary):
    """Before the first broker: everything is kept below target/NAME and ends when this ends."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    compat.STARTED, compat.STARTED_HERE = time.monotonic(), []
    compat.CACHE = versus.WORK = os.path.join(ROOT, "target", name)
    os.makedirs(compat.CACHE, exist_ok=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if not binary:
        compat.say("building gannet")
        subprocess.run(["cargo", "build", "--release", "--bin", "gannet"], cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
    compat.BINARY = os.path.abspath(binary or os.path.join(ROOT, "target", "release", "gannet"))
    return compat.CACHE


def end_all():
    for process in list(compat.STARTED_HERE):
        compat.end(process)
        process.wait()


def room_or_exit(need):
    free = shutil.disk_usage(compat.CACHE).free
    if free < need:
        sys.exit(f"{compat.CACHE} has {free / 1e9:.0f} GB free, this needs {need / 1e9:.0f}: free some, or ask for less (--help)")


class Broker(compat.Gannet):
    """On its own core, as it comes but for what is given."""

    def __init__(self, core, **settings):
        self.own = {"gannet_cores": f"{core},", **settings}
        super().__init__()

    def settings(self, **settings):
        path = os.path.join(self.directory, "server.properties")
        with open(path, "w") as file:
            file.writelines(f"{key.replace('_', '.')}={value}\n" for key, value in {**settings, **self.own}.items())
        return path

    def used(self):
        """What it has used since its start, and what it holds now."""
        pid = self.process.pid
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.split(":", 1) for line in file.read().splitlines() if ":" in line)
        peak, threads = int(status["VmHWM"].split()[0]) * 1024, int(status["Threads"])
        return {**versus.usage(pid), "peak_rss_bytes": peak, "threads": threads, "files": len(os.listdir(f"/proc/{pid}/fd"))}

    def commit_method(self):
        """As it said at its last start."""
        with open(self.log) as file:
            return [line.split(None, 1)[1].strip() for line in file if line.startswith("  commit ")][-1]

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as file:
            file.write("5")

    def cold(self):
        """After a stop: none of its files is in memory."""
        os.sync()
        for directory, _, names in os.walk(self.log_dir):
            for name in names:
                descriptor = os.open(os.path.join(directory, name), os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)

    def end(self):
        complaint = self.stop()
        shutil.rmtree(self.log_dir, ignore_errors=True)
        # A file system may tell its device of what was freed for a while, and that is not the next one's.
        os.sync()
        time.sleep(3)
        return complaint


def load_command(broker, core, *arguments):
    return ["taskset", "-c", str(core), compat.BINARY, "load", "--bootstrap-server", broker.bootstrap, "--threads", "1", *arguments]


def load(broker, core, *arguments, seconds=300):
    """One run of gannet load, as its JSON has it."""
    path = os.path.join(compat.CACHE, "load.json")
    command = load_command(broker, core, "--quiet", "--json", path, *arguments)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds)
    if done.returncode not in (0, 4):
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}")
    with open(path) as file:
        return json.load(file)


def percentile(run, name, of="end_to_end"):
    """Milliseconds, from the intended moment."""
    return run[of]["percentiles_us"][PERCENTILES.index(name)] / 1000


def fill(broker, core, topic, mib, partitions, *configs, arguments=("--record-size", "10k"), rate_mib=200):
    """So many MiB for somebody to read or to clean."""
    record = 10 if "10k" in arguments else 1
    settings = [f"--topic-config={setting}" for setting in configs]
    return load(broker, core, "--topic", topic, "--create", "--partitions", str(partitions), *settings, "--consumers", "0", "--warm-up", "0s", *arguments,
                "--rate", str(rate_mib * 1024 // record), "--duration", f"{max(mib // rate_mib, 1)}s", "--producer-prop", "linger.ms=5", "--producer-prop", "batch.size=256k")


PRCTL, PR_SET_PDEATHSIG = ctypes.CDLL(None).prctl, 1
GUESTS = (sys.executable, os.path.join(ROOT, "benches", "company", "guests.py"))


def idle(core, *command, policy=os.SCHED_IDLE):
    """Starts what takes of this core only what is left, and ends with this program however that ends."""
    def place():
        PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.sched_setaffinity(0, [core])
        os.sched_setscheduler(0, policy, os.sched_param(0))

    with open(os.path.join(compat.CACHE, "company.log"), "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, preexec_fn=place, start_new_session=True)
    compat.STARTED_HERE.append(process)
    return process


def guest(core, *arguments):
    return idle(core, *GUESTS, *map(str, arguments))


def ended(process):
    """Asks a guest to end; what it says it did."""
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    compat.STARTED_HERE.remove(process)
    if process.returncode:
        sys.exit(f"{process.args} ended with status {process.returncode}, see {compat.CACHE}/company.log")
    return json.loads(said)
