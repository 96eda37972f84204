"""Faults of the servers: each comes back, at the latest when the act ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Self

from lab.process import Server
from tests.soak.ground import Ground, Play
from tests.soak.journal import Entry

BUSY_S = 90.0
TEND_S = 2.0
ABORTING = b"ABORTING region server"


def outage(
    server_of: Callable[[Ground], Server],
    lock_of: Callable[[Ground], threading.Lock],
    away: Callable[[Server], None],
    back: Callable[[Server], None],
) -> Play:
    def play(ground: Ground, entry: Entry) -> None:
        server = server_of(ground)
        entry.target = server.name
        assert lock_of(ground).acquire(timeout=BUSY_S), f"{server.name} is being tampered with"
        try:
            if not server.running:
                entry.notes.append("it wasn't there")
                return
            counted = ground.driver.total
            away(server)
            entry.happened = True
            time.sleep(entry.move.lasts_s)
            entry.notes.append(f"{ground.driver.total - counted} records meanwhile")
            back(server)
        finally:
            lock_of(ground).release()

    return play


def needed(play: Play) -> Play:
    """What the workers may do without it, they may do for a while after it too."""

    def played(ground: Ground, entry: Entry) -> None:
        name = entry.move.fault.value.split("-")[0]
        ground.fleet.back[name] = inf
        try:
            play(ground, entry)
            if name == "kafka":
                _broker(ground).wait_ready()
        finally:
            ground.fleet.back[name] = time.monotonic()

    return played


def _come_back(server: Server) -> None:
    server.start(wait=False)


def _broker(ground: Ground) -> Server:
    return ground.lab.kafka().brokers[0]


_kafka = partial(outage, _broker, lambda ground: ground.kafka)
_thrift = partial(outage, lambda ground: ground.lab.hbase().thrift, lambda ground: ground.thrift)
_hbase = partial(outage, lambda ground: ground.lab.hbase().master, lambda ground: ground.storage)
_namenode = partial(outage, lambda ground: ground.lab.hdfs().namenode, lambda ground: ground.storage)
_datanode = partial(outage, lambda ground: ground.lab.hdfs().datanode, lambda ground: ground.storage)

kafka_paused = needed(_kafka(Server.pause, Server.resume))
kafka_restarted = needed(_kafka(Server.stop, _come_back))
kafka_killed = needed(_kafka(Server.kill, _come_back))
thrift_paused = _thrift(Server.pause, Server.resume)
thrift_killed = _thrift(Server.kill, _come_back)
namenode_paused = needed(_namenode(Server.pause, Server.resume))
namenode_killed = needed(_namenode(Server.kill, _come_back))
datanode_paused = needed(_datanode(Server.pause, Server.resume))
datanode_killed = needed(_datanode(Server.kill, _come_back))
hbase_killed = _hbase(Server.kill, _come_back)


class Tender:
    """Starts again what ended because of another's outage or of a slow machine, as HBase does without its disks."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._read = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main, name="tender")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _main(self) -> None:
        ground, lab = self._ground, self._ground.lab
        own = {_broker(ground).name: ground.kafka, lab.hbase().thrift.name: ground.thrift}
        while not self._stop.wait(TEND_S):
            for server in lab.servers.values():
                lock = own.get(server.name, ground.storage)
                if not lock.acquire(blocking=False):
                    continue
                try:
                    if server is lab.hbase().master and self._aborted(server):
                        server.kill()
                        ground.journal.write("region server aborted", target=server.name)
                        server.start(wait=False)
                    elif server.died:
                        ground.journal.write("server died", target=server.name)
                        server.start(wait=False)
                finally:
                    lock.release()

    def _aborted(self, master: Server) -> bool:
        """Whether its region server gave up, since the last look; the master beside it lives on."""
        with master.log_path.open("rb") as log:
            log.seek(self._read)
            new = log.read()
            self._read = log.tell()
        return ABORTING in new and master.running
