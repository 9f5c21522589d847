"""A real Kafka broker from Maven's jars, and librdkafka's mock for where Java or Maven is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from cjtasks.dev.servers import LOOPBACK, Launch, free_port, home, listens, run, serving
from cjtasks.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

POM = Path(__file__).parent / "kafka_broker" / "pom.xml"
OLDEST_JAVA = 17
LARGEST_MESSAGE = 16 * 1024 * 1024
# Any value does: the broker only wants the id in its folder to stay the same.
CLUSTER_ID = "Y2p0YXNrcy1kZXYtc3RhY2"
JAVA_OPTIONS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
FIRST_COMPILER = "-XX:TieredStopAtLevel=1"
"""With it alone a broker is up in seconds, but a message costs it twice as much for ever."""


def broker_available() -> str | None:
    """Return None if a real broker can be started here, else the reason why not."""
    java = shutil.which("java")
    if java is None:
        return f"Kafka needs Java {OLDEST_JAVA} or newer, and there is no java on the PATH"
    version = _java_version(java)
    if version < OLDEST_JAVA:
        return f"Kafka needs Java {OLDEST_JAVA} or newer, and {java} is version {version}"
    if shutil.which("mvn") is None and not _jars().is_dir():
        return "Kafka's jars come through Maven, and there is no mvn on the PATH"
    return None


def _java_version(java: str) -> int:
    """Return the major version; 0 if the program does not say, 1 for the old counting (1.8)."""
    command = [java, "-version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  Constant.
    found = re.search(r'version "(\d+)', answer.stderr)
    return int(found.group(1)) if found else 0


@contextmanager
def kafka(folder: Path, *, for_long: bool = False) -> Iterator[str]:
    """Run a one-node broker on the data in `folder` (made if need be) and yield its bootstrap servers.

    `for_long` makes it slower to start and then quicker. No topic appears by itself. Raises Misconfigured if Java or
    Maven is missing or the broker does not start.
    """
    reason = broker_available()
    if reason is not None:
        raise Misconfigured.of(reason, operation="start_kafka")
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    properties = _write_properties(folder, port)
    compilers = () if for_long else (FIRST_COMPILER,)
    java = ("java", *JAVA_OPTIONS, *compilers, "-cp", f"{_fetched_jars()}/*")
    _format(java, folder, properties)
    launch = Launch("kafka", (*java, "kafka.Kafka", str(properties)))
    servers = f"{LOOPBACK}:{port}"
    with serving(launch, folder / "kafka.log", partial(_answers, servers, port)):
        yield servers


def _write_properties(folder: Path, port: int) -> Path:
    controller = f"{LOOPBACK}:{free_port()}"
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": folder / "data",
        "auto.create.topics.enable": "false",
        "message.max.bytes": LARGEST_MESSAGE,
        "replica.fetch.max.bytes": LARGEST_MESSAGE,
        # There is one node to hold each copy, and few partitions are quick to make.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 3,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 3,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 3,
        # A test's only consumer need not wait for company.
        "group.initial.rebalance.delay.ms": 0,
    }
    properties = folder / "server.properties"
    properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return properties


def _format(java: tuple[str, ...], folder: Path, properties: Path) -> None:
    """Prepare the data folder once; the file that is checked is the last that formatting writes."""
    if (folder / "data" / "meta.properties").exists():
        return
    tool = (*java, "kafka.tools.StorageTool", "format", "--ignore-formatted")
    command = (*tool, "--cluster-id", CLUSTER_ID, "--config", str(properties))
    run(Launch("kafka-storage", command), folder / "format.log")


def _jars() -> Path:
    (version,) = re.findall(r"<kafka\.version>(.+)</kafka\.version>", POM.read_text(encoding="utf-8"))
    return home() / f"kafka-{version}"


def _fetched_jars() -> Path:
    """Return the folder of jars, fetched through Maven the first time; it appears whole or not at all."""
    jars = _jars()
    if jars.is_dir():
        return jars
    jars.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{jars.name}.", dir=jars.parent) as draft:
        _fetch(Path(draft) / "jars")
        try:
            (Path(draft) / "jars").rename(jars)
        except OSError:
            # Another process was first, and its jars are the same.
            if not jars.is_dir():
                raise
    return jars


def _fetch(folder: Path) -> None:
    goal = ("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}")
    run(Launch("maven", ("mvn", "-q", "-B", "-f", str(POM), *goal)), home() / "maven.log")


def _answers(servers: str, port: int) -> bool:
    """Ask with a fresh client each time: one that was refused waits longer before each new try."""
    if not listens(port):
        return False
    client = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    try:
        return bool(client.list_topics(timeout=1).brokers)
    except KafkaException:
        return False


@contextmanager
def mock_kafka() -> Iterator[str]:
    """Yield the bootstrap servers of an in-process mock cluster: for demonstrations, never for a proof.

    It keeps nothing once the block ends, makes topics on first use and cannot create them on request.
    """
    keeper = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    brokers = keeper.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    # The cluster lives as long as its client, so the client must outlive the block.
    keeper.flush(0)
