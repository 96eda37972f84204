"""A lab: the servers a caller asked for, in one folder, gone when it closes or its process dies."""

import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.errors import LabError, ServerFailedError
from lab.hbase import Hbase
from lab.hdfs import Hdfs
from lab.kafka import Kafka
from lab.ports import Ports
from lab.process import Server, Supervisor
from lab.redis import Redis
from lab.service import Room, Service


class Lab:
    """Starts servers on request and stops them all on close. Thread safe; calls block until servers serve.

    With `keep` the folder stays after close. Otherwise only the logs stay, and only if a server failed, the
    `with` block raised, or `keep_logs` was called; where is printed.
    """

    NAMES = ("kafka", "hdfs", "hbase", "redis")

    def __init__(self, *, keep: bool = False, parent_directory: Path | None = None) -> None:
        supervisor = Supervisor(parent_directory or Path(tempfile.gettempdir()))
        self._room = Room(supervisor, Ports())
        self._keep = keep
        self._keep_logs = False
        self._closed = False
        self._services: dict[str, Service] = {}
        self._locks = {name: threading.Lock() for name in self.NAMES}

    @property
    def directory(self) -> Path:
        return self._room.directory

    @property
    def supervisor_pid(self) -> int:
        return self._room.supervisor.pid

    @property
    def services(self) -> tuple[Service, ...]:
        """The services that were started, in the order of `NAMES`."""
        return tuple(self._services[name] for name in self.NAMES if name in self._services)

    @property
    def servers(self) -> dict[str, Server]:
        """Every server process that was started, by name."""
        return {server.name: server for service in self.services for server in service.servers}

    def kafka(
        self, brokers: int | None = None, config: Mapping[str, str] | None = None, fronts: Sequence[int] = ()
    ) -> Kafka:
        """Return the running Kafka, started at the first call with that many brokers (1 unless told).

        `config` adds to each broker's properties, `fronts` gives each a second listener that is advertised at that
        port; both count at the first call only.
        """
        kafka = self._running("kafka", lambda: Kafka(self._room, brokers or 1, config, fronts))
        assert isinstance(kafka, Kafka)
        if brokers is not None and brokers != kafka.broker_count:
            raise LabError(f"Kafka already runs with {kafka.broker_count} broker(s), not {brokers}")
        return kafka

    def hdfs(self, config: Mapping[str, str] | None = None) -> Hdfs:
        """Return the running HDFS, started at the first call.

        `config` adds to hdfs-site.xml; it counts at the first call only.
        """
        hdfs = self._running("hdfs", lambda: Hdfs(self._room, config))
        assert isinstance(hdfs, Hdfs)
        return hdfs

    def hbase(self, config: Mapping[str, str] | None = None, region_servers: int = 0) -> Hbase:
        """Return the running HBase, started at the first call, and HDFS before it.

        `config` adds to hbase-site.xml; `region_servers` are processes of their own. Both count at the first call only.
        """
        hbase = self._running("hbase", lambda: Hbase(self._room, self.hdfs(), config, region_servers))
        assert isinstance(hbase, Hbase)
        return hbase

    def redis(self, config: Mapping[str, str] | None = None) -> Redis:
        """Return the running Redis, started at the first call.

        `config` adds to redis.conf; it counts at the first call only.
        """
        redis = self._running("redis", lambda: Redis(self._room, config))
        assert isinstance(redis, Redis)
        return redis

    def start(self, *names: str, brokers: int | None = None) -> None:
        """Start several services at the same time, HBase as soon as HDFS serves; see `NAMES`."""
        starters: dict[str, Callable[[], Service]] = {
            "kafka": lambda: self.kafka(brokers),
            "hdfs": self.hdfs,
            "hbase": self.hbase,
            "redis": self.redis,
        }
        unknown = set(names) - set(starters)
        if unknown:
            raise LabError(f"the lab has no {', '.join(sorted(unknown))}; it has {', '.join(self.NAMES)}")
        with ThreadPoolExecutor(max_workers=len(starters), thread_name_prefix="lab-start") as pool:
            for started in [pool.submit(starters[name]) for name in names]:
                started.result()

    def keep_logs(self) -> None:
        """Have the servers' logs survive the close, for a caller that knows that something went wrong."""
        self._keep_logs = True

    def close(self) -> None:
        """Kill all servers and remove the folder, or what is not to be kept of it. Safe to repeat."""
        if self._closed:
            return
        self._closed = True
        room = self._room
        logs_stay = (self._keep_logs or self._has_failed()) and any(log.stat().st_size for log in room.logs.iterdir())
        if self._keep:
            remove = []
        elif logs_stay:
            remove = [room.data, room.temporary]
        else:
            remove = [room.directory]
        room.supervisor.close(remove)
        room.ports.close()
        if room.directory not in remove:
            print(f"lab: kept {room.directory if self._keep else room.logs}", file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, Exception):
            self.keep_logs()
        self.close()

    def _running(self, name: str, make: Callable[[], Service]) -> Service:
        # A lock for each name: services start beside each other, and one that needs another waits for it.
        with self._locks[name]:
            if name not in self._services:
                service = make()
                try:
                    service.start()
                except ServerFailedError:
                    self.keep_logs()
                    raise
                self._services[name] = service
            return self._services[name]

    def _has_failed(self) -> bool:
        try:
            return any(server.failed or server.died for server in self.servers.values())
        except LabError:
            return True  # the supervisor is gone, by no act of ours
