"""`make bench`: what a CPU-second of the worker does, over what plain aiokafka getmany does with it.

One preloaded topic, one run, contenders in turn. Ratios are the result; the machine is shared and noisy.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.load import PARTITIONS, events, preload
from benchmarks.sink import CELLS, SinkBench
from benchmarks.worker import Run, Sinks, run_worker, write_config
from lab import Lab
from lab.ports import Ports

FLOORS = {"changelog": 0.6, "archive": 0.4, "archive and HBase": 0.35}
SINK_FLOOR = 0.8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        say("starting Kafka, HDFS and HBase")
        lab.start("kafka", "hdfs", "hbase")
        bootstrap, hdfs, thrift = lab.kafka().bootstrap_servers, lab.hdfs().url, lab.hbase().address
        missed = bench_sink(thrift, arguments.rounds)
        say(f"preloading {arguments.events:,} events")
        values = events(arguments.events)
        size = sum(map(len, values)) / len(values)
        asyncio.run(preload(bootstrap, "bench", values))
        asyncio.run(preload(bootstrap, "nothing", []))
        bench = Bench(bootstrap, Path(folder), len(values))
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
    return report(rates, size) or missed


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


def bench_sink(thrift: str, rounds: int) -> int:
    """Print how the counts sink compares with a bare loop; 1 when its floor is missed."""
    bench = SinkBench(thrift)
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
    return 1 if ratio < SINK_FLOOR else 0


def report(rates: dict[str, list[float]], size: float) -> int:
    """Print medians and ratios; 1 when a floor is missed."""
    base = statistics.median(rates["getmany"])
    print(f"\nevents per CPU-second, median of {len(rates['getmany'])} rounds, {size:.0f}-byte events, 10 k keys:")
    missed = False
    for name, found in rates.items():
        rate = statistics.median(found)
        floor = FLOORS.get(name)
        missed |= floor is not None and rate / base < floor
        goal = "" if floor is None else f"  (floor {floor})"
        print(f"  {name:<18} {rate:>12,.0f}   {rate / base:5.2f} of getmany{goal}")
    return 1 if missed else 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
