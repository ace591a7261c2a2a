"""The package as others get it: what a wheel holds, where its parts are found, and that nothing stands twice."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import poisonlab
from poisonlab.records.revision import revision

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def wheel_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the package as a wheel lays it out, with the app's files in ``_app``."""
    package = tmp_path / "site-packages" / "poisonlab"
    (package / "_app").mkdir(parents=True)
    monkeypatch.setattr(poisonlab, "_PACKAGE", package)
    monkeypatch.setattr(poisonlab, "_PACKED", package / "_app")
    monkeypatch.delenv(poisonlab.RESULTS, raising=False)
    return package / "_app"


def test_a_checkout_finds_pages_and_results_on_its_top_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(poisonlab.RESULTS, raising=False)

    assert poisonlab.in_checkout() and (poisonlab.app_folder() / "pages" / "home.py").is_file()
    assert poisonlab.results_folder() == ROOT / "results"
    assert poisonlab.reference_folder() == ROOT / "results" / "reference"


def test_an_installed_package_writes_to_the_working_directory(
    wheel_layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert poisonlab.app_folder() == wheel_layout
    assert poisonlab.results_folder() == tmp_path / "results"
    assert poisonlab.reference_folder().is_relative_to(wheel_layout)


def test_the_variable_names_the_results_folder_everywhere(
    wheel_layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(poisonlab.RESULTS, "~/elsewhere")

    assert poisonlab.results_folder() == Path.home() / "elsewhere"


def test_the_revision_is_that_of_the_build_or_else_the_version(wheel_layout: Path) -> None:
    assert revision() == f"v{poisonlab.__version__}"

    (wheel_layout / "REVISION").write_text("0123456789\n")

    assert revision() == "0123456789"


def test_dependencies_stand_in_one_place() -> None:
    for name in ("requirements.txt", "tests/requirements.txt"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
        assert all(re.fullmatch(r"-e \.(\[\w+\])?", line) for line in lines), name


def test_every_dependency_has_a_lower_bound_and_is_imported() -> None:
    names = {"pillow": "PIL", "scikit-learn": "sklearn"}
    sources = "\n".join(path.read_text() for path in (ROOT / "poisonlab").rglob("*.py"))
    for dependency in PROJECT["dependencies"]:
        name, _, bound = dependency.partition(">=")
        assert re.fullmatch(r"\d+(\.\d+)*", bound), dependency
        module = names.get(name, name)
        assert re.search(rf"^\s*(import|from) {module}\b", sources, re.MULTILINE), dependency


def test_the_command_is_the_one_of_python_dash_m() -> None:
    assert PROJECT["scripts"] == {"poisonlab": "poisonlab.cli.main:main"}


@pytest.mark.slow
def test_a_wheel_holds_all_that_the_app_needs(tmp_path: Path) -> None:
    """Needs hatchling: from the environment, or from the index by way of pip."""
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    if done.returncode and "hatchling" in done.stderr:
        pytest.skip("hatchling is not installed and the package index cannot be reached")
    assert done.returncode == 0, done.stderr[-2000:]
    held = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())

    tracked = ["poisonlab", "pages", "app.py", ".streamlit/config.toml"]
    listed = subprocess.run(
        ["git", "ls-files", *tracked], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for path in listed.stdout.splitlines():
        packed = path if path.startswith("poisonlab/") else f"poisonlab/_app/{path}"
        assert packed in held
    assert not [name for name in held if name.startswith(("tests/", "benchmarks/"))]
