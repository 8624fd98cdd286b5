"""Karapace, a schema registry that speaks Confluent's REST interface, on its compacted topic.

No package registry carries one whose parts can all be had (Karapace, Confluent's, Apicurio on Kafka were looked for in vain), so this
runs where COMPAT_KARAPACE names a checkout of Karapace 3.16.0.
"""
import json
import os
import signal
import sys

from . import http, same, within

VERSION = "3.16.0"
KIND = "application/vnd.schemaregistry.v1+json"


def record(*fields):
    return json.dumps({"type": "record", "name": "Order", "fields": [{"name": name, "type": kind, **default} for name, kind, default in fields]})


FIRST = record(("id", "long", {}))
SECOND = record(("id", "long", {}), ("note", "string", {"default": ""}))
BREAKING = record(("id", "long", {}), ("must", "string", {}))


def row(site):
    """Schemas are registered, evolve, and refuse to break; all of it is still there after kill -9 and after a restart; two registries agree on who writes."""
    checkout = os.environ.get("COMPAT_KARAPACE")
    if not checkout:
        raise site.runner.NotInstalled(f"no schema registry is on a package registry; COMPAT_KARAPACE=a checkout of Karapace {VERSION}")

    def make(directory):
        site.runner.install([sys.executable, "-m", "venv", directory])
        site.runner.install([f"{directory}/bin/pip", "install", "-q", "--disable-pip-version-check", "-r", "ecosystem/requirements.txt"])

    venv, topic = site.runner.cached("venv-registry", ["ecosystem/requirements.txt"], make), f"{site.prefix}-schemas"
    site.runner.shutil.copytree(os.path.join(checkout, "karapace"), site.path("karapace"))
    site.file("karapace/version.py", f'__version__ = "{VERSION}"\n')

    def registry(name, port):
        config = site.file(f"{name}.json", json.dumps({
            "bootstrap_uri": site.bootstrap, "host": "127.0.0.1", "port": port, "karapace_registry": True, "topic_name": topic, "replication_factor": 1, "group_id": f"{site.prefix}-registries",
            "advertised_hostname": "127.0.0.1", "advertised_port": port, "log_level": "INFO", "session_timeout_ms": 6000}))
        process = site.start(name, [f"{venv}/bin/python", "-m", "karapace.karapace_all", config], PYTHONPATH=site.directory)
        within(60, f"{name} knowing its subjects", lambda: isinstance(http(f"http://127.0.0.1:{port}/subjects"), list))
        return process, f"http://127.0.0.1:{port}"

    ports = [site.runner.free_port() for _ in range(2)]
    process, base = registry("one", ports[0])
    register = lambda schema, at=None: http(f"{at or base}/subjects/orders-value/versions", {"schema": schema}, "POST", KIND)["id"]
    first = within(30, "a registry that may write", lambda: register(FIRST))
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
    same((configs["configs"].get("cleanup.policy"), configs["partitions"]), ("compact", 1), "the topic of the registry")

    def whole(at):
        same(sorted(http(f"{at}/subjects")), sorted(["orders-value", *[f"many-{i}" for i in range(1, 40)]]), "subjects")
        same(http(f"{at}/subjects/orders-value/versions"), [1, 2, 3], "versions")
        same([json.loads(http(f"{at}/schemas/ids/{each}")["schema"]) for each in (first, second, third)], [json.loads(each) for each in (FIRST, SECOND, BREAKING)], "schemas by their ids")
        same(http(f"{at}/config/orders-value")["compatibilityLevel"], "NONE", "compatibility of the subject")
        return True

    for number in (signal.SIGKILL, signal.SIGTERM):
        site.stop(process, number)
        process, base = registry("one", ports[0])
        within(30, "everything after a restart", lambda: whole(base))
    _, other = registry("two", ports[1])
    within(30, "everything in a second registry", lambda: whole(other))
    fourth = within(30, "a schema registered through either", lambda: register(record(("other", "long", {})), other))
    within(20, "it in the first", lambda: json.loads(http(f"{base}/schemas/ids/{fourth}")["schema"])["fields"][0]["name"] == "other")
    return f"Karapace {VERSION}: 43 schemas there after kill -9 and restart, two registries agree"
