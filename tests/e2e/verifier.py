"""The verifier: recounts the topic by the oracle, and compares every store with that.

Reads as strangers do: a plain consumer, HTTP, the archive's files.
"""

from __future__ import annotations

import base64
import json
import struct
import time
import tomllib
import urllib.error
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import happybase
import pytest

from domain import rows
from domain.certificate import Certificate
from domain.progress import decode_follower, decode_state
from domain.rows import Kind, Role, parse_key
from domain.spec import changelog_topic
from sinks.archive.archive import Archive, ArchiveSettings
from sinks.archive.reader import list_open, read_lines
from sinks.archive.verify import verify_partition
from tests import kafka
from tests.e2e.workers import Worker
from tests.kafka import Record, run_apart
from tests.spec import oracle
from tests.waiting import wait_for

CLASSES = ("on_time", "late", "expired")
RECOVERY_S = 240.0  # HDFS tries a block's recovery again after 30 heartbeats of its DataNode


@dataclass
class Expected:
    """The log of every partition, and what every table must show of it; then what was seen."""

    log: dict[int, list[Record]]
    tables: dict[str, dict[int, dict[str, Any]]]
    dropped: int = 0  # windows that had left the state, over tables and partitions
    finals: int = 0

    @property
    def records(self) -> int:
        return sum(map(len, self.log.values()))

    def tallies(self, table: str) -> Counter[str]:
        return sum((Counter(one["tallies"]) for one in self.tables[table].values()), Counter())


class Verifier:
    """Of one app that counts one topic."""

    def __init__(self, config: Path, bootstrap: str) -> None:
        self._config = tomllib.loads(config.read_text())
        self._bootstrap = bootstrap
        self._app: str = self._config["app"]["id"]
        (self._topic_config,) = self._config["topics"]
        self._topic: str = self._topic_config["name"]

    def ends(self) -> dict[int, int]:
        return run_apart(kafka.ends(self._bootstrap, self._topic))

    def expect(self) -> Expected:
        """Read the topic and recount it."""
        return self.recount(self.log())

    def log(self) -> dict[int, list[Record]]:
        return run_apart(kafka.read_topic(self._bootstrap, self._topic, max_partition_fetch_bytes=8 << 20))

    def recount(self, log: dict[int, list[Record]]) -> Expected:
        """What every table must show of a log."""
        tables = {}
        for table in self._config.get("tables", ()):
            tables[table["name"]] = {
                partition: oracle.fold_partition(
                    [
                        {"offset": one.offset, "timestamp": one.timestamp, "key": one.key, "value": one.value}
                        for one in records
                    ],
                    self._topic_config,
                    table,
                )
                for partition, records in log.items()
            }
        return Expected(log, tables)

    # -- waiting -------------------------------------------------------------------------------

    def wait_caught_up(self, worker: Worker, *, archive: bool = True, deadline_s: float = 90) -> None:
        """Until every partition is counted, committed and archived to the end of the topic."""
        ends = self.ends()

        def behind() -> str:
            answer = worker.get("/api/v1/partitions")
            if not answer["complete"]:
                return f"missing {answer['missing_why']}"
            found = {one["partition"]: one for one in answer["partitions"]}
            late = {p: (found[p]["next_offset"], end) for p, end in ends.items() if found[p]["next_offset"] < end}
            if archive:
                late |= {
                    p: (found[p]["archive_next_offset"], end)
                    for p, end in ends.items()
                    if found[p]["archive_next_offset"] < end
                }
            return f"behind at {late}" if late else ""

        last = ""

        def caught_up() -> bool:
            nonlocal last
            assert worker.running, f"{worker.name} ended:\n{worker.log()[-3000:]}"
            last = behind()
            return not last

        try:
            wait_for("the workers to catch up", caught_up, deadline_s)
        except AssertionError as err:
            raise AssertionError(f"{err}; {last}") from err

    # -- the changelog -------------------------------------------------------------------------

    def changelog(self, settled: bool = True) -> dict[int, dict[bytes, bytes]]:
        """The last value of every row, per partition."""
        found: dict[int, dict[bytes, bytes]] = {}
        for partition, records in run_apart(
            kafka.read_topic(self._bootstrap, changelog_topic(self._app, self._topic), settled=settled)
        ).items():
            state = found[partition] = {}
            for one in records:
                assert one.key is not None
                state.pop(one.key, None)
                if one.value is not None:
                    state[one.key] = one.value
        return found

    def committed(self) -> dict[int, tuple[int, int | None]]:
        """Per partition: how far the first table is committed, and the archive."""
        table = self._config["tables"][0]["name"]
        result = {}
        for partition, state in self.changelog(settled=False).items():
            value, archive = state.get(rows.progress_key(Role.STATE, table)), state.get(rows.progress_key(Role.ARCHIVE))
            result[partition] = (
                decode_state(value).next_offset if value is not None else 0,
                decode_follower(archive).next_offset if archive is not None else None,
            )
        return result

    def check_changelog(self, expected: Expected) -> None:
        ends = self.ends()
        expected.dropped = 0
        for partition, state in self.changelog().items():
            for table, by_partition in expected.tables.items():
                expected.dropped += self._check_state(table, by_partition[partition], state, ends[partition])
            if "archive" in self._config.get("sinks", {}):
                archive = decode_follower(state[rows.progress_key(Role.ARCHIVE)])
                assert archive.next_offset == ends[partition], "the archive's progress"

    def check_finals(self, expected: Expected, deadline_s: float = 30) -> None:
        """Every on-time cell of every closed window, once; they come a checkpoint or two after the close."""
        expected.finals = 0
        for config in self._config.get("tables", ()):
            if "finals_topic" not in config:
                continue
            table, topic = config["name"], config["finals_topic"]
            want = [
                (partition, start, key, cell[0])
                for partition, one in expected.tables[table].items()
                for start, by_key in one["cells"].items()
                if start + duration_ms(config["window"]) + duration_ms(config["grace"]) <= one["stream_time"]
                for key, cell in by_key.items()
                if cell[0]
            ]
            found = self._wait_finals(topic, len(want), deadline_s)
            assert sorted((p, v["window_start"], k, v["on_time"]) for p, k, v in found) == sorted(want), (
                f"finals of {table}"
            )
            for partition, _, value in found:
                last = expected.tables[table][partition]["certificates"][value["window_start"]]["on_time"]["last"]
                assert value == {
                    "table": table,
                    "window_start": value["window_start"],
                    "partition": partition,
                    "on_time": value["on_time"],
                    "offset": last,
                    "partial": False,
                }
            expected.finals += len(found)

    def _wait_finals(self, topic: str, count: int, deadline_s: float) -> list[tuple[int, str, dict[str, Any]]]:
        wait_for(f"{count} records in {topic}", lambda: len(self.finals(topic, settled=False)) >= count, deadline_s)
        return self.finals(topic)

    def finals(self, topic: str, settled: bool = True) -> list[tuple[int, str, dict[str, Any]]]:
        """(partition, key as the oracle writes it, value) of each record."""
        return [
            (partition, base64.b64encode(one.key or b"").decode(), json.loads(one.value or b""))
            for partition, records in run_apart(kafka.read_topic(self._bootstrap, topic, settled=settled)).items()
            for one in records
        ]

    def _check_state(self, table: str, want: dict[str, Any], state: dict[bytes, bytes], end: int) -> int:
        """Returns how many windows had left the state."""
        cells: dict[int, dict[bytes, list[int]]] = {}
        certificates: dict[int, Any] = {}
        dropped: set[int] = set()
        for key, value in state.items():
            parsed = parse_key(key)
            assert parsed is not None
            if parsed.table != table:
                continue
            if parsed.kind is Kind.CELL:
                cell = rows.unpack_cell(value)
                cells.setdefault(parsed.start_ms, {})[parsed.tail] = [cell.on_time, cell.late, cell.offset]
            elif parsed.kind is Kind.CERTIFICATE:
                certificate = rows.unpack_certificate(value)
                certificates[parsed.start_ms] = plain(certificate)
                dropped |= {parsed.start_ms} if certificate.dropped else set()
        too_early = dropped - self.expired(table, want)
        assert not too_early, f"cells of {table} dropped before their time: {sorted(too_early)}"
        assert cells.keys() >= want["cells"].keys() - dropped, f"windows of {table}"
        for start, by_key in cells.items():
            counted = {base64.b64decode(key): cell for key, cell in want["cells"][start].items()}
            # A window that is being dropped has some of them left.
            assert by_key == counted or (start in dropped and by_key.items() <= counted.items()), f"cells of {table}"
        assert certificates == want["certificates"], f"certificates of {table}"
        progress = decode_state(state[rows.progress_key(Role.STATE, table)])
        assert progress.tallies == want["tallies"], f"tallies of {table}"
        assert progress.stream_time == want["stream_time"], f"stream time of {table}"
        assert progress.next_offset == end, f"position of {table}"
        return len(dropped)

    # -- HTTP ----------------------------------------------------------------------------------

    def check_api(self, expected: Expected, worker: Worker) -> None:
        """Every value that a worker shows, of all partitions."""
        for table, by_partition in expected.tables.items():
            tallies = worker.get(f"/api/v1/tallies?table={table}")["tables"][0]
            assert tallies["complete"]
            assert {one["partition"]: one["tallies"] for one in tallies["partitions"]} == {
                partition: one["tallies"] for partition, one in by_partition.items()
            }, f"tallies of {table}"
            self._check_windows(table, list(by_partition.values()), worker)

    def _check_windows(self, table: str, want: list[dict[str, Any]], worker: Worker) -> None:
        starts = sorted({start for one in want for start in one["certificates"]})
        if not starts:
            assert worker.get(f"/api/v1/tables/{table}/windows")["windows"] == []
            return
        answer = worker.get(f"/api/v1/tables/{table}/windows?from={starts[0]}&to={starts[-1] + 1}")
        assert answer["complete"]
        shown = {one["start_ms"]: {kind: one[kind] for kind in CLASSES} for one in answer["windows"]}
        assert shown == {
            start: {kind: sum(certificate_of(one, start)[kind]["count"] for one in want) for kind in CLASSES}
            for start in starts
        }, f"windows of {table}"
        dropped = {one["start_ms"] for one in answer["windows"] if one["dropped"]}
        may_be = set().union(*(self.expired(table, one) for one in want))
        assert dropped <= may_be, f"windows of {table} dropped before their time"
        for start in starts:
            if start not in dropped:
                self._check_keys(table, start, want, worker.get(f"/api/v1/tables/{table}/windows/{start}?top=1000"))
            elif "hbase" not in self._config.get("sinks", {}):
                with pytest.raises(urllib.error.HTTPError) as gone:
                    worker.get(f"/api/v1/tables/{table}/windows/{start}")
                with gone.value as answer_404:
                    assert answer_404.code == 404

    def _check_keys(self, table: str, start: int, want: list[dict[str, Any]], detail: dict[str, Any]) -> None:
        cells: Counter[tuple[bytes, int]] = Counter()
        for one in want:
            for key, (on_time, late, _) in one["cells"].get(start, {}).items():
                cells[base64.b64decode(key), 0] += on_time
                cells[base64.b64decode(key), 1] += late
        assert detail["complete"]
        assert detail["top_exact"]
        top: dict[tuple[bytes, int], int] = {}
        for one in detail["top"]:
            key = one["key"].encode() if "key" in one else base64.b64decode(one["key_base64"])
            top[key, 0], top[key, 1] = one["on_time"], one["late"]
        assert len(top) < 2000, "more keys than one answer shows: compare fewer"
        assert top == dict(cells), f"keys of {table} in window {start}"

    def expired(self, table: str, one: dict[str, Any]) -> set[int]:
        """Windows of one partition that take in nothing more."""
        (config,) = (found for found in self._config["tables"] if found["name"] == table)
        age_ms = duration_ms(config["window"]) + duration_ms(config["retention"])
        return {start for start in one["certificates"] if start + age_ms <= one["stream_time"]}

    def partial(self, table: str) -> dict[int, bool]:
        """Of each window with a certificate in partition 0: whether it says so."""
        found = {}
        for key, value in self.changelog()[0].items():
            parsed = parse_key(key)
            assert parsed is not None
            if (parsed.kind, parsed.table) == (Kind.CERTIFICATE, table):
                found[parsed.start_ms] = rows.unpack_certificate(value).partial
        return found

    def check_past(self, expected: Expected, worker: Worker) -> int:
        """Once everything is in HBase: the keys of windows that left the state; returns how many windows those are."""
        checked = 0
        for table, by_partition in expected.tables.items():
            want = list(by_partition.values())
            starts = sorted({start for one in want for start in one["certificates"]})
            answer = worker.get(f"/api/v1/tables/{table}/windows?from={starts[0]}&to={starts[-1] + 1}")
            for start in [one["start_ms"] for one in answer["windows"] if one["dropped"]]:
                detail = worker.get(f"/api/v1/tables/{table}/windows/{start}?top=1000")
                assert detail["source"] == "hbase"
                self._check_keys(table, start, want, detail)
                checked += 1
        return checked

    # -- the archive ---------------------------------------------------------------------------

    def check_archive(self, expected: Expected, *, repeats: bool = True, gap: tuple[int, int] | None = None) -> None:
        """Every record's id and bytes; the ledger covers all of it. Workers must have ended.

        `repeats`: lines of one id may stand there twice, with the same bytes.
        `gap`: offsets [first, end) of each partition that were gone before anybody read them.
        """
        holes = [f"hole: offsets [{gap[0]}, {gap[1]}) are in no ledger line"] if gap else []
        url = self._config["sinks"]["archive"]["url"]
        archive = Archive(ArchiveSettings(url), lambda: int(time.time() * 1000))
        try:
            for partition in expected.log:

                def recovered(partition: int = partition) -> bool:
                    done = archive.recover(self._topic, partition)
                    assert not done.conflicts, f"conflicts: {done.conflicts}"
                    return not (done.waiting or done.taken)

                wait_for(f"recovery of partition {partition}", recovered, RECOVERY_S)
            assert not list(list_open(archive.fs, archive.root, self._topic)), "files left open after recovery"
            found: dict[str, tuple[int, bytes | None, bytes | None]] = {}
            lines = 0
            for line in read_lines(archive.fs, archive.root, self._topic):
                content = (line.timestamp, line.key, line.value)
                assert found.setdefault(line.id, content) == content, f"{line.id} with two contents"
                lines += 1
            want = {
                f"{self._topic}-{partition}-{one.offset}": (one.timestamp, one.key, one.value)
                for partition, records in expected.log.items()
                for one in records
            }
            missing, more = want.keys() - found.keys(), found.keys() - want.keys()
            assert not missing, f"{len(missing)} records are not archived, such as {sorted(missing)[:3]}"
            assert not more, f"{len(more)} lines of no record, such as {sorted(more)[:3]}"
            assert found == want, "bytes differ"
            assert repeats or lines == len(want), f"{lines} lines for {len(want)} records"
            for partition, end in self.ends().items():
                proof = verify_partition(archive.fs, archive.root, self._topic, partition)
                assert proof.problems == holes, f"partition {partition}: {proof.problems}"
                assert (proof.start, proof.next_offset) == (0, end), f"coverage of partition {partition}"
        finally:
            archive.close(5.0)

    # -- HBase ---------------------------------------------------------------------------------

    def wait_in_hbase(self, worker: Worker, deadline_s: float = 90) -> None:
        """Until counts and records of the whole topic are in HBase, and it knows how far the archive is."""
        ends = self.ends()

        def there() -> bool:
            assert worker.running, f"{worker.name} ended:\n{worker.log()[-3000:]}"
            found = worker.get("/api/v1/partitions")["partitions"]
            names = ("hbase_next_offset", "events_next_offset")
            return {one["partition"]: tuple(one[name] for name in names) for one in found} == {
                partition: (end, end) for partition, end in ends.items()
            }

        wait_for("everything to be in HBase", there, deadline_s)
        archived = {f"c:a{partition}".encode(): struct.pack(">q", end) for partition, end in ends.items()}
        with self._hbase() as stranger:

            def told() -> bool:
                # The archive's end comes with the checkpoint after, and the put after that.
                tables = [stranger.table(f"recount_{table['name']}_windows") for table in self._config["tables"]]
                return all(archived.items() <= table.row(b"frontier").items() for table in tables)

            wait_for("HBase to be told of the archive", told, deadline_s)

    @contextmanager
    def _hbase(self) -> Iterator[happybase.Connection]:
        connection = happybase.Connection(*_host_port(self._config["sinks"]["hbase"]["thrift"][0]), timeout=60_000)
        try:
            yield connection
        finally:
            connection.close()

    def check_hbase(self, expected: Expected, *, refilled: bool = False) -> None:
        """Every row, column, version, certificate and frontier; every record's row.

        `refilled`: the tables were emptied, and what had left the state by then is not there any more.
        """
        with self._hbase() as stranger:
            for table, by_partition in expected.tables.items():
                gone = {p: self.expired(table, one) if refilled else set() for p, one in by_partition.items()}
                check_counts(stranger, table, by_partition, self.ends(), gone)
            self._check_events(stranger, expected)

    def _check_events(self, stranger: happybase.Connection, expected: Expected) -> None:
        want = {}
        for partition, records in expected.log.items():
            for one in records:
                columns = {b"c:t": one.timestamp.to_bytes(8, "big"), b"c:k": one.key, b"c:v": one.value}
                row = f"{self._topic}-{partition}-{one.offset}".encode()
                want[row] = {name: value for name, value in columns.items() if value is not None}
        found = dict(stranger.table(f"recount_{self._topic}_events").scan(batch_size=500))
        assert len(found) == len(want)
        assert found == want

    # -- all of it -----------------------------------------------------------------------------

    def check_group_offsets(self) -> None:
        offsets = run_apart(kafka.group_offsets(self._bootstrap, self._app))
        wanted = {(self._topic, partition): end for partition, end in self.ends().items()}
        assert offsets == wanted, "group offsets, for lag tools"

    def check_live(self, worker: Worker, *, archive: bool = True) -> Expected:
        """Once the driver has stopped: wait for the end, then compare changelog and API."""
        self.wait_caught_up(worker, archive=archive)
        expected = self.expect()
        self.check_finals(expected)
        self.check_changelog(expected)
        self.check_api(expected, worker)
        return expected

    def check_stopped(self, expected: Expected, *, repeats: bool = True) -> None:
        """Once the workers have stopped: archive and group offsets."""
        self.check_archive(expected, repeats=repeats)
        self.check_group_offsets()


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def check_counts(
    stranger: happybase.Connection,
    table: str,
    want: dict[int, dict[str, Any]],
    ends: dict[int, int],
    gone: dict[int, set[int]],
) -> None:
    """One table in HBase, written down once more from the format's description; what is `gone` may lack."""
    cells: dict[tuple[bytes, bytes], int] = {}
    may_lack: set[tuple[bytes, bytes]] = set()
    for partition, one in want.items():
        for start, by_key in one["cells"].items():
            for text, (on_time, late, _) in by_key.items():
                key = base64.b64decode(text)
                row = b"%02x|%015d|%s" % (zlib.crc32(key) % 256, start, key)
                counts = {(row, b"c:n%d" % partition): on_time, (row, b"c:l%d" % partition): late}
                cells |= {place: count for place, count in counts.items() if count}
                may_lack |= counts.keys() if start in gone[partition] else set()
    found: dict[tuple[bytes, bytes], int] = {}
    for row_key, columns in stranger.table(f"recount_{table}").scan(include_timestamp=True):
        found |= {(row_key, name): int.from_bytes(value, "big") for name, (value, _) in columns.items()}
        for name, (_, version) in columns.items():
            assert 2**48 < version <= 2**48 + ends[int(name[3:])], f"{row_key!r} {name!r} has version {version}"
    assert {**{place: cells[place] for place in may_lack & cells.keys()}, **found} == cells, f"HBase rows of {table}"
    windows = dict(stranger.table(f"recount_{table}_windows").scan())
    assert json.loads(windows.pop(b"owner")[b"c:owner"])["format"] == 1
    frontier = {}
    for partition, end in ends.items():
        stream_time = want[partition]["stream_time"]
        frontier[f"c:c{partition}".encode()] = struct.pack(">qq", end - 1, -1 if stream_time is None else stream_time)
        frontier[f"c:a{partition}".encode()] = struct.pack(">q", end)
    assert windows.pop(b"frontier") == frontier, f"frontier of {table}"
    certificates: dict[int, dict[int, Any]] = {partition: {} for partition in want}
    for row_key, columns in windows.items():
        for name, value in columns.items():
            assert name[:3] == b"c:w"
            certificates[int(name[3:])][int(row_key)] = plain(rows.unpack_certificate(value))
    assert certificates == {partition: one["certificates"] for partition, one in want.items()}, f"HBase, {table}"


def duration_ms(text: str) -> int:
    return int(text[:-1]) * {"s": 1_000, "m": 60_000, "h": 3_600_000}[text[-1]]


def plain(one: Certificate) -> dict[str, Any]:
    """A certificate as the oracle writes it."""
    return {
        "offset": one.offset,
        **{
            kind: {"count": c.count, "digest": c.digest, "first": c.first, "last": c.last}
            for kind, c in zip(CLASSES, (one.on_time, one.late, one.expired), strict=True)
        },
    }


def certificate_of(one: dict[str, Any], start: int) -> dict[str, Any]:
    found: dict[str, Any] = one["certificates"].get(start) or oracle.blank_certificate()
    return found
