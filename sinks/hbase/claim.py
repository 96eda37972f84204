"""Whose HBase tables these are: made when missing, one random id for each filling of them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import msgspec

from domain.errors import CorruptRowError, RefusedError, SinkUnavailableError
from domain.rows import unpack_certificate
from sinks.hbase.connection import Connection, Pool
from sinks.hbase.format import FAMILY, OWNER_ROW, counts_table, parse_column, windows_table
from sinks.hbase.thrift import AlreadyExists, Mutation

OWNER_COLUMN = f"{FAMILY}:owner".encode()
# Counts are absolute at explicit versions: of older ones nobody has any use, and none ages.
FAMILIES = {FAMILY: {"max_versions": 1, "bloom_filter_type": "ROW", "block_cache_enabled": True}}
FORMAT = 1
CLAIM_ATTEMPTS = 5
TABLE_EXISTS = "TableExistsException"


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """The row `owner`: whose counts these are. `table_id` changes when the tables were made anew or emptied."""

    app: str
    topic: str
    fingerprint: str
    table_id: str
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Claimant:
    table: str
    app: str
    topic: str
    fingerprint: str

    def owner(self) -> Owner:
        """With a new id."""
        return Owner(app=self.app, topic=self.topic, fingerprint=self.fingerprint, table_id=secrets.token_hex(8))

    def owns(self, owner: Owner) -> bool:
        return (owner.app, owner.topic, owner.fingerprint) == (self.app, self.topic, self.fingerprint)

    def check(self, owner: Owner) -> None:
        """Raises `RefusedError` if the tables hold something else's counts."""
        if self.owns(owner):
            return
        counts, windows = counts_table(self.table), windows_table(self.table)
        theirs = f"app {owner.app}, topic {owner.topic}, fingerprint {owner.fingerprint}"
        fix = f"Give the table another name; or, if nobody needs those counts, drop {counts} and {windows} in HBase"
        if owner.app == self.app:  # of this table before its settings changed
            fix = (
                "Put the old settings back, or give the table a new name; or count it from its start again:"
                f" recount reset --table {self.table}"
            )
        raise RefusedError(
            f"HBase table {counts}",
            f"it holds other counts ({theirs}; ours: app {self.app}, topic {self.topic}, fingerprint"
            f" {self.fingerprint})",
            fix,
        )


def create_if_missing(pool: Pool, names: list[str]) -> None:
    """Make tables; another worker may do the same at the same time."""
    with pool.connection() as connection:
        there = {name.decode() for name in connection.tables()}
    for name in names:
        if name not in there:
            try:
                with pool.connection() as connection:
                    connection.create_table(name, FAMILIES)
            except AlreadyExists:
                continue
            except SinkUnavailableError as err:
                if TABLE_EXISTS not in err.reason:  # found later, by the master
                    raise


def read_owner(connection: Connection, table: str) -> Owner | None:
    """None where nobody claimed the tables yet. Raises `CorruptRowError` for a row that makes no sense."""
    value = _owner_row(connection, table)
    return None if value is None else _decode(table, value)


def _owner_row(connection: Connection, table: str) -> bytes | None:
    value: bytes | None = connection.table(windows_table(table)).row(OWNER_ROW, [OWNER_COLUMN]).get(OWNER_COLUMN)
    return value


def _decode(table: str, value: bytes) -> Owner:
    where = f"HBase table {windows_table(table)}"
    try:
        owner = msgspec.json.decode(value, type=Owner)
    except (msgspec.MsgspecError, UnicodeDecodeError) as err:
        raise CorruptRowError(f"{where}: its row owner is damaged, {value[:200]!r}: {err}") from err
    if owner.format != FORMAT:
        raise CorruptRowError(f"{where}: its row owner has format {owner.format}, this version knows {FORMAT}")
    return owner


def claim(pool: Pool, claimant: Claimant) -> Owner:
    """The tables' owner, who is us, under a new id if they are new or were emptied.

    Raises `RefusedError` when they are another's, `CorruptRowError`, `SinkUnavailableError`.
    """
    name = claimant.table
    create_if_missing(pool, [counts_table(name), windows_table(name)])
    with pool.connection() as connection:
        for _ in range(CLAIM_ATTEMPTS):
            value = _owner_row(connection, name)
            if value is not None:
                owner = _decode(name, value)
                claimant.check(owner)
                if not _emptied(connection, name):
                    return owner
            ours = claimant.owner()
            if _swap(connection, name, value, ours):
                return ours
    raise SinkUnavailableError(f"HBase table {windows_table(name)}", "its row owner keeps changing")


def _swap(connection: Connection, table: str, expected: bytes | None, after: Owner) -> bool:
    """Put the owner row unless another was quicker."""
    put = Mutation(isDelete=False, column=OWNER_COLUMN, value=msgspec.json.encode(after), writeToWAL=True)
    name = windows_table(table).encode()
    swapped: bool = connection.client.checkAndPut(name, OWNER_ROW, OWNER_COLUMN, expected, put, {})
    return swapped


def _emptied(connection: Connection, table: str) -> bool:
    """Whether the counts are gone though certificates speak of some: the counts table alone was dropped or truncated.

    Once new counts are in it nobody can tell: whoever empties tables while workers run drops both.
    """
    if next(connection.table(counts_table(table)).scan(limit=1), None) is not None:
        return False
    for _, columns in connection.table(windows_table(table)).scan(row_stop=b":"):  # rows of digits
        for name, value in columns.items():
            parsed = parse_column(name)
            if parsed is not None and parsed[0] == "w" and _speaks_of_counts(value):
                return True
    return False


def _speaks_of_counts(value: bytes) -> bool:
    try:
        certificate = unpack_certificate(value)
    except CorruptRowError:
        return True  # of something it did
    return not certificate.dropped and bool(certificate.on_time.count or certificate.late.count)


def renew(pool: Pool, claimant: Claimant) -> Owner | None:
    """Give our tables a new id: whoever counts into them writes everything again. None: there is nothing yet.

    Raises `RefusedError` when they are another's, `CorruptRowError`, `SinkUnavailableError`.
    """
    name = claimant.table
    with pool.connection() as connection:
        if windows_table(name).encode() not in connection.tables():
            return None
        for _ in range(CLAIM_ATTEMPTS):
            value = _owner_row(connection, name)
            if value is None:
                return None
            claimant.check(_decode(name, value))
            ours = claimant.owner()
            if _swap(connection, name, value, ours):
                return ours
    raise SinkUnavailableError(f"HBase table {windows_table(name)}", "its row owner keeps changing")
