"""All that was written, read at the end as a stranger reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from app.demo.events import MAX_PAST_MS, Stream
from app.demo.hbase import Tables, read_archive_frontier, read_hbase
from app.demo.reading import open_paths, read_archive, read_live, read_state
from app.demo.settings import PARTITIONS, TABLE, Setting
from app.demo.together import together
from app.demo.verdict import Archived, Live, State
from domain.errors import SinkUnavailableError
from sinks.archive.fs import open_file_system


@dataclass(frozen=True, slots=True)
class Found:
    """The mappings are by partition; `hbase` is None where there is none."""

    states: Mapping[int, State]
    archived: Mapping[int, Archived]
    live: Live
    hbase: Tables | None


class Stores:
    def __init__(self, setting: Setting) -> None:
        self._bootstrap_servers = setting.bootstrap_servers
        self._thrift = setting.thrift
        self._fs, self._root = open_file_system(setting.archive_url, setting.archive_options)
        self._open: list[str] = []

    async def is_closed(self) -> bool:
        """Whether the archive's files are committed."""
        try:
            self._open = await asyncio.to_thread(open_paths, self._fs, self._root)
        except SinkUnavailableError as err:
            self._open = [str(err)]
        return not self._open

    def still_open(self) -> str:
        """What `is_closed` last saw."""
        return f"; {len(self._open)} left, such as {self._open[0]}" if self._open else ""

    async def is_told(self, ends: Mapping[int, int]) -> bool:
        """Whether HBase knows that the archive has all of it: a checkpoint and a put after the archive itself."""
        if self._thrift is None:
            return True
        try:
            told = await asyncio.to_thread(read_archive_frontier, self._thrift, TABLE)
        except SinkUnavailableError:
            return False
        return all(told.get(partition, 0) >= end for partition, end in ends.items())

    async def read(self, url: str, stream: Stream) -> Found:
        """`url` is a worker's."""
        states, archived, live, hbase = await together(
            together(*(read_state(self._bootstrap_servers, partition) for partition in range(PARTITIONS))),
            asyncio.to_thread(read_archive, self._fs, self._root, PARTITIONS),
            read_live(url, stream.start_ms - MAX_PAST_MS, stream.end_ms + MAX_PAST_MS),
            self._read_hbase(),
        )
        return Found(dict(enumerate(states)), archived, live, hbase)

    async def _read_hbase(self) -> Tables | None:
        return None if self._thrift is None else await asyncio.to_thread(read_hbase, self._thrift, TABLE)
