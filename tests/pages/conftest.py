"""Pages as a reader meets them: with nothing measured yet, and with a run of each kind."""

import functools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from filelock import FileLock
from page_helpers import TINY_BACKDOOR, Open, recorded, tiny_backdoor, tiny_targeted
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from poisonlab.runner import runtime
from poisonlab.spec.config import make_spec
from poisonlab.store import Store

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session", autouse=True)
def components_are_looked_for_once() -> Iterator[None]:
    """Each ``AppTest`` searches all installed packages for components; between tests, none is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            manifest_scanner,
            "scan_component_manifests",
            functools.cache(manifest_scanner.scan_component_manifests),
        )
        yield


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with real runs: a backdoor under two seeds and without its defense, a targeted poison.

    One of the workers runs them; each has a copy of its own, as a database has one owner.
    """
    base = tmp_path_factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "runs of all pages"
    with FileLock(made.with_suffix(".lock")):
        if not made.is_dir():
            run_all(made)
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("filled") / "results"))


def run_all(made: Path) -> None:
    undefended = make_spec(
        "digits", "badnets", "none", overrides={k: v for k, v in TINY_BACKDOOR.items() if "defense." not in k}
    )
    for spec in (tiny_targeted(), undefended, tiny_backdoor(1), tiny_backdoor(0)):
        recorded(spec, made)


@pytest.fixture
def in_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, new_database: Path
) -> Iterator[Callable[[Path], runtime.Runtime]]:
    """Open a runtime in a results folder, without the runs that ship with the program."""

    def begin(results: Path) -> runtime.Runtime:
        runtime.stop()
        results.mkdir(parents=True, exist_ok=True)
        if not (results / new_database.name).exists():
            shutil.copy(new_database, results)
        monkeypatch.setenv("POISONLAB_RESULTS", str(results))
        monkeypatch.setattr(runtime, "Store", functools.partial(Store, reference=tmp_path / "no reference"))
        return runtime.start()

    st.cache_data.clear()
    st.cache_resource.clear()
    yield begin
    runtime.stop()
    assert not [t for t in threading.enumerate() if t.name.startswith("poisonlab ")], (
        "a worker outlived its runtime"
    )


@pytest.fixture
def open_page(in_results: Callable[[Path], runtime.Runtime]) -> Open:
    """``open_page(results, name, **query)``: the page after its first run, which must not raise."""

    def begin(results: Path, name: str = "home", **query: str) -> AppTest:
        in_results(results)
        app = AppTest.from_file(str(ROOT / "poisonlab" / "ui" / "main.py"), default_timeout=60)
        if name != "home":  # straight to the page, as by a link
            for key, value in query.items():
                app.query_params[key] = value
            app.switch_page(f"../../pages/{name}.py")
        app.run()
        assert not app.exception, app.exception
        return app

    return begin
