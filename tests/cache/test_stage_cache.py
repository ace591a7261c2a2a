"""The stage cache: what it replays, what it computes again, and that nothing half-done stays."""

import math
import os
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest
import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

from poisonlab.cache import code_version as versions
from poisonlab.cache.code_version import code_version
from poisonlab.cache.stage_cache import Bundle, CacheError, StageCache, fingerprint
from poisonlab.context import Context
from poisonlab.events import ArtifactReady, Cancelled, Event, Log, Metric, Progress, StageFinished
from poisonlab.measure import metrics
from poisonlab.records import artifacts


class Bench:
    """A cache, the events it sends and the number of computations."""

    def __init__(self, root: Path, **limits: Any) -> None:
        self.cache = StageCache(root, **limits)
        self.heard: list[Event] = []
        self.computed = 0

    def run(self, key: Any = "key", name: str = "stage", size: int = 3, code: Any = ()) -> Bundle:
        def compute(ctx: Context) -> Bundle:
            self.computed += 1
            ctx.metric("loss", 1, 0.5)
            ctx.metric("loss", 2, math.nan)
            ctx.progress(1, 1)
            ctx.log("careful", "warning")
            ctx.artifact("health", artifacts.ModelHealth({"psnr": 30.0}, "sound"))
            return Bundle({"x": torch.arange(float(size))}, {"note": [1, "two"]})

        self.heard.clear()
        return Context(send=self.heard.append, cache=self.cache).stage(name, key, code, compute)


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
    ctx.stage("empty", 1, [], compute)

    assert ctx.stage("empty", 1, [], compute) == Bundle({}, {"a": 1})


@pytest.mark.parametrize(
    "change", [{"key": "other"}, {"name": "other"}, {"code": [metrics.der]}], ids=["key", "name", "code"]
)
def test_a_changed_key_name_or_code_computes_again(bench: Bench, change: dict[str, Any]) -> None:
    bench.run()
    bench.run(**change)

    assert bench.computed == 2


def test_precision_is_part_of_the_key(bench: Bench) -> None:
    ids = {
        bench.cache.stage_id("stage", "key", [], Context(precision=p))
        for p in (torch.float32, torch.bfloat16)
    }

    assert len(ids) == 2


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("file", ["stage.json", "tensors.safetensors", "artifact0.safetensors"])
@pytest.mark.parametrize("harm", [empty, cut, Path.unlink], ids=["emptied", "cut", "missing"])
def test_a_damaged_entry_is_computed_again_and_reported(bench: Bench, file: str, harm: Any) -> None:
    bench.run()
    harm(only_folder(bench) / file)
    again = bench.run()

    assert bench.computed == 2 and again.tensors["x"].tolist() == [0, 1, 2]
    assert any("damaged" in e.message for e in bench.heard if isinstance(e, Log))


def test_after_a_repair_the_entry_is_whole(bench: Bench) -> None:
    bench.run()
    cut(only_folder(bench) / "stage.json")
    bench.run()
    bench.run()

    assert bench.computed == 2


# -- code versions ------------------------------------------------------------------------------------

SOURCE = '''"""Words."""
from poisonlab import metrics

def answer():
    """More words."""
    return 42
'''


@pytest.fixture
def version(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The code version of a made-up module of the package with a given source."""

    def of(source: str) -> str:
        module = types.ModuleType("poisonlab.made_up")
        module.__file__ = "made_up.py"
        monkeypatch.setitem(sys.modules, "poisonlab.made_up", module)
        real = versions.inspect.getsource
        with monkeypatch.context() as patch:
            patch.setattr(versions.inspect, "getsource", lambda m: source if m is module else real(m))
            for cached in (versions.modules_behind, versions._tree, versions._module_hash):
                cached.cache_clear()
            found = code_version([module])
        for cached in (versions.modules_behind, versions._tree, versions._module_hash):
            cached.cache_clear()
        return found

    return of


def test_changed_code_changes_the_version(version: Any) -> None:
    assert version(SOURCE) != version(SOURCE.replace("42", "43"))


@pytest.mark.parametrize(
    "edit",
    [("return 42", "return 42  # why"), ("More words", "Other words"), ("\n\n", "\n\n\n")],
    ids=["comment", "docstring", "blank line"],
)
def test_words_about_the_code_do_not_change_the_version(version: Any, edit: tuple[str, str]) -> None:
    assert version(SOURCE) == version(SOURCE.replace(*edit))


def test_code_that_is_imported_counts(version: Any) -> None:
    assert version(SOURCE) != version(SOURCE.replace("import metrics", "import training"))


def test_the_source_behind_a_defense_reaches_its_helpers() -> None:
    behind = versions.modules_behind("poisonlab.defenses.puregen_ebm")

    assert {
        "poisonlab.generative.ebm",
        "poisonlab.generative.langevin",
        "poisonlab.measure.metrics",
    } <= behind


def test_the_source_behind_a_poison_is_the_attackers_and_the_trainings() -> None:
    behind = versions.modules_behind("poisonlab.pipeline.poison")

    assert {
        "poisonlab.attacks.shared.surrogates",
        "poisonlab.training.victims",
        "poisonlab.training.loop",
    } <= behind
    assert not [name for name in behind if "defen" in name]
    assert (
        not {f"poisonlab.{name}" for name in ("experiment", "evaluation", "inspection", "purification")}
        & behind
    )


# -- size, cancel, disk, threads ----------------------------------------------------------------------


def test_the_entry_used_longest_ago_is_evicted_first(tmp_path: Path) -> None:
    bench = Bench(tmp_path, limit_bytes=30_000)
    for number, key in enumerate(("a", "b")):
        bench.run(key, size=3000)  # some 12 kB each
        name = bench.cache.stage_id("stage", key, [], Context())
        os.utime(tmp_path / name, (number, number))
    bench.run("a", size=3000)  # used again: now b is the oldest
    bench.run("c", size=3000)

    kept = {name for name, _, _ in bench.cache.entries()}
    assert kept == {bench.cache.stage_id("stage", key, [], Context()) for key in ("a", "c")}


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
        Context(cache=bench.cache).stage("stage", "key", [], compute)

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
        results.append(ctx.stage("stage", "key", [], compute))

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

    holder = threading.Thread(target=lambda: Context(cache=StageCache(tmp_path)).stage("s", 1, [], slow))
    holder.start()
    started.wait(5)
    try:
        with pytest.raises(Cancelled):
            Context(cache=StageCache(tmp_path), send=cancel).stage("s", 1, [], slow)
    finally:
        free.set()
        holder.join(10)


def test_fingerprints_tell_values_shapes_and_types_apart() -> None:
    x = torch.arange(6)
    made = [x, x.flip(0), x.view(2, 3), x.float(), x.to(torch.uint8)]

    assert len({fingerprint(t) for t in made}) == 5 and fingerprint(x) == fingerprint(x.clone())
