"""The stage cache: what it replays, what it computes again, and that nothing half-done stays."""

import math
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

from poisonlab.cache.stage_cache import CacheError, StageCache, run_stage
from poisonlab.cache.stage_key import stage_id
from poisonlab.context import Context
from poisonlab.events import ArtifactReady, Cancelled, Event, Log, Metric, Progress, StageFinished
from poisonlab.records import artifacts
from poisonlab.types import Bundle


class Bench:
    """A cache, the events it sends and the number of computations."""

    def __init__(self, root: Path, **limits: Any) -> None:
        self.cache = StageCache(root, **limits)
        self.heard: list[Event] = []
        self.computed = 0

    def run(self, key: Any = "key", name: str = "stage", size: int = 3) -> Bundle:
        def compute(ctx: Context) -> Bundle:
            self.computed += 1
            ctx.metric("loss", 1, 0.5)
            ctx.metric("loss", 2, math.nan)
            ctx.progress(1, 1)
            ctx.log("careful", "warning")
            ctx.artifact("health", artifacts.ModelHealth({"psnr": 30.0}, "sound"))
            return Bundle({"x": torch.arange(float(size))}, {"note": [1, "two"]})

        self.heard.clear()
        return run_stage(Context(send=self.heard.append, cache=self.cache), name, key, compute)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "cache")


def only_folder(bench: Bench) -> Path:
    (entry,) = bench.cache.entries()
    return bench.cache.root / entry[0]


def test_a_hit_gives_the_same_bundle_without_computing(bench: Bench) -> None:
    first, again = bench.run(), bench.run()

    assert bench.computed == 1
    assert torch.equal(first.tensors["x"], again.tensors["x"]) and first.data == again.data


def test_a_hit_replays_metrics_logs_and_artifacts(bench: Bench) -> None:
    bench.run()
    said = [repr(e) for e in bench.heard if isinstance(e, Metric | Log)]
    bench.run()

    assert [repr(e) for e in bench.heard if isinstance(e, Metric | Log)] == said
    assert [e.value.verdict for e in bench.heard if isinstance(e, ArtifactReady)] == ["sound"]


def test_a_hit_costs_nothing_and_says_so(bench: Bench) -> None:
    bench.run()
    first = bench.heard[-1]
    bench.run()

    assert isinstance(first, StageFinished) and not first.cached and first.seconds > 0
    assert bench.heard[-1] == StageFinished("stage", 0.0, True)


def test_a_bundle_without_tensors_is_kept(bench: Bench) -> None:
    def compute(ctx: Context) -> Bundle:
        return Bundle(data={"a": 1})

    ctx = Context(cache=bench.cache)
    run_stage(ctx, "empty", 1, compute)

    assert run_stage(ctx, "empty", 1, compute) == Bundle({}, {"a": 1})


@pytest.mark.parametrize("change", [{"key": "other"}, {"name": "other"}], ids=["key", "name"])
def test_a_changed_key_or_name_computes_again(bench: Bench, change: dict[str, Any]) -> None:
    bench.run()
    bench.run(**change)

    assert bench.computed == 2


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


FILES = ["stage.json", "stage.sha256", "tensors.safetensors", "artifact0.safetensors"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("harm", [empty, cut, Path.unlink], ids=["emptied", "cut", "missing"])
def test_a_damaged_entry_is_computed_again_and_reported(bench: Bench, file: str, harm: Any) -> None:
    bench.run()
    harm(only_folder(bench) / file)
    again = bench.run()

    assert bench.computed == 2 and again.tensors["x"].tolist() == [0, 1, 2]
    assert any("damaged and will be computed again" in m for m in warnings(bench))


@pytest.mark.parametrize("file", FILES)
def test_a_flipped_bit_anywhere_is_noticed(bench: Bench, file: str) -> None:
    expected = bench.run()
    whole = (only_folder(bench) / file).read_bytes()
    for count, place in enumerate(range(0, len(whole), 5), 1):
        flipped = bytearray((only_folder(bench) / file).read_bytes())
        flipped[min(place, len(flipped) - 1)] ^= 1 << place % 8
        (only_folder(bench) / file).write_bytes(flipped)
        again = bench.run()

        assert bench.computed == 1 + count and torch.equal(again.tensors["x"], expected.tensors["x"])
        assert any(file in message for message in warnings(bench)) or file == "stage.sha256"


def test_every_file_of_an_entry_is_checked(bench: Bench) -> None:
    bench.run()

    assert sorted(path.name for path in only_folder(bench).iterdir()) == sorted(FILES)


def warnings(bench: Bench) -> list[str]:
    return [event.message for event in bench.heard if isinstance(event, Log) and event.level == "warning"]


def test_after_a_repair_the_entry_is_whole(bench: Bench) -> None:
    bench.run()
    cut(only_folder(bench) / "stage.json")
    bench.run()
    bench.run()

    assert bench.computed == 2


# -- size, cancel, disk, threads ----------------------------------------------------------------------


def test_the_entry_used_longest_ago_is_evicted_first(tmp_path: Path) -> None:
    bench = Bench(tmp_path, limit_bytes=30_000)
    for number, key in enumerate(("a", "b")):
        bench.run(key, size=3000)  # some 12 kB each
        name = stage_id("stage", key, Context())
        os.utime(tmp_path / name, (number, number))
    bench.run("a", size=3000)  # used again: now b is the oldest
    bench.run("c", size=3000)

    kept = {name for name, _, _ in bench.cache.entries()}
    assert kept == {stage_id("stage", key, Context()) for key in ("a", "c")}


def test_a_stage_larger_than_the_limit_is_still_returned_and_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path, limit_bytes=10)
    bench.run()

    assert len(bench.cache.entries()) == 1


@pytest.mark.parametrize("error", [Cancelled(), ValueError("bad")], ids=["cancelled", "failed"])
def test_a_stage_that_does_not_end_leaves_nothing(bench: Bench, error: Exception) -> None:
    def compute(ctx: Context) -> Bundle:
        ctx.metric("loss", 1, 0.5)
        raise error

    with pytest.raises(type(error)):
        run_stage(Context(cache=bench.cache), "stage", "key", compute)

    assert [p.name for p in bench.cache.root.iterdir()] == ["locks"]
    bench.run()
    assert bench.computed == 1


@pytest.mark.skipif(resource is None, reason="no file size limits on this system")
def test_a_write_that_the_disk_refuses_leaves_nothing_and_says_what_to_do(bench: Bench) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(
            CacheError, match="File too large.* Free some disk space or choose another folder"
        ):
            bench.run(size=100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert [p.name for p in bench.cache.root.iterdir()] == ["locks"]


def test_a_folder_that_cannot_be_made_is_an_error_of_the_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CacheError, match="choose another folder with --results"):
        Bench(tmp_path / "file" / "cache").run()


def test_two_threads_compute_a_stage_once(tmp_path: Path) -> None:
    started, computed = threading.Event(), []

    def compute(ctx: Context) -> Bundle:
        computed.append(threading.get_ident())
        started.set()
        threading.Event().wait(0.3)
        return Bundle({"x": torch.ones(2)})

    results: list[Bundle] = []

    def work() -> None:
        ctx = Context(cache=StageCache(tmp_path))
        results.append(run_stage(ctx, "stage", "key", compute))

    first = threading.Thread(target=work)
    first.start()
    started.wait(5)
    second = threading.Thread(target=work)
    second.start()
    first.join(10)
    second.join(10)

    assert len(computed) == 1 and len(results) == 2
    assert torch.equal(results[0].tensors["x"], results[1].tensors["x"])


def test_a_waiting_job_can_be_cancelled(tmp_path: Path) -> None:
    started, free = threading.Event(), threading.Event()

    def slow(ctx: Context) -> Bundle:
        started.set()
        free.wait(10)
        return Bundle()

    def cancel(event: Event) -> None:
        if isinstance(event, Progress):
            raise Cancelled

    holder = threading.Thread(target=lambda: run_stage(Context(cache=StageCache(tmp_path)), "s", 1, slow))
    holder.start()
    started.wait(5)
    try:
        with pytest.raises(Cancelled):
            run_stage(Context(cache=StageCache(tmp_path), send=cancel), "s", 1, slow)
    finally:
        free.set()
        holder.join(10)
