"""Kafka in KRaft mode: one broker, or three that each are a controller too."""

import asyncio
import base64
import hashlib
import logging
import shutil
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from lab.errors import NotReadyError
from lab.jvm import LOG4J_2, SHORT_LIVED, JvmService
from lab.process import Server
from lab.service import Room, accepts, run_apart

CLUSTER_ID = "cmVjb3VudC1sYWItMDAwMQ"
HEAP_MB = 768
PROBE_SECONDS = 5.0
MAX_MESSAGE_BYTES = 12 * 1024 * 1024


class Kafka(JvmService):
    """A Kafka cluster; `brokers[i]` has node id i + 1.

    With `fronts`, each broker has a second listener at `behind[i]`, and who comes in there is told that the cluster
    is at these ports: for somebody who stands between clients and brokers.
    """

    name: ClassVar[str] = "kafka"

    def __init__(
        self, room: Room, brokers: int = 1, config: Mapping[str, str] | None = None, fronts: Sequence[int] = ()
    ) -> None:
        super().__init__(room)
        if brokers not in {1, 3}:
            raise ValueError(f"brokers must be 1 or 3, not {brokers}")
        if len(fronts) not in {0, brokers}:
            raise ValueError(f"{len(fronts)} fronts for {brokers} broker(s)")
        self.broker_count = brokers
        self.behind: list[int] = []
        self._config = dict(config or {})
        self._fronts = tuple(fronts)
        self._ports: list[int] = []

    @property
    def brokers(self) -> tuple[Server, ...]:
        return self.servers

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self._ports)

    @property
    def address(self) -> str:
        return self.bootstrap_servers

    def _set_up(self, folder: Path) -> tuple[Server, ...]:
        log4j = folder / "log4j2.properties"
        log4j.write_text(LOG4J_2)
        template = self._formatted()
        self._ports = [self.room.ports.take() for _ in range(self.broker_count)]
        self.behind = [self.room.ports.take() for _ in self._fronts]
        controllers = [self.room.ports.take() for _ in range(self.broker_count)]
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(controllers, 1))
        heap = f"-Xmx{HEAP_MB if self.broker_count == 1 else HEAP_MB // 2}m"
        servers = []
        for node, (port, controller) in enumerate(zip(self._ports, controllers, strict=True), 1):
            disk = folder / f"broker-{node}"
            _copy_disk(template, disk, node)
            properties = folder / f"broker-{node}.properties"
            own = self._node_config(node, port, controller, voters, disk)
            if self._fronts:
                own = _with_front(own, self.behind[node - 1], self._fronts[node - 1])
            _write(properties, own | self._config)
            options = (heap, "-XX:+UseG1GC", f"-Dlog4j2.configurationFile={log4j}", *self.archive_options("kafka"))
            argv = [*self.java(*options), "kafka.Kafka", str(properties)]
            probe = partial(probe_broker, f"127.0.0.1:{port}", node)
            servers.append(self.room.server(f"kafka-{node}", argv, folder, probe))
        return tuple(servers)

    def _formatted(self) -> Path:
        # Formatting is a JVM of its own, as long as the broker's start; its result is the same each time.
        # The cluster-wide settings go into it, so the number of brokers is part of the key.
        settings = self._cluster_config() | self._config
        key = hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:12]

        def make(disk: Path) -> None:
            properties = disk.with_suffix(".properties")
            own = self._node_config(1, 9092, 9093, "1@127.0.0.1:9093", disk)
            _write(properties, own | self._config)
            argv = self.java(*SHORT_LIVED)
            format_disk = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)]
            self.run_tool([*argv, *format_disk], self.room.data)
            properties.unlink()

        return self.template(f"{self.broker_count}-{key}", make)

    def _node_config(self, node: int, port: int, controller: int, voters: str, disk: Path) -> dict[str, str]:
        return self._cluster_config() | {
            "process.roles": "broker,controller",
            "node.id": str(node),
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": voters,
            "log.dirs": str(disk),
        }

    def _cluster_config(self) -> dict[str, str]:
        replicas = str(self.broker_count)
        in_sync = str(1 + self.broker_count // 2)
        return {
            "auto.create.topics.enable": "false",
            "default.replication.factor": replicas,
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": replicas,
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            # Records of 10 MB pass.
            "message.max.bytes": str(MAX_MESSAGE_BYTES),
            "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
            # Failures are noticed within seconds, as tests wait for that.
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "500",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
            "log.cleaner.enable": "true",
            "log.cleaner.backoff.ms": "1000",
            "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
        }


def _with_front(config: Mapping[str, str], port: int, front: int) -> dict[str, str]:
    return {
        **config,
        "listeners": f"{config['listeners']},FRONT://127.0.0.1:{port}",
        "advertised.listeners": f"{config['advertised.listeners']},FRONT://127.0.0.1:{front}",
        "listener.security.protocol.map": f"{config['listener.security.protocol.map']},FRONT:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
    }


def probe_cluster(bootstrap_servers: str) -> None:
    """Ask every broker; raise `NotReadyError` unless each lists itself as live."""
    for node, address in enumerate(bootstrap_servers.split(","), 1):
        probe_broker(address, node)


def probe_broker(address: str, node: int) -> None:
    """Ask a broker for the cluster; raise `NotReadyError` unless it lists itself as live under a controller."""
    if not accepts(address):
        raise NotReadyError(f"nothing listens on {address}")

    async def ask() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=address, request_timeout_ms=int(PROBE_SECONDS * 1000))
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await admin.start()
                cluster = await admin.describe_cluster()
        except (KafkaError, OSError, TimeoutError) as error:
            raise NotReadyError(f"{address}: {type(error).__name__} {error}") from error
        finally:
            await admin.close()
        live = {broker["node_id"] for broker in cluster["brokers"]}
        if node not in live or cluster["controller_id"] < 0:
            raise NotReadyError(f"{address} lists brokers {sorted(live)}, controller {cluster['controller_id']}")

    # The client reports each refused connection as an error; before a server is up that is no news.
    client_log = logging.getLogger("aiokafka")
    was_disabled, client_log.disabled = client_log.disabled, True
    try:
        run_apart(ask)
    finally:
        client_log.disabled = was_disabled


def _copy_disk(template: Path, disk: Path, node: int) -> None:
    shutil.copytree(template, disk)
    directory = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
    meta = {"version": "1", "cluster.id": CLUSTER_ID, "node.id": str(node), "directory.id": directory}
    _write(disk / "meta.properties", meta)


def _write(path: Path, properties: Mapping[str, str]) -> None:
    path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
