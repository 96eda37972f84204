"""HDFS: one NameNode and one DataNode, each a process."""

import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

from lab.errors import NotReadyError
from lab.hadoop import LOG4J_1, write_site
from lab.jvm import SHORT_LIVED, JvmService
from lab.process import Server
from lab.service import Room, accepts

NAMENODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"
ADMIN = "org.apache.hadoop.hdfs.tools.DFSAdmin"
DATANODE = "org.apache.hadoop.hdfs.server.datanode.DataNode"
CLUSTER_ID = "recount-lab"
PROBE_SECONDS = 5.0
# The web servers cannot be switched off, and look for these.
WEB_FOLDERS = ("hdfs", "datanode", "secondary", "static")
OPENED = ("io", "lang", "lang.reflect", "math", "net", "text", "util", "util.concurrent", "util.zip")
OPENED_SECURITY = ("util", "x509")
JVM = (
    "-Xmx384m",
    *SHORT_LIVED,
    *(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in OPENED),
    *(f"--add-opens=java.base/sun.security.{package}=ALL-UNNAMED" for package in OPENED_SECURITY),
)


class Hdfs(JvmService):
    """A file system of one DataNode; `client_config` belongs into the configuration of every client.

    `config` adds to the hdfs-site.xml of both servers.
    """

    name: ClassVar[str] = "hdfs"
    client_config: ClassVar[dict[str, str]] = {
        "dfs.replication": "1",
        "dfs.client.block.write.replace-datanode-on-failure.policy": "NEVER",
    }

    def __init__(self, room: Room, config: Mapping[str, str] | None = None) -> None:
        super().__init__(room)
        self._config = dict(config or {})
        self._port = self._transfer_port = 0

    @property
    def url(self) -> str:
        return f"hdfs://127.0.0.1:{self._port}"

    @property
    def address(self) -> str:
        return self.url

    @property
    def namenode(self) -> Server:
        return self.servers[0]

    @property
    def datanode(self) -> Server:
        return self.servers[1]

    @property
    def conf_directory(self) -> Path:
        """The folder with core-site.xml and hdfs-site.xml, fit for `HADOOP_CONF_DIR` too."""
        return self.room.data / self.name / "conf"

    @property
    def blocks_directory(self) -> Path:
        """Where the DataNode keeps its blocks."""
        return self.room.data / self.name / "blocks"

    def admin(self, *arguments: str) -> None:
        """Do what `hdfs dfsadmin` with these arguments does."""
        self.run_tool([*self.java(*JVM, conf=self.conf_directory), ADMIN, *arguments], self.room.temporary)

    def _set_up(self, folder: Path) -> tuple[Server, ...]:
        self._port, self._transfer_port = self.room.ports.take(), self.room.ports.take()
        self._write_conf(self.conf_directory, folder, self.url)
        shutil.copytree(self._formatted(), folder / "name")
        return (self._server("namenode", NAMENODE, folder), self._server("datanode", DATANODE, folder))

    def _server(self, kind: str, main_class: str, folder: Path) -> Server:
        argv = self.java(*JVM, *self.archive_options(kind), conf=self.conf_directory)
        probe = partial(probe_files, self.url, f"127.0.0.1:{self._transfer_port}")
        return self.room.server(f"hdfs-{kind}", [*argv, main_class], folder, probe)

    def _formatted(self) -> Path:
        # As long as the NameNode's start, and the same each time.
        def make(template: Path) -> None:
            folder = self.room.data / "hdfs-format"
            self._write_conf(folder / "conf", folder, "hdfs://127.0.0.1:9000")
            argv = self.java(*JVM, conf=folder / "conf")
            self.run_tool([*argv, NAMENODE, "-format", "-force", "-nonInteractive", "-clusterid", CLUSTER_ID], folder)
            shutil.copytree(folder / "name", template, dirs_exist_ok=True)

        return self.template("name", make)

    def _write_conf(self, conf: Path, folder: Path, url: str) -> None:
        for web in WEB_FOLDERS:
            (conf / "webapps" / web).mkdir(parents=True)
        (conf / "log4j.properties").write_text(LOG4J_1)
        write_site(conf / "core-site.xml", self._core_site(url))
        write_site(conf / "hdfs-site.xml", self._hdfs_site(folder) | self._config)

    def _core_site(self, url: str) -> dict[str, str]:
        return {
            "fs.defaultFS": url,
            "hadoop.tmp.dir": str(self.room.temporary),
            # The DataNode starts along with the NameNode and may ask it too early.
            "ipc.client.connect.retry.interval": "100",
            "ipc.client.connect.max.retries": "600",
        }

    def _hdfs_site(self, folder: Path) -> dict[str, str]:
        return self.client_config | {
            "dfs.permissions.enabled": "false",
            "dfs.namenode.name.dir": (folder / "name").as_uri(),
            "dfs.namenode.http-address": "127.0.0.1:0",
            "dfs.namenode.datanode.registration.ip-hostname-check": "false",
            "dfs.namenode.safemode.extension": "0",
            "dfs.datanode.data.dir": (folder / self.blocks_directory.name).as_uri(),
            "dfs.datanode.hostname": "127.0.0.1",
            "dfs.datanode.address": f"127.0.0.1:{self._transfer_port}",
            "dfs.datanode.ipc.address": f"127.0.0.1:{self.room.ports.take()}",
            "dfs.datanode.http.address": "127.0.0.1:0",
            # A lost DataNode is noticed within about 12 s, a restarted NameNode finds its DataNode in 1 s.
            "dfs.heartbeat.interval": "1",
            "dfs.namenode.heartbeat.recheck-interval": "1000",
        }


def probe_files(url: str, *datanodes: str) -> None:
    """Make a folder, write, read and delete a file; raise `NotReadyError` unless all of it works.

    That needs a NameNode out of safe mode and a live DataNode. Addresses of DataNodes, where known, are looked
    at first: to one that is not there yet, the client goes on trying until the time-out.
    """
    for address in (url.removeprefix("hdfs://"), *datanodes):
        if not accepts(address):
            raise NotReadyError(f"nothing listens at {address}")

    script = Path(__file__).with_name("probe_hdfs.py")
    folder = f"/.recount-lab-probe-{uuid.uuid4().hex}"  # two probes at a time don't meet
    command = [sys.executable, "-I", str(script), url, folder, json.dumps(Hdfs.client_config)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise NotReadyError(f"{url} did not answer within {PROBE_SECONDS:.0f} s") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise NotReadyError(f"{url}: {reason[0]}") from error
