"""HBase: a master with its region server and ZooKeeper in one process, and a Thrift1 server beside it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar, Self

from lab.hadoop import write_site
from lab.hdfs import Hdfs
from lab.jvm import LOG4J_2, SHORT_LIVED, JvmService
from lab.probe_hbase import probe_master, probe_thrift
from lab.process import Server
from lab.service import Room

MASTER = "org.apache.hadoop.hbase.master.HMaster"
THRIFT = "org.apache.hadoop.hbase.thrift.ThriftServer"
SESSION_MS = "600000"
OPENED = ("java.io", "java.lang", "java.lang.reflect", "java.nio", "java.util", "java.util.concurrent")
OPENED_INTERNAL = ("jdk.internal.ref", "jdk.internal.util.random", "sun.nio.ch")
EXPORTED = ("java.base/jdk.internal.misc", "java.base/sun.net.dns", "java.base/sun.net.util")
EXPORTED_SECURITY = ("java.security.jgss/sun.security.krb5",)
JVM = (
    *SHORT_LIVED,
    "-Dorg.apache.hbase.thirdparty.io.netty.tryReflectionSetAccessible=true",
    "--add-modules=jdk.unsupported",
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in (*OPENED, *OPENED_INTERNAL)),
    *(f"--add-exports={package}=ALL-UNNAMED" for package in (*EXPORTED, *EXPORTED_SECURITY)),
)


class Hbase(JvmService):
    """HBase over an HDFS that runs; clients speak Thrift1 (unframed, binary) to `address`.

    `config` adds to the hbase-site.xml of both servers.
    """

    name: ClassVar[str] = "hbase"

    def __init__(self, room: Room, hdfs: Hdfs, config: Mapping[str, str] | None = None) -> None:
        super().__init__(room)
        self._hdfs = hdfs
        self._config = dict(config or {})
        self._master_port = self._region_port = self._zookeeper_port = self._thrift_port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._thrift_port}"

    @property
    def master(self) -> Server:
        """The process of the master, the one region server and ZooKeeper."""
        return self.servers[0]

    @property
    def thrift(self) -> Server:
        return self.servers[1]

    def _trainee(self) -> Self:
        return type(self)(self.room, self._hdfs)

    def _set_up(self, folder: Path) -> tuple[Server, ...]:
        take = self.room.ports.take
        self._master_port, self._region_port, self._zookeeper_port, self._thrift_port = take(), take(), take(), take()
        master = [*self._java("master", folder, "-Xmx1200m", self._cluster_site(folder)), MASTER, "start"]
        thrift = [*self._java("thrift", folder, "-Xmx256m", self._client_site()), THRIFT]
        thrift += ["-b", "127.0.0.1", "-p", str(self._thrift_port)]
        ask_master = partial(probe_master, f"127.0.0.1:{self._master_port}")
        return (
            self.room.server("hbase-master", master, folder, ask_master),
            self.room.server("hbase-thrift", thrift, folder, partial(probe_thrift, self.address)),
        )

    def _java(self, kind: str, folder: Path, heap: str, site: dict[str, str]) -> list[str]:
        conf = folder / f"conf-{kind}"
        conf.mkdir()
        (conf / "log4j2.properties").write_text(LOG4J_2)
        write_site(conf / "hbase-site.xml", self._common_site(folder) | site | self._config)
        # A closed file is complete once its DataNode has said so; ask again soon.
        hdfs_site = self._hdfs.client_config | {"dfs.client.block.write.locateFollowingBlock.initial.delay.ms": "10"}
        write_site(conf / "hdfs-site.xml", hdfs_site)
        return self.java(*JVM, heap, *self.archive_options(kind), conf=conf)

    def _common_site(self, folder: Path) -> dict[str, str]:
        return {
            "hbase.cluster.distributed": "false",
            "hbase.tmp.dir": str(folder / "tmp"),
            "hbase.zookeeper.quorum": "127.0.0.1",
            "hbase.zookeeper.property.clientPort": str(self._zookeeper_port),
        }

    def _cluster_site(self, folder: Path) -> dict[str, str]:
        return {
            # A start after a taken port finds no half a system in its way.
            "hbase.rootdir": f"{self._hdfs.url}/hbase-{self._master_port}",
            "hbase.zookeeper.property.clientPortAddress": "127.0.0.1",
            "hbase.zookeeper.property.dataDir": str(folder / "zookeeper"),
            # ZooKeeper is paused along with its clients and must not find them expired when all of it goes on.
            "zookeeper.session.timeout.localHBaseCluster": SESSION_MS,
            "hbase.zookeeper.property.maxSessionTimeout": SESSION_MS,
            # Nor does a region server that stops wait long for a ZooKeeper that has stopped already.
            "zookeeper.recovery.retry": "1",
            "zookeeper.recovery.retry.intervalmill": "200",
            "hbase.master.hostname": "127.0.0.1",
            "hbase.master.ipc.address": "127.0.0.1",
            "hbase.master.port": str(self._master_port),
            "hbase.master.info.port": "-1",
            "hbase.unsafe.regionserver.hostname": "127.0.0.1",
            "hbase.regionserver.ipc.address": "127.0.0.1",
            "hbase.regionserver.port": str(self._region_port),
            "hbase.regionserver.info.port": "-1",
            # One region server, known at once; what is usually batched over time goes out at once.
            "hbase.master.wait.on.regionservers.maxtostart": "1",
            "hbase.master.wait.on.regionservers.interval": "50",
            "hbase.regionserver.msginterval": "200",
            "hbase.assignment.dispatch.wait.msec": "5",
            "hbase.procedure.remote.dispatcher.delay.msec": "5",
            # After a crash: HDFS answers a first try with "not yet", and has closed the file a moment later.
            "hbase.lease.recovery.first.pause": "100",
            "hbase.lease.recovery.pause": "100",
        }

    def _client_site(self) -> dict[str, str]:
        return {
            "hbase.thrift.info.port": "-1",
            # Where tables are is asked of the master: a dead or paused ZooKeeper would cost a minute to notice.
            "hbase.client.registry.impl": "org.apache.hadoop.hbase.client.RpcConnectionRegistry",
            "hbase.client.bootstrap.servers": f"127.0.0.1:{self._master_port}",
            # A request to a dead master fails within 10 s. Retries nest, as do their pauses.
            "hbase.client.pause": "50",
            "hbase.client.retries.number": "4",
            "hbase.client.operation.timeout": "8000",
            "hbase.client.meta.operation.timeout": "8000",
            "hbase.client.scanner.timeout.period": "8000",
            "hbase.client.sync.wait.timeout.msec": "20000",
            "hbase.rpc.timeout": "4000",
            "hbase.ipc.client.socket.timeout.connect": "2000",
        }
