"""What an output costs, whether that stays as sets grow, and what a million of them would cost.

Every build is a command of its own, timed from the start of the interpreter to its end, into a
fresh folder. Frames are simulated, as many as NUDT-SIRST has and of its size, unless `--data` names
others. Nothing of a run is removed before all have ended: a file system looks for room in what was
just freed, at several times the price of a fresh file.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

_ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(_ROOT), str(_ROOT / "tests" / "pipelines")]

from pipelines.build.config import BuildConfig  # noqa: E402
from pipelines.build.parallel import Pool  # noqa: E402
from pipelines.build.run import ShardSize, prepare  # noqa: E402
from pipelines.config import load_config  # noqa: E402
from synth.dataset import open_dataset  # noqa: E402
from synth.frames import encode_png  # noqa: E402

_SYNTH = [sys.executable, "-m", "pipelines.cli"]
_CONFIG = _ROOT / "configs" / "build" / "sirst5k.yaml"
_LAYOUTS = ("files", "webdataset")
_PARTS = ("plan", "cost", "workers", "floor", "dask")
_PROJECTED = (1_000_000, 100_000_000)
_AT_A_TIME = 4096


@dataclass(frozen=True)
class Run:
    """What a build took: seconds of wall and of all cores, MB of its process, and what it left."""

    layout: str
    outputs: int
    wall: float
    cpu: float
    peak: float
    inodes: int
    stored: int


@dataclass(frozen=True)
class Cost:
    """What an output costs beyond what a build costs in any case.

    The slope of a straight line through the medians of all sizes.
    """

    layout: str
    cpu: float
    inodes: float
    stored: float


@dataclass(frozen=True)
class Watched:
    """What the processes of a build had: peak MB, and the most files of the set open at a time."""

    looks: int
    planner_peak: float
    worker_peaks: list[float]
    planner_open: int
    worker_open: int


@dataclass(frozen=True)
class Bench:
    """What all builds have in common."""

    config: Path
    data: Path
    scratch: Path
    shard_size: str

    def build(self, layout: str, negatives: int, name: str, *options: str) -> Run:
        """Run a build; its folder stays."""
        out = self.scratch / name
        command = self.command(layout, negatives, name, *options)
        os.sync()  # what the run before left to write is not this one's to wait for
        wall, cpu, peak = _measure(command)
        inodes = stored = 0
        for folder, _, files in os.walk(out):
            inodes += 1 + len(files)
            stored += sum((Path(folder) / file).stat().st_blocks * 512 for file in files)
        outputs = int(json.loads((out / "dataset.json").read_bytes())["counts"]["outputs"])
        return Run(layout, outputs, wall, cpu, peak, inodes, stored)

    def command(self, layout: str, negatives: int, name: str, *options: str) -> list[str]:
        """The command of a build."""
        command = [
            *_SYNTH, "build", str(self.config), "--data", str(self.data),
            "--out", str(self.scratch / name), "--set", f"negatives.count={negatives}",
            "--format", layout, *options,
        ]  # fmt: skip
        if layout == "webdataset":
            command += ["--shard-size", self.shard_size]
        return command


@click.command()
@click.option("--config", default=_CONFIG, type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Simulated frames by default.")
@click.option("--frames", default=663, show_default=True, help="Simulated, in each split.")
@click.option("--place", type=click.Path(path_type=Path), help="Where to write.")
@click.option("--negatives", multiple=True, type=int, default=(4199, 20_000, 98_673),
              show_default=True, help="Sizes, given several times.")  # fmt: skip
@click.option("--shard-size", default="1000", show_default=True)
@click.option("--jobs", default=2, show_default=True, help="Workers against encoding alone.")
@click.option(
    "--runs", default=3, show_default=True, help="After a build that warms the page cache."
)
@click.option("--only", type=click.Choice(_PARTS), multiple=True,
              default=_PARTS, show_default=True)  # fmt: skip
@click.option("--json", "report", type=click.Path(path_type=Path), help="A file for all figures.")
def main(
    config: Path,
    data: Path | None,
    frames: int,
    place: Path | None,
    negatives: tuple[int, ...],
    shard_size: str,
    jobs: int,
    runs: int,
    only: tuple[str, ...],
    report: Path | None,
) -> None:
    """Measure how builds scale. The sizes by default need tens of gigabytes, and hours.

    \b
    Example: bench_scaling.py --negatives 200 --negatives 400 --frames 20 --runs 1
    """
    found: dict[str, Any] = {"processors": os.cpu_count(), "runs": runs}
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        if data is None:
            data = Path(scratch) / "simulated"
            _simulate(data, frames)
        bench = Bench(config.absolute(), data.absolute(), Path(scratch), shard_size)
        if "plan" in only:
            found["plan"] = measure_plan(bench, max(negatives))
        if "cost" in only:
            found |= measure_cost(bench, sorted(negatives), runs)
        if "workers" in only:
            found["workers"] = watch_workers(bench, sorted({min(negatives), max(negatives)}), jobs)
        if "floor" in only:
            found["floor"] = compare_with_encoding(bench, sorted(negatives), jobs, runs)
        if "dask" in only:
            found["dask"] = compare_workers(bench, min(negatives), runs)
    if report is not None:
        report.write_text(json.dumps(found, indent=2) + "\n")


def measure_plan(bench: Bench, size: int) -> float:
    """Seconds that it takes to decide one negative, which one process does for all workers."""
    wanted = load_config(
        bench.config,
        BuildConfig,
        [f"negatives.count={size}", "simulate=null"],
        data=bench.data,
        defaults={"name": "plan"},
    )
    plan = prepare(wanted, Pool(1), ShardSize(outputs=1000))
    begun = time.perf_counter()
    decided = sum(1 for group in plan.groups for _ in group.specs)
    each = (time.perf_counter() - begun) / decided
    click.echo(f"deciding {decided:,} negatives: {1e6 * each:.0f} µs each")
    return each


def measure_cost(bench: Bench, sizes: list[int], runs: int) -> dict[str, Any]:
    """One worker, every size, both layouts: time and memory, and what follows for large sets."""
    seen: dict[tuple[str, int], list[Run]] = {
        (layout, size): [] for size in sizes for layout in _LAYOUTS
    }
    for layout in _LAYOUTS:
        bench.build(layout, sizes[0], f"{layout}-warm", "--jobs", "1")
    for number in range(runs):
        # In turn, so that what else the machine does meets all alike.
        for layout, size in seen:
            run = bench.build(layout, size, f"{layout}-{size}-{number}", "--jobs", "1")
            seen[layout, size].append(run)
            click.echo(f"  {run.wall:.1f} s, {1e3 * run.cpu / run.outputs:.2f} ms", err=True)
    medians: dict[str, list[Run]] = {layout: [] for layout in _LAYOUTS}
    for (layout, _), found in seen.items():
        middle = _median(found)
        medians[layout].append(middle)
        each = [1e3 * run.cpu / run.outputs for run in found]
        click.echo(
            f"{layout:10} {middle.outputs:9,} outputs, one core: {middle.wall:8.1f} s, "
            f"{1e3 * middle.cpu / middle.outputs:.2f} ms an output "
            f"({min(each):.2f} to {max(each):.2f}), peak {middle.peak:.0f} MB"
        )
    costs = [fit_cost(found) for found in medians.values()] if sizes[1:] else []
    projected = [project(cost, outputs) for cost in costs for outputs in _PROJECTED]
    for line in projected:
        click.echo(
            f"{line['layout']:10} {line['outputs']:11,} outputs would cost "
            f"{line['core_hours']:,.1f} core hours, {line['inodes']:,} inodes, "
            f"{line['gigabytes']:,.0f} GB"
        )
    return {
        "sizes": [asdict(run) for found in medians.values() for run in found],
        "cost": [asdict(cost) for cost in costs],
        "projected": projected,
    }


def fit_cost(runs: list[Run]) -> Cost:
    """The cost of an output, from builds of several sizes."""
    outputs = np.array([run.outputs for run in runs], float)

    def slope(values: list[float]) -> float:
        return float(np.polyfit(outputs, values, 1)[0])

    return Cost(
        runs[0].layout,
        slope([run.cpu for run in runs]),
        slope([run.inodes for run in runs]),
        slope([run.stored for run in runs]),
    )


def project(cost: Cost, outputs: int) -> dict[str, Any]:
    """What so many outputs would cost."""
    return {
        "layout": cost.layout,
        "outputs": outputs,
        "core_hours": cost.cpu * outputs / 3600,
        "inodes": round(cost.inodes * outputs),
        "gigabytes": cost.stored * outputs / 1e9,
    }


def watch_workers(bench: Bench, sizes: list[int], jobs: int) -> list[dict[str, Any]]:
    """Builds in shards by processes: memory and open files of each, looked at all the time."""
    found = []
    for size in sizes:
        name = f"watched-{size}"
        options = ("--jobs", str(jobs), "--backend", "processes")
        watched = _watch(bench.command("webdataset", size, name, *options), f".{name}.partial/")
        found.append({"negatives": size} | asdict(watched))
        peaks = ", ".join(f"{peak:.0f}" for peak in watched.worker_peaks)
        click.echo(
            f"{size:,} negatives in shards, {jobs} processes: peak {watched.planner_peak:.0f} MB "
            f"where it is planned, {peaks} MB in workers; files of the set open at a time: "
            f"{watched.planner_open} and {watched.worker_open} ({watched.looks:,} looks)"
        )
    return found


def _watch(command: list[str], staged: str) -> Watched:
    """Run a command, and look at it and at its workers until it ends."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=_ROOT)
    peaks: dict[int, float] = {}
    most: dict[int, int] = {}
    looks = 0
    while process.poll() is None:
        for pid in (process.pid, *_children(process.pid)):
            try:
                links = list(Path(f"/proc/{pid}/fd").iterdir())
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:  # it has ended
                continue
            names = []
            for link in links:
                with suppress(OSError):
                    names += [name for name in [str(link.readlink())] if staged in name]
            if len(names) > 1:
                click.echo(f"open at a time: {', '.join(names)}", err=True)
            most[pid] = max(most.get(pid, 0), len(names))
            if "VmHWM:" in status:
                peaks[pid] = int(status.split("VmHWM:")[1].split()[0]) / 1024
        looks += 1
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    planner_peak, planner_open = peaks.pop(process.pid), most.pop(process.pid)
    return Watched(looks, planner_peak, list(peaks.values()), planner_open, max(most.values()))


def _children(pid: int) -> list[int]:
    """Processes that a process has started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def compare_with_encoding(
    bench: Bench, sizes: list[int], jobs: int, runs: int
) -> list[dict[str, Any]]:
    """Builds in shards against encoding their arrays alone, both with as many workers."""
    bench.build("webdataset", sizes[0], "floor-warm", "--jobs", str(jobs))
    found = []
    for size in sizes:
        builds, floors = [], []
        for number in range(runs):
            name = f"floor-{size}-{number}"
            builds.append(bench.build("webdataset", size, name, "--jobs", str(jobs)))
            floors.append(_encode_alone(bench.scratch / name, jobs))
        ratios = [run.wall / floor[0] for run, floor in zip(builds, floors, strict=True)]
        of_cpu = [run.cpu / floor[1] for run, floor in zip(builds, floors, strict=True)]
        click.echo(
            f"{builds[0].outputs:,} outputs in shards, {jobs} workers: build "
            f"{statistics.median(run.wall for run in builds):.2f} s, encoding alone "
            f"{statistics.median(floor[0] for floor in floors):.2f} s, ratio "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); "
            f"of processor time {statistics.median(of_cpu):.2f}"
        )
        found.append(
            {
                "builds": [asdict(run) for run in builds],
                "encoding": floors,
                "ratios": ratios,
                "processor": of_cpu,
            }
        )
    return found


def compare_workers(bench: Bench, size: int, runs: int) -> dict[str, Any]:
    """The same build in shards with one and with two workers of a Dask cluster."""
    walls: dict[int, list[float]] = {1: [], 2: []}
    for number in range(runs + 1):
        for workers, seen in walls.items():
            with _cluster(bench.scratch, workers, f"cluster-{workers}-{number}") as address:
                where = ("--backend", "dask", "--scheduler", address)
                # Workers import at their first task.
                bench.build("webdataset", 1, f"dask-warm-{workers}-{number}", *where)
                run = bench.build("webdataset", size, f"dask-{workers}-{number}", *where)
            if number:
                seen.append(run.wall)
    one, two = statistics.median(walls[1]), statistics.median(walls[2])
    click.echo(
        f"Dask, {size:,} negatives: one worker {one:.2f} s, two {two:.2f} s, "
        f"{one / two:.2f} times as fast"
    )
    return {"one": walls[1], "two": walls[2]}


@contextmanager
def _cluster(scratch: Path, workers: int, name: str) -> Iterator[str]:
    from dask_cluster import local_cluster
    from distributed import Client

    place = scratch / name
    place.mkdir()
    with local_cluster(place, workers) as cluster:
        with Client(cluster.address, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
        yield cluster.address


def _median(runs: list[Run]) -> Run:
    """The run whose processor time is in the middle, with the highest peak of all."""
    ordered = sorted(runs, key=lambda run: run.cpu)
    middle = asdict(ordered[len(ordered) // 2])
    return Run(**middle | {"peak": max(run.peak for run in runs)})


def _simulate(data: Path, frames: int) -> None:
    command = [
        *_SYNTH, "build", "configs/build/demo.yaml", "--out", str(data),
        "--set", "negatives.count=0",
        "--set", f"simulate.train={frames}", "--set", f"simulate.test={frames}",
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=_ROOT)


def _encode_alone(built: Path, jobs: int) -> tuple[float, float]:
    """Seconds of wall and of all cores to encode all arrays of a set; nothing is written."""
    cv2.setNumThreads(1)
    dataset = open_dataset(built)
    ids = dataset.ids("all")
    wall = cpu = 0.0

    def encode(pair: tuple[Any, Any]) -> int:
        return len(encode_png(pair[0])) + len(encode_png(pair[1]))

    with ThreadPoolExecutor(jobs) as pool:
        # In parts, so that a large set fits into memory; reading it is not timed.
        for at in range(0, len(ids), _AT_A_TIME):
            pairs = [dataset.read_pair(id_) for id_ in ids[at : at + _AT_A_TIME]]
            wall -= time.perf_counter()
            cpu -= time.process_time()
            for _ in pool.map(encode, pairs):
                pass
            wall += time.perf_counter()
            cpu += time.process_time()
    return wall, cpu


def _measure(command: list[str]) -> tuple[float, float, float]:
    """Run a command: seconds of wall, seconds of all cores, peak MB of its largest process."""
    code = (
        "import json, resource, subprocess, sys, time; begun = time.perf_counter();"
        " subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        " wall = time.perf_counter() - begun;"
        " used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        " print(json.dumps([wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *command],
        check=True, capture_output=True, text=True, cwd=_ROOT,
    )  # fmt: skip
    wall, cpu, peak = json.loads(done.stdout)
    return float(wall), float(cpu), float(peak)


if __name__ == "__main__":
    main()
