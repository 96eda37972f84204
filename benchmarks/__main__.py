"""`make bench`: what a worker does with a CPU-second, with its memory, and in the seconds after a death.

One lab, contenders in turn. Throughput is judged by ratios: the machine is shared and noisy. Name contenders to run
those alone.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import memory, restore
from benchmarks.failover import FailoverBench
from benchmarks.load import PARTITIONS, events, preload
from benchmarks.sink import CELLS, SinkBench
from benchmarks.worker import Run, Sinks, run_worker, write_config
from lab import Lab
from lab.ports import Ports

FLOORS = {"changelog": 0.6, "archive": 0.4, "archive and HBase": 0.35}
SINK_FLOOR = 0.8
RESTORE_FLOOR = 200_000  # cells a CPU-second
FAILOVER_S = 5.0  # past the session timeout
RSS_MIB = 1536


def main() -> int:
    arguments = parsed()
    contenders: dict[str, Callable[[Lab, argparse.Namespace, Path], bool]] = {
        "sink": bench_sink,
        "throughput": bench_throughput,
        "restore": bench_restore,
        "failover": bench_failover,
        "memory": bench_memory,
    }
    unknown = set(arguments.contenders) - set(contenders)
    if unknown:
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are {', '.join(contenders)}")
    missed = []
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        for name, bench in contenders.items():
            if not arguments.contenders or name in arguments.contenders:
                own = Path(folder) / name
                own.mkdir()
                if not bench(lab, arguments, own):
                    missed.append(name)
    if missed:
        print(f"\nmissed: {', '.join(missed)}", flush=True)
    return 1 if missed else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("contenders", nargs="*", help="sink, throughput, restore, failover, memory; all unless told")
    parser.add_argument("--events", type=int, default=2_000_000, help="of throughput")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cells", type=int, default=1_000_000, help="restored, and held by the worker that is killed")
    parser.add_argument("--session", type=int, default=6, help="session timeout of failover, seconds")
    parser.add_argument("--keys", type=int, default=100_000, help=f"in each of memory's {memory.WINDOWS} windows")
    return parser.parse_args()


def bench_throughput(lab: Lab, arguments: argparse.Namespace, folder: Path) -> bool:
    say("starting Kafka, HDFS and HBase")
    lab.start("kafka", "hdfs", "hbase")
    bootstrap, hdfs, thrift = lab.kafka().bootstrap_servers, lab.hdfs().url, lab.hbase().address
    say(f"preloading {arguments.events:,} events")
    values = events(arguments.events)
    size = sum(map(len, values)) / len(values)
    asyncio.run(preload(bootstrap, "bench", values))
    asyncio.run(preload(bootstrap, "nothing", []))
    bench = Bench(bootstrap, folder, len(values))
    start_up = statistics.median(bench.worker(f"idle{n}", "nothing", Sinks(), 0).cpu_s for n in range(2))
    say(f"worker start-up: {start_up:.2f} CPU-s, taken off below")
    rates: dict[str, list[float]] = {name: [] for name in ("getmany", *FLOORS)}
    for number in range(arguments.rounds):
        rates["getmany"].append(bench.getmany())
        kinds = (Sinks(), Sinks(f"{hdfs}/a{number}"), Sinks(f"{hdfs}/b{number}", thrift))
        for name, sinks in zip(FLOORS, kinds, strict=True):
            run = bench.worker(f"{name.replace(' ', '-')}{number}", "bench", sinks, len(values))
            rates[name].append(run.records / (run.cpu_s - start_up))
            say(f"  {name}: {run.cpu_s:.2f} CPU-s, {run.wall_s:.1f} s wall, {run.rss_mib:.0f} MiB")
    return report(rates, size)


def bench_restore(lab: Lab, arguments: argparse.Namespace, folder: Path) -> bool:
    """Whether a cold restore is as fast as it must be, RocksDB's compactions included."""
    bootstrap = lab.kafka().bootstrap_servers
    say(f"writing a changelog of {arguments.cells:,} cells")
    asyncio.run(restore.fill(bootstrap, arguments.cells))
    found = [restore.run(bootstrap, folder / str(number)) for number in range(arguments.rounds)]
    print(f"\ncold restore, {found[0].rows:,} rows over {restore.PARTITIONS} partitions, {len(found)} rounds:")
    for one in found:
        print(
            f"  {one.rows / one.cpu_s:>9,.0f} rows a CPU-second, {one.rows / one.settled_cpu_s:>9,.0f} once compacted,"
            f" {one.rows / one.wall_s:>9,.0f} a second ({one.wall_s:.1f} s)"
        )
    rate = statistics.median(one.rows / one.settled_cpu_s for one in found)
    print(f"  median {rate:,.0f} a CPU-second (floor {RESTORE_FLOOR:,})", flush=True)
    return rate >= RESTORE_FLOOR


def bench_failover(lab: Lab, arguments: argparse.Namespace, folder: Path) -> bool:
    """Whether a killed worker's partitions are counted again in time."""
    say(f"preloading {2 * arguments.cells:,} cells for two workers")
    bench = FailoverBench(lab.kafka().bootstrap_servers, folder, arguments.cells, arguments.session)
    try:
        found = bench.run(arguments.rounds)
    finally:
        bench.close()
    limit_s = arguments.session + FAILOVER_S
    print(f"\nkill -9 to the next commit of all its partitions ({arguments.cells:,} cells), {len(found)} kills:")
    for one in found:
        print(
            f"  {one.seconds:.1f} s and {one.cpu_s:.1f} CPU-s of the other worker;"
            f" {one.cold} of {one.partitions} restored from nothing in {one.restore_s:.1f} s"
        )
    seconds = [one.seconds for one in found]
    print(
        f"  median {statistics.median(seconds):.1f} s, longest {max(seconds):.1f} s"
        f" (limit {limit_s:g} s with a session timeout of {arguments.session} s)",
        flush=True,
    )
    return bool(statistics.median(seconds) <= limit_s)


def bench_memory(lab: Lab, arguments: argparse.Namespace, folder: Path) -> bool:
    """Whether a worker's peak memory stays below its bound."""
    bootstrap = lab.kafka().bootstrap_servers
    say(f"preloading {arguments.keys:,} keys in each of {memory.WINDOWS} windows, and as many cells again")
    records = memory.preload(bootstrap, arguments.keys)
    run = memory.run(bootstrap, folder, Ports().take(), records)
    print(
        f"\nmemory: {arguments.keys * memory.WINDOWS:,} cells of {records:,} events: peak {run.rss_mib:,.0f} MiB"
        f" (limit {RSS_MIB:,} MiB), {run.cpu_s:.0f} CPU-s, {run.wall_s:.0f} s",
        flush=True,
    )
    return run.rss_mib <= RSS_MIB


class Bench:
    def __init__(self, bootstrap: str, folder: Path, records: int) -> None:
        self._bootstrap = bootstrap
        self._folder = folder
        self._records = records
        self._ports = Ports()

    def getmany(self) -> float:
        """Records per CPU-second."""
        command = [sys.executable, "-m", "benchmarks.getmany", self._bootstrap, "bench", str(PARTITIONS)]
        records, cpu_s = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        say(f"  getmany: {float(cpu_s):.2f} CPU-s")
        return int(records) / float(cpu_s)

    def worker(self, app: str, topic: str, sinks: Sinks, records: int) -> Run:
        port = self._ports.take()
        return run_worker(write_config(self._folder, self._bootstrap, topic, app, sinks, port), port, records)


def bench_sink(lab: Lab, arguments: argparse.Namespace, folder: Path) -> bool:
    """How the counts sink compares with a bare loop."""
    del folder
    rounds = arguments.rounds
    bench = SinkBench(lab.hbase().address)
    bench.bare()  # a server that has just started is slower
    bare, ours = [], []
    for _ in range(rounds):
        bare.append(bench.bare())
        ours.append(bench.ours())
    bench.close()
    print(f"\ncells into HBase, median of {rounds} rounds of {CELLS:,}:")
    for name, rates in (("happybase batch loop", bare), ("counts sink", ours)):
        per_s, per_cpu_s = (statistics.median(getattr(one, what) for one in rates) for what in ("per_s", "per_cpu_s"))
        print(f"  {name:<22} {per_s:>9,.0f} a second {per_cpu_s:>10,.0f} a CPU-second")
    ratio = statistics.median(our.per_s / their.per_s for our, their in zip(ours, bare, strict=True))
    print(f"  the sink's rate is {ratio:.2f} of the loop's (floor {SINK_FLOOR})", flush=True)
    return ratio >= SINK_FLOOR


def report(rates: dict[str, list[float]], size: float) -> bool:
    """Print medians and ratios; False when a floor is missed."""
    base = statistics.median(rates["getmany"])
    print(f"\nevents per CPU-second, median of {len(rates['getmany'])} rounds, {size:.0f}-byte events, 10 k keys:")
    missed = False
    for name, found in rates.items():
        rate = statistics.median(found)
        floor = FLOORS.get(name)
        missed |= floor is not None and rate / base < floor
        goal = "" if floor is None else f"  (floor {floor})"
        print(f"  {name:<18} {rate:>12,.0f}   {rate / base:5.2f} of getmany{goal}")
    sys.stdout.flush()
    return not missed


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
