"""What several of these tests begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hbase_rows import Stranger, new_table_name


@pytest.fixture
def stranger(hbase_thrift: str) -> Iterator[Stranger]:
    """Another program, with the two HBase tables of a table that only this test has."""
    one = Stranger(hbase_thrift, new_table_name())
    one.make_tables()
    yield one
    one.close()
