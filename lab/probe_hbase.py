"""Real requests to HBase: to master and region servers in their own protocol, to the whole through Thrift."""

import contextlib
import socket

import happybase
from thriftpy2.thrift import TException

from lab.errors import NotReadyError
from lab.hbase_rpc import RemoteError, RpcConnection
from lab.service import accepts

PROBE_SECONDS = 5.0
REASON_CHARACTERS = 200
TABLE, FAMILY = b"lab_probe", "f"
ROW, COLUMN, CONTENT = b"row", b"f:content", b"ready?"


def probe_thrift(address: str) -> None:
    """List the tables, write a row and read it back; raise `NotReadyError` unless all of it works."""
    if not accepts(address):
        raise NotReadyError(f"nothing listens at {address}")
    host, _, port = address.rpartition(":")
    try:
        connection = happybase.Connection(host, int(port), timeout=int(PROBE_SECONDS * 1000))
        with contextlib.closing(connection):
            if TABLE not in connection.tables():
                connection.create_table(TABLE, {FAMILY: {}})
            table = connection.table(TABLE)
            table.put(ROW, {COLUMN: CONTENT})
            answer = table.row(ROW).get(COLUMN)
    except (TException, OSError) as error:
        reason = str(error)[:REASON_CHARACTERS]  # a whole Java stack trace otherwise
        raise NotReadyError(f"{address}: {type(error).__name__} {reason}") from error
    if answer != CONTENT:
        raise NotReadyError(f"{address}: wrote {CONTENT!r}, read {answer!r}")


def probe_master(address: str) -> None:
    """Ask the master for its namespaces and procedures; raise `NotReadyError` until it is initialized.

    A crash that it still recovers from counts as not ready: some regions aren't served meanwhile.
    """
    if not accepts(address):
        raise NotReadyError(f"nothing listens at {address}")
    try:
        with RpcConnection(address, PROBE_SECONDS) as master:
            master.call("ListNamespaces")  # of those that only an initialized master answers
            recovering = master.unfinished_procedures("ServerCrashProcedure")
    except (OSError, RemoteError) as error:
        raise NotReadyError(f"{address}: {type(error).__name__} {error}") from error
    if recovering:
        raise NotReadyError(f"{address}: the master recovers from a crash of its region server")


def probe_region_server(address: str) -> None:
    """Ask a region server who it is; raise `NotReadyError` until its master took it in."""
    if not accepts(address):
        raise NotReadyError(f"nothing listens at {address}")
    try:
        with RpcConnection(address, PROBE_SECONDS, "AdminService") as server:
            server.call("GetServerInfo")
    except (OSError, RemoteError) as error:
        raise NotReadyError(f"{address}: {type(error).__name__} {error}") from error


def probe_zookeeper(address: str) -> None:
    """Ask ZooKeeper for its state; raise `NotReadyError` unless it serves."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=PROBE_SECONDS) as connection:
            connection.sendall(b"srvr")
            answer = b""
            while piece := connection.recv(4096):
                answer += piece
    except OSError as error:
        raise NotReadyError(f"{address}: {error}") from error
    if b"Mode: " not in answer:
        raise NotReadyError(f"{address} answers {answer[:REASON_CHARACTERS]!r}")
