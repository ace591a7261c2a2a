"""Hashes of code: what changes them, what does not, and that every version of Python gives the same."""

import ast
import importlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from code_edits import clear, edited

from poisonlab.cache import code_version
from poisonlab.cache.code_version import core_code, core_modules, method_code, reached_from, source_hash

SOURCE = '''"""Words."""
import math


@decorated(1.5, -2, key="u", *rest, **more)
class Answer(Base):
    """More words."""

    table = {**other, 1: None, "two": b"\\x00", 3: ...}

    async def find(self, x: int = 3, /, *, y=None) -> "str":
        """Words again."""
        async with x as a, y as b:
            return f"a{x!r:>{y}.3f}b" "c" f"{y=}{x:}" if x else lambda: (yield)

    def nothing(self):
        match self:
            case None | {"a": [1, *_]}:
                return
        raise ValueError from None
'''


def test_the_hash_of_a_text_is_the_same_everywhere() -> None:
    assert source_hash(SOURCE) == "d7c3bafd2b0f20cae6eba8893c50ebe662d388871e9b59498f84a53fab1f3c39"


@pytest.mark.parametrize(
    "edit",
    [
        ("More words", "Other words"),
        ('        """Words again."""\n', ""),
        ("return\n", "return  # why\n"),
        ("\n\n\n", "\n\n\n\n"),
        ('key="u"', "key = u'u'"),
        ('"c" f"', '"c"   f"'),
    ],
    ids=["docstring", "no docstring", "comment", "blank line", "quotes", "spaces"],
)
def test_words_about_the_code_do_not_count(edit: tuple[str, str]) -> None:
    before, after = edit

    assert before in SOURCE and source_hash(SOURCE.replace(before, after)) == source_hash(SOURCE)


@pytest.mark.parametrize(
    "edit",
    [
        ("1.5", "1.25"),
        ("-2", "2"),
        (", 1: None", ", 1: 0"),
        ("**other, ", ""),
        ("x!r", "x!s"),
        (".3f", ".4f"),
        ("y=}", "y}"),
        ("return\n", "return 0\n"),
        ("/, *, y", "*, y"),
        (" from None", ""),
        ("case None", "case True"),
    ],
)
def test_what_the_code_does_counts(edit: tuple[str, str]) -> None:
    before, after = edit

    assert before in SOURCE and source_hash(SOURCE.replace(before, after)) != source_hash(SOURCE)


def other_pythons() -> list[str]:
    """Interpreters of other versions on this machine: on the path, or installed by pyenv."""
    here = f"python3.{sys.version_info.minor}"
    names = [f"python3.{minor}" for minor in range(11, 16) if f"python3.{minor}" != here]
    versions = sorted((Path.home() / ".pyenv" / "versions").glob("3.1[1-9].*/bin"))
    installed = [shutil.which(name, path=str(folder)) for folder in versions for name in names]
    return sorted({path for path in [*map(shutil.which, names), *installed] if path})


def test_other_versions_of_python_give_every_module_the_same_hash() -> None:
    program = Path(code_version.__file__)
    compared = []
    for python in other_pythons():
        done = subprocess.run([python, str(program)], capture_output=True, text=True, timeout=120)
        if done.returncode == 0:
            compared.append(dict(line.split() for line in done.stdout.splitlines()))
    if not compared:
        pytest.skip("no other version of Python from 3.11 on is installed here")
    own = {name: code_version.module_hash(name) for name in code_version.package_modules()}

    assert all(found == own for found in compared)


def test_whole_files_are_hashed_by_what_is_in_them() -> None:
    """No two modules of the package hash alike but for empty ones."""
    sources = {name: path.read_text() for name, path in code_version.package_modules().items()}
    full = [name for name, text in sources.items() if len(ast.parse(text).body) > 1]

    assert len({code_version.module_hash(name) for name in full}) == len(full)


# -- the three kinds of code -------------------------------------------------------------------------


def test_the_core_holds_what_every_experiment_rests_on() -> None:
    behind_all = {
        "attacks.base",
        "context",
        "data.base",
        "defenses.base",
        "generative.ebm",
        "measure.metrics",
        "models.base",
        "pipeline.experiment",
        "training.loop",
        "training.victims",
        "types",
    }

    assert {f"poisonlab.{name}" for name in behind_all} <= core_modules()


def test_every_module_is_core_display_or_a_methods() -> None:
    display = {name for name in modules() if code_version._within(name, code_version.DISPLAY)}
    methods = {name for name in modules() if code_version._within(name, code_version.METHOD_ROOMS)}

    assert core_modules() | display | methods == modules()
    assert not display & core_modules()


def modules() -> set[str]:
    return set(code_version.package_modules()) - {"poisonlab"}


def test_every_entry_of_the_list_of_display_exists_and_says_why_it_stands_there() -> None:
    for room, reason in code_version.DISPLAY.items():
        in_wheels_only = room == "_app"
        assert (in_wheels_only or f"poisonlab.{room}" in modules()) and len(reason.split()) >= 3


CARDS = {"poisonlab.spec.citation", "poisonlab.spec.papers"}  # words on the cards of methods


def test_nothing_that_can_change_a_number_imports_display() -> None:
    computing = {name for name in modules() if not code_version._within(name, code_version.DISPLAY)}
    shown = {
        (name, needed)
        for name in computing
        for needed in code_version.imports_of(name) - CARDS
        if code_version._within(needed, code_version.DISPLAY)
    }

    assert not shown


def test_nothing_that_can_change_a_number_takes_more_than_modules_from_the_package_itself() -> None:
    """Its own file, which is in no key, holds the version and where the pages lie."""
    computing = {name for name in modules() if not code_version._within(name, code_version.DISPLAY)}
    taken = {
        (name, alias.name)
        for name in computing
        for node in ast.walk(ast.parse(code_version.package_modules()[name].read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "poisonlab"
        for alias in node.names
        if f"poisonlab.{alias.name}" not in modules()
    }

    assert not taken


def test_the_code_of_a_method_reaches_its_helpers_and_no_other_method() -> None:
    behind = reached_from(["poisonlab.defenses.puregen_ebm"]) - core_modules()

    assert "poisonlab.defenses.shared.puregen" in behind
    assert "poisonlab.defenses.puregen_ddpm" not in behind


# -- edits of files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "before", "after"),
    [
        ("context", ">> 1", ">> 2"),
        ("types", "x[self.index[trial]] = self.images[trial]", "x[self.index[trial]] = 0"),
        ("training.victims", 'generator("init")', 'generator("other")'),
    ],
    ids=["context.derive", "Poison.apply", "new_network"],
)
def test_an_edit_of_the_core_changes_its_hash(module: str, before: str, after: str) -> None:
    path = code_version.package_modules()[f"poisonlab.{module}"]
    source = path.read_text()
    assert before in source
    unchanged = core_code()

    with edited(path, source.replace(before, after)):
        assert core_code() != unchanged
    with edited(path, f"# why\n\n{source}\n"):
        assert core_code() == unchanged


def test_an_edit_of_display_changes_nothing() -> None:
    unchanged = core_code()
    with edited(code_version.package_modules()["poisonlab.ui.page"], "CHANGED = True"):
        assert core_code() == unchanged


def test_a_file_that_was_edited_since_this_process_started_is_taken_for_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unchanged = core_code()
    path = code_version.package_modules()["poisonlab.types"]
    monkeypatch.setitem(code_version._STAMPS, path, (0, 0))
    found = []
    for _ in range(2):  # two processes
        clear()
        found.append(core_code())
    monkeypatch.undo()
    clear()

    assert len({unchanged, *found}) == 3 and core_code() == unchanged


# -- methods of other packages ---------------------------------------------------------------------------

PLUGIN = {
    "__init__.py": "",
    "attack.py": "from plugin_of_test.sub import helper\nfrom poisonlab.attacks.badnets import BadNets\nimport math\n",
    "sub/__init__.py": "",
    "sub/helper.py": "from ..constants import RATE\n",
    "constants.py": "RATE = 1\n",
    "unused.py": "RATE = 2\n",
}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "plugin_of_test"
    for name, text in PLUGIN.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(code_version, "_STARTED", time.time_ns() + 10**9)  # files date from before the start
    importlib.import_module("plugin_of_test.attack")
    yield folder
    for name in [name for name in sys.modules if name.startswith("plugin_of_test")]:
        del sys.modules[name]
    clear()


def test_a_method_of_another_package_brings_its_own_code_and_the_methods_it_uses(plugin: Path) -> None:
    behind = reached_from(["plugin_of_test.attack"]) - core_modules()

    assert {name for name in behind if name.startswith("plugin_of_test")} == {
        "plugin_of_test",
        "plugin_of_test.attack",
        "plugin_of_test.constants",
        "plugin_of_test.sub",
        "plugin_of_test.sub.helper",
    }
    assert "poisonlab.attacks.badnets" in behind


@pytest.mark.parametrize(
    ("file", "counts"), [("constants.py", True), ("attack.py", True), ("unused.py", False)]
)
def test_an_edit_of_another_package_counts_where_the_method_reaches_it(
    plugin: Path, file: str, counts: bool
) -> None:
    before = method_code("plugin_of_test.attack")
    with edited(plugin / file, f"{PLUGIN[file]}EDITED = 1\n"):
        changed = method_code("plugin_of_test.attack") != before

    assert changed == counts


def test_another_package_that_was_edited_after_it_was_loaded_is_taken_for_no_other(
    plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear()
    unchanged = method_code("plugin_of_test.attack")
    helper = plugin / "constants.py"
    os.utime(helper, ns=(0, 0))  # an editor may keep the date; the time of change tells
    monkeypatch.setattr(code_version, "_STARTED", helper.stat().st_ctime_ns - 1)
    found = []
    for _ in range(2):  # two processes
        clear()
        found.append(method_code("plugin_of_test.attack"))

    assert len({unchanged, *found}) == 3


def test_a_method_whose_source_cannot_be_read_is_taken_for_no_other() -> None:
    first = method_code("typed_into_a_prompt")
    clear()

    assert method_code("typed_into_a_prompt") != first
