"""HBase: a master with its region server and ZooKeeper in one process or apart, and a Thrift1 server beside them."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar, Self

from lab.hadoop import write_site
from lab.hdfs import Hdfs
from lab.jvm import LOG4J_2, SHORT_LIVED, JvmService
from lab.probe_hbase import probe_master, probe_region_server, probe_thrift, probe_zookeeper
from lab.process import Server
from lab.service import Room

MASTER = "org.apache.hadoop.hbase.master.HMaster"
REGION_SERVER = "org.apache.hadoop.hbase.regionserver.HRegionServer"
ZOOKEEPER = "org.apache.hadoop.hbase.zookeeper.HQuorumPeer"
THRIFT = "org.apache.hadoop.hbase.thrift.ThriftServer"
SESSION_MS = "600000"
REGION_SESSION_MS = "10000"
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

    That many `region_servers` are processes of their own, and so are master and ZooKeeper then; one that answers
    nothing for 10 s is dead to the others. With 0 one process is all three. `config` adds to every hbase-site.xml.
    """

    name: ClassVar[str] = "hbase"

    def __init__(
        self, room: Room, hdfs: Hdfs, config: Mapping[str, str] | None = None, region_servers: int = 0
    ) -> None:
        super().__init__(room)
        self._hdfs = hdfs
        self._config = dict(config or {})
        self._region_server_count = region_servers
        self._master_port = self._region_port = self._zookeeper_port = self._thrift_port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._thrift_port}"

    @property
    def master(self) -> Server:
        """The process of the master; with no region servers apart, of the one region server and ZooKeeper too."""
        return self._named("master")

    @property
    def region_servers(self) -> tuple[Server, ...]:
        """Those that are processes of their own."""
        return tuple(self._named(f"region-{number}") for number in self._region_numbers)

    @property
    def thrift(self) -> Server:
        return self._named("thrift")

    @property
    def _region_numbers(self) -> range:
        return range(1, self._region_server_count + 1)

    def _named(self, kind: str) -> Server:
        return next(server for server in self.servers if server.name == f"hbase-{kind}")

    def _trainee(self) -> Self:
        return type(self)(self.room, self._hdfs)

    def _set_up(self, folder: Path) -> tuple[Server, ...]:
        take = self.room.ports.take
        self._master_port, self._region_port, self._zookeeper_port, self._thrift_port = take(), take(), take(), take()
        together = not self._region_server_count
        regions = [self._region_server(number, folder) for number in self._region_numbers]
        master = self._java("master", folder, "-Xmx1200m" if together else "-Xmx512m", self._cluster_site(folder))
        thrift = [*self._java("thrift", folder, "-Xmx256m", self._client_site()), THRIFT]
        thrift += ["-b", "127.0.0.1", "-p", str(self._thrift_port)]
        ask_master = partial(probe_master, f"127.0.0.1:{self._master_port}")
        return (  # in the order they are stopped in
            *regions,
            self.room.server("hbase-master", [*master, MASTER, "start"], folder, ask_master),
            *(() if together else (self._zookeeper(folder),)),
            self.room.server("hbase-thrift", thrift, folder, partial(probe_thrift, self.address)),
        )

    def _region_server(self, number: int, folder: Path) -> Server:
        port = self.room.ports.take()
        site = self._cluster_site(folder) | {
            "hbase.regionserver.port": str(port),
            "zookeeper.session.timeout": REGION_SESSION_MS,
        }
        argv = [*self._java(f"region-{number}", folder, "-Xmx512m", site, like="master"), REGION_SERVER, "start"]
        probe = partial(probe_region_server, f"127.0.0.1:{port}")
        return self.room.server(f"hbase-region-{number}", argv, folder, probe)

    def _zookeeper(self, folder: Path) -> Server:
        argv = [*self._java("zookeeper", folder, "-Xmx128m", self._cluster_site(folder), like="master"), ZOOKEEPER]
        probe = partial(probe_zookeeper, f"127.0.0.1:{self._zookeeper_port}")
        return self.room.server("hbase-zookeeper", argv, folder, probe)

    def _java(self, kind: str, folder: Path, heap: str, site: dict[str, str], like: str = "") -> list[str]:
        """`like`: the kind whose classes it loads, if not its own."""
        conf = folder / f"conf-{kind}"
        conf.mkdir()
        (conf / "log4j2.properties").write_text(LOG4J_2)
        write_site(conf / "hbase-site.xml", self._common_site(folder) | site | self._config)
        # A closed file is complete once its DataNode has said so; ask again soon.
        hdfs_site = self._hdfs.client_config | {"dfs.client.block.write.locateFollowingBlock.initial.delay.ms": "10"}
        write_site(conf / "hdfs-site.xml", hdfs_site)
        return self.java(*JVM, heap, *self.archive_options(like or kind), conf=conf)

    def _common_site(self, folder: Path) -> dict[str, str]:
        return {
            "hbase.cluster.distributed": str(bool(self._region_server_count)).lower(),
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
            "zookeeper.session.timeout": SESSION_MS,
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
            # Region servers are known at once; what is usually batched over time goes out at once.
            "hbase.master.wait.on.regionservers.maxtostart": str(max(1, self._region_server_count)),
            "hbase.master.wait.on.regionservers.interval": "50",
            "hbase.regionserver.msginterval": "200",
            "hbase.assignment.dispatch.wait.msec": "5",
            "hbase.procedure.remote.dispatcher.delay.msec": "5",
            # A paused region server is asked for no longer than that, in vain, by those that don't know yet.
            "hbase.rpc.timeout": "10000",
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
