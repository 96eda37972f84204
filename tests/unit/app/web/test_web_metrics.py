"""Every metric is named once, explained, and exposed under that name."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from app.metrics import Metrics
from domain import metric_names
from tables.view import PartitionStatus
from tests.unit.app.web.fakes import FakePartition, group

DOCS = Path(__file__).parents[4] / "docs" / "api.md"


def row(metric: metric_names.Metric) -> str:
    labels = ", ".join(metric.labels)
    return f"| `{metric.name}` | {metric.kind}, {metric.unit} | {labels} | {metric.meaning} | {metric.when_high} |"


def test_the_table_in_the_docs_is_exactly_the_metrics_there_are() -> None:
    written = [line for line in DOCS.read_text().splitlines() if line.startswith("| `recount_")]
    assert written == [row(metric) for metric in metric_names.ALL]


def test_names_are_unique_end_in_their_unit_and_say_what_to_do() -> None:
    assert len({m.name for m in metric_names.ALL}) == len(metric_names.ALL)
    for metric in metric_names.ALL:
        assert metric.when_high
        assert metric.meaning
        assert set(metric.labels) <= {"topic", "table", "class", "partition"}
        assert metric.name.endswith("_total") == (metric.kind is metric_names.Kind.COUNTER)


def use_all(metrics: Metrics) -> None:
    metrics.batch_folded("clicks")
    metrics.records_folded("clicks", "views", {"on_time": 7, "late": 2})
    metrics.stale_batch_dropped("clicks")
    metrics.hole_found("clicks")
    metrics.checkpoint_committed("clicks", rows=12, duration_s=0.03)
    metrics.commit_failed("clicks")
    metrics.partition_fenced("clicks")
    metrics.partition_restored("clicks", rows=1000, duration_s=2.0)
    metrics.cells_checked("clicks", mismatch=True)
    metrics.archive_appended("clicks", lines=9, size_bytes=900)
    metrics.archive_synced("clicks")
    metrics.archive_failed("clicks")
    metrics.archive_backlog("clicks", 0, 512)
    metrics.hbase_put("views", 40)
    metrics.hbase_backlog("views", 0, 7)
    metrics.hbase_rescan("views")
    metrics.hbase_failed("clicks")
    metrics.hbase_events_put("clicks", 9)
    metrics.hbase_events_backlog("clicks", 0, 300)
    metrics.dirty_cells("views", 0, 3)
    metrics.partitions([PartitionStatus("clicks", 0, "paused", 90, 100, None, 1_500, 1, 1, hbase_next_offset=60)])


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[str]], float]:
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.expose().decode())
        for sample in family.samples
    }


def test_every_metric_is_exposed_under_its_name() -> None:
    metrics = Metrics()
    use_all(metrics)
    exposed = {name for name, _ in samples(metrics)}
    for metric in metric_names.ALL:
        name = metric.name + "_count" if metric.kind is metric_names.Kind.HISTOGRAM else metric.name
        assert name in exposed


def test_values_and_labels_are_those_given() -> None:
    metrics = Metrics()
    use_all(metrics)
    seen = samples(metrics)
    assert seen["recount_records_total", frozenset({"clicks", "views", "on_time"})] == 7
    assert seen["recount_checkpoint_rows_total", frozenset({"clicks"})] == 12
    assert seen["recount_hbase_lag_offsets", frozenset({"clicks", "0"})] == 30
    assert seen["recount_checkpoint_duration_seconds_sum", frozenset({"clicks"})] == 0.03
    assert seen["recount_archive_bytes_total", frozenset({"clicks"})] == 900
    assert seen["recount_lag_records", frozenset({"clicks", "0"})] == 10
    assert seen["recount_stream_time_seconds", frozenset({"clicks", "0"})] == 1.5
    assert seen["recount_paused", frozenset({"clicks", "0"})] == 1


def test_a_partition_given_away_leaves_no_gauge_behind() -> None:
    metrics = Metrics()
    use_all(metrics)
    metrics.forget("clicks", ["views"], 0)
    metrics.forget("clicks", ["views"], 5)
    metrics.partitions([])
    assert not [name for name, labels in samples(metrics) if "0" in labels]


def test_two_workers_in_one_process_share_no_series() -> None:
    one, two = Metrics(), Metrics()
    one.batch_folded("clicks")
    assert ("recount_batches_total", frozenset({"clicks"})) not in samples(two)


async def test_a_scrape_shows_the_lag_of_the_moment() -> None:
    held = FakePartition(next_offset=60, end_offset=100)
    workers = group({"http://a": {4: held}}, partitions=5)
    assert 'recount_lag_records{partition="4",topic="clicks"} 40.0' in (await workers.get("/metrics")).text
    held.next_offset = 100
    response = await workers.get("/metrics")
    assert 'recount_lag_records{partition="4",topic="clicks"} 0.0' in response.text
    assert response.headers["content-type"].startswith("text/plain")
