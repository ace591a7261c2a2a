"""Every command that README and docs show is one that the program understands; those that take no time are run."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image

from poisonlab import machine
from poisonlab.cli import main
from poisonlab.cli import run as run_command
from poisonlab.data import own
from poisonlab.data.shared.own_folder import look

ROOT = Path(__file__).resolve().parents[1]
TEXTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
PROGRAM = re.compile(r"^(?:\.venv/bin/)?(?:python -m )?poisonlab (.+?)(?:\s+#.*)?$", re.MULTILINE)
LONG = ("run", "sweep")  # checked up to the moment in which the first stage would begin
ONLY_PARSED = ("ui", "multilevel", "results", "reproduce", "submit", "verify", "check-model", "check-data")
LISTS = "--list"
PICTURES = "pictures"  # the folder that examples name
OWN = "own_pets"


def commands() -> list[str]:
    found = [command for text in TEXTS for command in PROGRAM.findall(text.read_text(encoding="utf-8"))]
    return list(dict.fromkeys(found))


def fill(folder: Path) -> None:
    """Two classes of pictures."""
    for label, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for i in range(60):
            Image.new("RGB", (40, 40), (100 * label, 4 * i, 90)).save(folder / name / f"{i}.png")


class Begins(Exception):
    """The first run of a command would begin now."""


@pytest.mark.parametrize("command", commands())
def test_a_command_that_is_shown_can_be_given(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(command)
    name = words[0]
    if name in ONLY_PARSED and LISTS not in words:
        main._parser().parse_args(words)
        return

    def begin(*_: object) -> None:
        raise Begins

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path / "data"))
    if name == "data" or PICTURES in command or OWN in command:
        fill(tmp_path / PICTURES)
    if "--weights" in words:
        torch.save({"fc.weight": torch.ones(2, 3)}, tmp_path / words[words.index("--weights") + 1])
    if OWN in command:
        own.add(OWN.removeprefix("own_"), look(tmp_path / PICTURES), 32, "crop")
    options = [] if name in ("list", "data", "zoo") else ["--results", str(tmp_path / "results")]
    if name in LONG:
        monkeypatch.setattr(run_command, "_run", begin)
        monkeypatch.setattr(run_command, "_by_engine", begin)
        monkeypatch.setattr(machine, "resolve_device", lambda device: device)
        with pytest.raises(Begins):
            main.main([*words, *options])
        return
    assert main.main([*words, *options]) == 0


def test_the_example_of_a_method_is_the_one_that_is_tested() -> None:
    example = (ROOT / "tests" / "examples" / "one_pixel.py").read_text(encoding="utf-8")

    shown = (ROOT / "docs" / "add_a_method.md").read_text(encoding="utf-8")

    assert f"```python\n{example}```" in shown


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_links_lead_somewhere_and_pictures_are_small(text: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", text.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        file = text.parent / target
        assert file.is_file(), target
        assert file.stat().st_size < 400_000, target


def test_the_readme_is_short_and_opens_with_a_picture() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()

    assert len(lines) <= 100 and lines[2].startswith("![")
