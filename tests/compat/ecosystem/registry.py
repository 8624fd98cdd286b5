"""A schema registry that speaks Confluent's REST interface and keeps its schemas in a topic: Apicurio, whole on Maven Central.

Where COMPAT_KARAPACE names a checkout of Karapace 3.16.0, which no package registry carries, it is Karapace on its compacted topic.
Confluent's own is on no public registry either.
"""
import json
import os
import signal
import sys
import tarfile

from . import http, same, within

APICURIO, KARAPACE = "3.0.9", "3.16.0"
KIND = "application/vnd.schemaregistry.v1+json"


def record(*fields):
    return json.dumps({"type": "record", "name": "Order", "fields": [{"name": name, "type": kind, **default} for name, kind, default in fields]})


FIRST = record(("id", "long", {}))
SECOND = record(("id", "long", {}), ("note", "string", {"default": ""}))
BREAKING = record(("id", "long", {}), ("must", "string", {}))


def row(site):
    """Schemas are registered, evolve, and refuse to break; all of it is still there after kill -9; two registries on one topic know the same."""
    checkout, topic = os.environ.get("COMPAT_KARAPACE"), f"{site.prefix}-schemas"
    name, start = (f"Karapace {KARAPACE}", karapace(site, checkout, topic)) if checkout else (f"Apicurio {APICURIO}", apicurio(site, topic))

    def running(process, port, path):
        base = f"http://127.0.0.1:{port}{path}"
        within(60, "a registry knowing its subjects", lambda: process.poll() is not None or isinstance(http(f"{base}/subjects"), list), pause=0.2)
        same(process.poll(), None, "the end of the registry")
        return process, base

    process, base = running(*start("one"))
    register = lambda schema, at=None: http(f"{at or base}/subjects/orders-value/versions", {"schema": schema}, "POST", KIND)["id"]
    first = within(30, "a registry that may write", lambda: register(FIRST))
    http(f"{base}/config/orders-value", {"compatibility": "BACKWARD"}, "PUT", KIND)
    second = register(SECOND)
    same((register(FIRST), register(SECOND)), (first, second), "ids of schemas that are there already")
    refused = ""
    try:
        register(BREAKING)
    except OSError as error:
        refused = str(error)
    same(": 409 " in refused, True, f"a schema that breaks its readers: {refused}")
    http(f"{base}/config/orders-value", {"compatibility": "NONE"}, "PUT", KIND)
    third = register(BREAKING)
    for i in range(40):
        http(f"{base}/subjects/many-{i}/versions", {"schema": record((f"f{i}", "int", {}))}, "POST", KIND)
    http(f"{base}/subjects/many-0", method="DELETE")
    configs = next(line for line in site.ask("topics", topic))
    same((configs["configs"].get("cleanup.policy"), configs["partitions"]), ("compact" if checkout else None, 1), "the topic of the registry")

    def whole(at):
        same(sorted(http(f"{at}/subjects")), sorted(["orders-value", *[f"many-{i}" for i in range(1, 40)]]), "subjects")
        same(http(f"{at}/subjects/orders-value/versions"), [1, 2, 3], "versions")
        same([json.loads(http(f"{at}/schemas/ids/{each}")["schema"]) for each in (first, second, third)], [json.loads(each) for each in (FIRST, SECOND, BREAKING)], "schemas by their ids")
        same(http(f"{at}/config/orders-value")["compatibilityLevel"], "NONE", "compatibility of the subject")
        return True

    site.stop(process, signal.SIGKILL)
    again, beside = start("one"), start("two")
    process, base = running(*again)
    within(30, "everything after kill -9", lambda: whole(base))
    _, other = running(*beside)
    within(30, "everything in a second registry", lambda: whole(other))
    fourth = within(30, "a schema registered through either", lambda: register(record(("other", "long", {})), other))
    within(20, "it in the first", lambda: json.loads(http(f"{base}/schemas/ids/{fourth}")["schema"])["fields"][0]["name"] == "other")
    return f"{name}: 43 schemas there after kill -9, two registries agree"


def apicurio(site, topic):
    """How to start one of that name: its process, its port, where Confluent's interface begins."""
    def make(directory):
        site.runner.install(["mvn", "-q", "-B", "dependency:copy", f"-Dartifact=io.apicurio:apicurio-registry-app:{APICURIO}:tar.gz:all", f"-DoutputDirectory={directory}"])
        archive = os.path.join(directory, f"apicurio-registry-app-{APICURIO}-all.tar.gz")
        with tarfile.open(archive) as whole:
            whole.extractall(directory)
        os.remove(archive)

    directory, ports = site.runner.cached("apicurio", ["ecosystem/registry.py"], make), {}

    def start(name):
        port = ports.setdefault(name, site.runner.free_port())
        process = site.start(name, ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-jar", f"{directory}/apicurio-registry-app-{APICURIO}-runner.jar"], **{
            "APICURIO_STORAGE_KIND": "kafkasql", "APICURIO_KAFKASQL_BOOTSTRAP_SERVERS": site.bootstrap, "APICURIO_KAFKASQL_TOPIC": topic, "APICURIO_KAFKASQL_SNAPSHOTS_TOPIC": f"{topic}-snapshots",
            "APICURIO_EVENTS_KAFKA_TOPIC": f"{topic}-events", "QUARKUS_HTTP_HOST": "127.0.0.1", "QUARKUS_HTTP_PORT": str(port)})
        return process, port, "/apis/ccompat/v7"

    return start


def karapace(site, checkout, topic):
    def make(directory):
        site.runner.install([sys.executable, "-m", "venv", directory])
        site.runner.install([f"{directory}/bin/pip", "install", "-q", "--disable-pip-version-check", "-r", "ecosystem/requirements.txt"])

    venv, ports = site.runner.cached("venv-registry", ["ecosystem/requirements.txt"], make), {}
    site.runner.shutil.copytree(os.path.join(checkout, "karapace"), site.path("karapace"))
    site.file("karapace/version.py", f'__version__ = "{KARAPACE}"\n')

    def start(name):
        port = ports.setdefault(name, site.runner.free_port())
        config = site.file(f"{name}.json", json.dumps({
            "bootstrap_uri": site.bootstrap, "host": "127.0.0.1", "port": port, "karapace_registry": True, "topic_name": topic, "replication_factor": 1, "group_id": f"{site.prefix}-registries",
            "advertised_hostname": "127.0.0.1", "advertised_port": port, "log_level": "INFO", "session_timeout_ms": 6000}))
        return site.start(name, [f"{venv}/bin/python", "-m", "karapace.karapace_all", config], PYTHONPATH=site.directory), port, ""

    return start
