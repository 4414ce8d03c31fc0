"""Builds on a Dask cluster: the bytes of a local build, whatever happens to the workers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_sets import Outcome, SmallSet

pytest.importorskip("distributed")

from dask_cluster import LocalCluster, local_cluster, process_of, square

from pipelines.build import cluster as cluster_module
from pipelines.build.cluster import attempt
from pipelines.build.config import BuildConfig
from pipelines.build.parallel import Pool
from pipelines.build.run import ShardSize, build
from pipelines.build.versions import versions
from pipelines.errors import ClusterError

Tree = Callable[[Path], dict[str, bytes]]
Synth = Callable[..., Outcome]
ROOT = Path(__file__).parents[2]
LAYOUTS = (None, ShardSize(outputs=20))


def config(count: int = 120) -> BuildConfig:
    return BuildConfig.model_validate(
        {
            "name": "small",
            "simulate": {"train": 6, "test": 3, "noise_frames": 2, "shape": (48, 64)},
            "noise": {"sample": {"side": 8}},
            "negatives": {"count": count, "steps": ["mixup", {"turn": {"side": 9}}]},
        }
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A scheduler with two workers, for tests that leave them alone."""
    with local_cluster(tmp_path_factory.mktemp("cluster"), 2) as found:
        yield found


@pytest.fixture
def fresh_cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """A scheduler without workers."""
    place = tmp_path / "cluster"
    place.mkdir()
    with local_cluster(place, 0) as found:
        yield found


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of a cluster may take long to start where a machine is busy."""
    monkeypatch.setattr(cluster_module, "_PATIENCE", 60.0)
    monkeypatch.setattr(cluster_module, "_WORKER_PATIENCE", 180.0)


def test_results_come_in_order_from_both_workers(cluster: LocalCluster) -> None:
    pool = Pool(0, "dask", cluster.address)
    assert list(pool.map(square, range(50))) == [n * n for n in range(50)]
    workers: set[int] = set()
    deadline = time.monotonic() + 180
    # The second worker may come when the first has begun.
    while len(workers) < 2 and time.monotonic() < deadline:
        workers = set(pool.map(process_of, range(12)))
    assert len(workers) == 2
    assert os.getpid() not in workers


def test_items_are_taken_as_they_are_needed(cluster: LocalCluster) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    results = Pool(0, "dask", cluster.address).map(square, items())
    next(results)
    assert taken <= 8
    results.close()


def test_jobs_are_the_most_tasks_at_a_time(cluster: LocalCluster) -> None:
    assert len(set(Pool(1, "dask", cluster.address).map(process_of, range(3)))) <= 3
    taken: list[int] = []
    results = Pool(1, "dask", cluster.address).map(square, (taken.append(n) or n for n in range(9)))
    next(results)
    assert len(taken) == 1
    results.close()


@pytest.mark.parametrize("shards", LAYOUTS)
def test_a_cluster_does_not_change_a_byte(
    cluster: LocalCluster,
    tmp_path: Path,
    tree: Tree,
    shards: ShardSize | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build(config(), tmp_path / "local", jobs=1, shards=shards)
    monkeypatch.chdir(tmp_path)  # the workers are somewhere else
    made = build(
        config(), Path("out"), backend="dask", scheduler=cluster.address, shards=shards
    ).made
    assert made == 129
    assert tree(tmp_path / "out") == tree(tmp_path / "local")


def test_a_set_on_disk_is_found_from_workers(
    cluster: LocalCluster, small_set: SmallSet, synth: Synth, tmp_path: Path, tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "my.yaml").write_text(
        "noise: {sample: {side: 8}}\nnegatives: {steps: [mixup, turn: {side: 9}]}\n"
    )
    monkeypatch.chdir(tmp_path)
    common = ("build", "my.yaml", "--data", small_set.root.name, "--json")
    there = ("--backend", "dask", "--scheduler", cluster.address)
    assert synth(*common, "--out", "local").status == 0
    outcome = synth(*common, "--out", "out", *there)
    assert (outcome.status, outcome.err) == (0, "")
    assert tree(tmp_path / "out") == tree(tmp_path / "local")


@pytest.mark.parametrize("shards", [None, pytest.param(LAYOUTS[1], marks=pytest.mark.slow)])
def test_a_second_build_into_one_place_is_told(
    cluster: LocalCluster, tmp_path: Path, tree: Tree, shards: ShardSize | None
) -> None:
    (tmp_path / "my.yaml").write_text(
        "name: small\nnoise: {sample: {side: 8}}\n"
        "negatives: {count: 120, steps: [mixup, turn: {side: 9}]}\n"
        "simulate: {train: 6, test: 3, noise_frames: 2, shape: [48, 64]}\n"
    )
    build(config(), tmp_path / "local", jobs=1, shards=shards)
    layout = () if shards is None else ("--format", "webdataset", "--shard-size", "20")
    there = ("--backend", "dask", "--scheduler", cluster.address)
    told: list[tuple[int, str]] = []

    def build_again(stage: str, done: int, total: int) -> None:
        if done and not told:
            for where in (there, ("--jobs", "1")):
                second = subprocess.run(
                    [sys.executable, "-m", "pipelines.cli", "build", tmp_path / "my.yaml",
                     "--out", tmp_path / "out", *layout, *where],
                    cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
                )  # fmt: skip
                told.append((second.returncode, second.stderr))

    build(
        config(), tmp_path / "out", backend="dask", scheduler=cluster.address, shards=shards,
        progress=build_again,
    )  # fmt: skip
    words = f"{tmp_path / 'out'}: is being built by another process; wait until it ends\n"
    assert told == [(1, f"synth: {words}")] * 2
    # The first one is not disturbed.
    assert tree(tmp_path / "out") == tree(tmp_path / "local")
    assert not (tmp_path / ".out.partial").exists()


@pytest.mark.slow
@pytest.mark.parametrize("shards", LAYOUTS)
def test_a_worker_that_is_killed_costs_no_result(
    fresh_cluster: LocalCluster, tmp_path: Path, tree: Tree, shards: ShardSize | None
) -> None:
    first, _ = fresh_cluster.start_worker(), fresh_cluster.start_worker()
    seen: list[int] = []

    def kill(stage: str, done: int, total: int) -> None:
        if 0 < done < total and first.poll() is None:
            seen.append(done)
            first.kill()
            first.wait()

    wanted = config(count=400)
    build(
        wanted, tmp_path / "out", backend="dask", scheduler=fresh_cluster.address, shards=shards,
        progress=kill,
    )  # fmt: skip
    assert seen
    assert seen[0] < 300
    build(wanted, tmp_path / "local", jobs=1, shards=shards)
    assert tree(tmp_path / "out") == tree(tmp_path / "local")


@pytest.mark.slow
@pytest.mark.parametrize("shards", LAYOUTS)
def test_a_cluster_that_is_lost_leaves_what_is_whole(
    fresh_cluster: LocalCluster,
    tmp_path: Path,
    tree: Tree,
    shards: ShardSize | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_module, "_EVERY", 0.1)
    worker = fresh_cluster.start_worker()
    lost = worker if shards is None else fresh_cluster.scheduler

    def kill(stage: str, done: int, total: int) -> None:
        if 0 < done < total and lost.poll() is None:
            lost.kill()
            lost.wait()
            monkeypatch.setattr(cluster_module, "_PATIENCE", 5.0)
            monkeypatch.setattr(cluster_module, "_WORKER_PATIENCE", 1.0)

    out, wanted = tmp_path / "out", config(count=400)
    words = "has no workers" if shards is None else "was lost; what is whole is kept"
    with pytest.raises(ClusterError, match=words):
        build(
            wanted, out, backend="dask", scheduler=fresh_cluster.address, shards=shards,
            progress=kill,
        )  # fmt: skip
    assert not out.exists()
    assert 0 < build(wanted, out, jobs=1, shards=shards).made < 409
    build(wanted, tmp_path / "local", jobs=1, shards=shards)
    assert tree(out) == tree(tmp_path / "local")


def test_an_error_on_a_worker_is_one_line_and_leaves_nothing(
    cluster: LocalCluster, small_set: SmallSet, synth: Synth, tmp_path: Path
) -> None:
    shutil.copy(small_set.image(small_set.test[0]), small_set.image("002"))
    (tmp_path / "my.yaml").write_text(
        "noise: {sample: {side: 8}}\nnegatives: {steps: [mixup, turn: {side: 9}]}\n"
    )
    outcome = synth(
        "build", tmp_path / "my.yaml", "--data", small_set.root, "--out", tmp_path / "out",
        "--backend", "dask", "--scheduler", cluster.address,
    )  # fmt: skip
    assert (outcome.status, outcome.err.count("\n")) == (1, 1)
    assert "002.png: has the same pixels as a test image" in outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my.yaml", "source"]


@pytest.mark.slow
def test_an_interrupt_is_one_line_and_goes_on_later(
    cluster: LocalCluster, tmp_path: Path, tree: Tree
) -> None:
    file, out = tmp_path / "my.yaml", tmp_path / "out"
    file.write_text(
        "name: small\nnoise: {sample: {side: 8}}\n"
        "negatives: {count: 3000, steps: [mixup, turn: {side: 9}]}\n"
        "simulate: {train: 6, test: 3, noise_frames: 2, shape: [48, 64]}\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "build", file, "--out", out, "--backend", "dask",
         "--scheduler", cluster.address],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    manifest = tmp_path / ".out.partial" / "manifest.jsonl"
    while process.poll() is None and not (manifest.exists() and manifest.stat().st_size):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.decode()) == (
        130, "synth: interrupted; run the same command again to go on\n"
    )  # fmt: skip
    left = manifest.read_bytes().count(b"\n")
    assert build(config(count=3000), out, jobs=1).made == 3009 - left


def test_a_scheduler_that_is_not_there_is_told(
    synth: Synth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_PATIENCE", 0.5)
    for address in ("tcp://127.0.0.1:1", "nonsense", "nonsense://a:b"):
        outcome = synth(
            "build", ROOT / "configs" / "build" / "demo.yaml", "--out", tmp_path / "out",
            "--backend", "dask", "--scheduler", address,
        )  # fmt: skip
        assert (outcome.status, outcome.err.count("\n")) == (1, 1)
        assert f"the scheduler {address} cannot be reached" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_a_scheduler_without_workers_is_told(
    fresh_cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_WORKER_PATIENCE", 0.5)
    with pytest.raises(ClusterError, match="has no workers; start some with `dask worker tcp"):
        list(Pool(0, "dask", fresh_cluster.address).map(square, range(3)))


@pytest.mark.slow
def test_a_worker_without_the_package_is_told(fresh_cluster: LocalCluster, tmp_path: Path) -> None:
    # In front of the installed package, wherever that is, as if there were none.
    (tmp_path / "other").mkdir()
    missing = "No module named 'pipelines'"
    (tmp_path / "other" / "pipelines.py").write_text(f'raise ModuleNotFoundError("{missing}")\n')
    fresh_cluster.start_worker(tmp_path / "other")
    with pytest.raises(ClusterError, match=rf"worker .*: {missing}; install sirst-synth on every"):
        list(Pool(0, "dask", fresh_cluster.address).map(square, range(3)))


@pytest.mark.parametrize("name", ["sirst-synth", "python", "numpy", "opencv"])
def test_a_worker_with_another_version_does_nothing(name: str) -> None:
    done: list[int] = []
    result, error = attempt(versions() | {name: "0.0.1"}, done.append, 1)
    assert (result, done) == (None, [])
    assert isinstance(error, ClusterError)
    assert f"has {name} {versions()[name]}, this machine has 0.0.1" in str(error)


def test_without_dask_an_error_says_how_to_install_it(
    synth: Synth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    outcome: Any = synth(
        "build", ROOT / "configs" / "build" / "demo.yaml", "--out", tmp_path / "out",
        "--backend", "dask", "--scheduler", "tcp://127.0.0.1:1",
    )  # fmt: skip
    assert (outcome.status, outcome.err.count("\n")) == (1, 1)
    assert "pip install 'sirst-synth[dask]'" in outcome.err


def test_a_build_loads_nothing_of_dask_studies_or_reports(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipelines.build import BuildConfig, build\n"
        "values = {'name': 'x', 'simulate': {'train': 2, 'test': 1, 'shape': [64, 64]}}\n"
        f"build(BuildConfig.model_validate(values), Path({str(tmp_path / 'out')!r}), jobs=2)\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    unwanted = ("dask", "distributed", "torch", "click", "matplotlib")
    ours = ("pipelines.report", "pipelines.study", "pipelines.formats", "pipelines.cli", "detect")
    assert not [name for name in (*unwanted, *ours, "pipelines.build.cluster") if name in loaded]
