"""A new attack is one new file: nothing else is edited, and everything knows it.

The file is ``tests/examples/one_pixel.py``; docs/add_a_method.md shows the same text.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "tests" / "examples" / "one_pixel.py"
SIZES = [
    "training.epochs=1",
    "dataset.train_images=100",
    "dataset.test_images=40",
    "attack.budget=9",
    "victim.width=8",
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with one more file."""
    folder = tmp_path_factory.mktemp("house")
    for part in ("poisonlab", "pages"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    shutil.copytree(ROOT / "tests" / "contracts", folder / "tests" / "contracts")
    for name in ("conftest.py", "core_helpers.py"):
        shutil.copy(ROOT / "tests" / name, folder / "tests" / name)
    shutil.copy(EXAMPLE, folder / "poisonlab" / "attacks" / "one_pixel.py")
    return folder


# Ends with one line of JSON: what the command line prints and what the form asks for.
VISIT = """
import contextlib, io, json, sys
import pytest
from streamlit.testing.v1 import AppTest
from poisonlab.cli.main import main

def said(*arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(arguments) == 0, arguments
    return json.loads(out.getvalue().splitlines()[-1])

names = ["--dataset", "digits", "--attack", "one_pixel", "--defense", "none"]
found = {
    "list": said("list", "attacks", "--json"),
    "run": said("run", *names, "--json", *sys.argv[1:]),
    "leaderboard": said("leaderboard", "--attack", "one_pixel", "--json"),
}
page = AppTest.from_file("poisonlab/ui/main.py", default_timeout=60).run()
page.switch_page("../../pages/experiment.py").run()
page.selectbox(key="new_attack").set_value("one_pixel").run()
assert not page.exception, page.exception
found["form"] = [n.label for n in page.number_input]
found["contracts"] = pytest.main(["-q", "-p", "no:cacheprovider", "-k", "one_pixel", "tests/contracts"])
print()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(house: Path) -> dict[str, Any]:
    """What each part of the program says of the new attack; one process, because starting takes seconds."""
    environment = os.environ | {
        "PYTHONPATH": str(house),
        "OMP_NUM_THREADS": "1",
        "POISONLAB_RESULTS": str(house / "results"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    settings = [part for size in SIZES for part in ("--set", size)]
    command = [sys.executable, "-c", VISIT, *settings]
    done = subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    visit: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return visit | {"said": done.stdout}


def test_the_command_line_lists_it_with_its_parameters(found: dict[str, Any]) -> None:
    listed = {method["name"]: method for method in found["list"]}

    assert [p["name"] for p in listed["one_pixel"]["parameters"]] == ["target_class", "budget"]


def test_the_command_line_runs_it(found: dict[str, Any]) -> None:
    assert found["run"]["state"] == "done"
    assert {"asr", "asr_control", "asr_undefended", "clean_accuracy"} <= found["run"]["metrics"].keys()


def test_the_leaderboard_shows_it(found: dict[str, Any]) -> None:
    rows = [(row["dataset"], row["attack"], row["n"]) for row in found["leaderboard"]]

    assert rows == [("digits", "one_pixel", 1)]


def test_the_form_of_the_experiment_page_has_its_parameters(found: dict[str, Any]) -> None:
    assert {"Target class", "Budget (images)"} <= set(found["form"])


def test_the_tests_of_every_attack_cover_it(found: dict[str, Any]) -> None:
    assert found["contracts"] == pytest.ExitCode.OK, found["said"][-3000:]
