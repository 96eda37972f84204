"""What a reset writes into the changelog, transaction by transaction."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from domain.certificate import Certificate
from domain.errors import TaintedError
from domain.progress import CountsProgress, FollowerProgress, StateProgress, decode_state, encode, state_id_of
from domain.rows import Kind, Role, Row, pack_cell, pack_certificate, pack_id, parse_key, progress_key, window_prefix
from tables import reset
from tables.reset import WHOLE_TOPIC, PartitionReset, holding
from tables.rocksdb import RocksSettings, RocksStore

OLD = "0" * 16


class FakeWriter:
    def __init__(self) -> None:
        self.committed: list[dict[bytes, bytes | None]] = []

    async def commit(self, rows: Sequence[Row]) -> int:
        self.committed.append(dict(rows))
        return 0


@pytest.fixture
def store(tmp_path: Path) -> RocksStore:
    store = RocksStore(tmp_path / "store", RocksSettings())
    for table in ("views", "visits"):
        store.commit(rows_of(table))
    log = encode(FollowerProgress(state_id=OLD, start=0, next_offset=7))
    store.commit([(progress_key(Role.ARCHIVE), log), (b"\x02another version", b"x")])
    return store


def rows_of(table: str) -> list[Row]:
    state = StateProgress(state_id=OLD, fingerprint="f", start=0, next_offset=9)
    counts = CountsProgress(state_id=OLD, start=0, next_offset=5, table_id="t")
    cells: list[Row] = [(window_prefix(Kind.CELL, table, at) + b"k", pack_cell(1, 0, 3)) for at in range(0, 50, 10)]
    return [
        *cells,
        (window_prefix(Kind.ID, table, 0) + b"id", pack_id(3)),
        (window_prefix(Kind.CERTIFICATE, table, 0), pack_certificate(Certificate(3))),
        (progress_key(Role.STATE, table), encode(state)),
        (progress_key(Role.COUNTS, table), encode(counts)),
    ]


async def run(store: RocksStore, monkeypatch: pytest.MonkeyPatch) -> list[dict[bytes, bytes | None]]:
    """All transactions of resetting `views`."""
    monkeypatch.setattr(reset, "ROWS_MAX", 4)
    writer = FakeWriter()
    one = PartitionReset(writer, ["views"])  # type: ignore[arg-type]
    await one.mark(store)
    await one.clear(store, lambda _: None)
    await one.end()
    return writer.committed


async def test_every_row_of_the_table_goes_and_no_other(store: RocksStore, monkeypatch: pytest.MonkeyPatch) -> None:
    done = await run(store, monkeypatch)
    last: dict[bytes, bytes | None] = dict(store.scan(b""))
    for transaction in done:
        last |= transaction
    left = {key: value for key, value in last.items() if value is not None}
    expected = {key for key, _ in rows_of("visits")} | {progress_key(Role.ARCHIVE), b"\x02another version"}
    assert left.keys() == expected
    assert {k: v for k, v in left.items() if k not in done[0]} == {
        k: v for k, v in store.scan(b"") if k in expected and k not in done[0]
    }


async def test_a_store_closes_after_a_commit_that_failed_in_the_middle(
    store: RocksStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reset, "ROWS_MAX", 2)

    class Failing(FakeWriter):
        async def commit(self, rows: Sequence[Row]) -> int:
            raise TaintedError("no answer")

    with pytest.raises(TaintedError) as raised:
        await PartitionReset(Failing(), ["views"]).clear(store, lambda _: None)  # type: ignore[arg-type]
    closing = threading.Thread(target=store.close, daemon=True)
    closing.start()
    closing.join(5)
    assert not closing.is_alive(), f"still waits for a scan that {raised.value!r} left open"


async def test_the_mark_comes_first_and_goes_last(store: RocksStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *middle, last = await run(store, monkeypatch)
    mark = progress_key(Role.RESET, "views")
    assert first[mark] is not None
    assert last[mark] is None
    assert len(middle) == 3
    assert all(len(one) <= 4 and mark not in one for one in middle)
    assert set(middle[-1]) == {progress_key(Role.STATE, "views")}


async def test_what_stays_gets_a_new_state_id_twice_and_keeps_all_else(
    store: RocksStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_, last = await run(store, monkeypatch)
    staying = {progress_key(Role.STATE, "visits"), progress_key(Role.COUNTS, "visits"), progress_key(Role.ARCHIVE)}
    ids = set()
    for transaction in (first, last):
        renewed = {key: value for key, value in transaction.items() if key in staying}
        assert renewed.keys() == staying
        for key, value in renewed.items():
            assert value is not None
            before = store.get(key)
            assert before is not None
            assert json.loads(value) | {"state_id": OLD} == json.loads(before)
        ids |= {state_id_of(value) for value in renewed.values() if value is not None}
    assert len(ids) == 2
    assert OLD not in ids
    mark = first[progress_key(Role.RESET, "views")]
    assert mark is not None
    assert state_id_of(mark) in ids


async def test_of_a_whole_topic_only_the_mark_is_written(store: RocksStore) -> None:
    writer = FakeWriter()
    await PartitionReset(writer, [WHOLE_TOPIC]).mark(None)  # type: ignore[arg-type]
    ((key,),) = writer.committed
    assert parse_key(key) == parse_key(progress_key(Role.RESET))


def test_a_holding_counts_cells_and_windows_and_knows_the_rest(store: RocksStore) -> None:
    store.commit([(progress_key(Role.RESET, "half"), encode(FollowerProgress(state_id=OLD, start=0, next_offset=0)))])
    found = holding(store, lambda _: None)
    assert {name: (size.cells, size.windows) for name, size in found.tables.items()} == {
        "views": (5, 1),
        "visits": (5, 1),
        "half": (0, 0),
    }
    assert found.tables["half"].progress is None
    value = store.get(progress_key(Role.STATE, "views"))
    assert value is not None
    assert found.tables["views"].progress == decode_state(value)
    assert found.logs == {"archive": 7}
    assert not found.empty
