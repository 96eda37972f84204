"""What the agents report, as metrics show it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from agents.partition import Partition
from agents.view import WorkerView
from app.metrics import Metrics
from app.reporting import Reporting
from domain import metric_names
from tests.unit.agents.fakes import P0, STATE_ID, TOPIC, VIEWS, batch, open_store, resumed


def test_the_records_of_every_checkpoint_are_counted_also_of_a_new_owners_first(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    metrics = Metrics()
    reporting = Reporting(metrics, [VIEWS], 60.0)
    reporting.show_in(WorkerView(SimpleNamespace(), lambda _: None))  # type: ignore[arg-type]
    for _ in range(2):
        partition = Partition(TOPIC, 0, store, STATE_ID, resumed(store, VIEWS))
        reporting.owned(P0)
        for keys in ("ab", "cde"):
            partition.fold(batch(partition.next_offset, keys))
            reporting.folded(P0, partition, len(keys))
            checkpoint = partition.cut()
            assert checkpoint is not None
            encoded = checkpoint.encode(store)
            store.commit(encoded.rows)
            partition.committed(checkpoint, encoded)
            reporting.committed(P0, partition, len(encoded.rows), 0.1)
        reporting.dropped(P0)
    samples = [one for family in metrics.registry.collect() for one in family.samples]
    records = sum(one.value for one in samples if one.name == metric_names.RECORDS.name)
    assert records == 10
    store.close()
