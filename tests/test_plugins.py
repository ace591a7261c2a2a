"""Methods of other distributions: found by their entry point, refused where they would replace one, never the end."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from poisonlab import registry
from poisonlab.cli import doctor
from poisonlab.registry import plugins
from poisonlab.spec.config import make_spec

METHOD = """
from poisonlab.attacks.base import Attack
from poisonlab.registry import Card, attack
from poisonlab.spec.config import Config


@attack("{name}")
class Mine(Attack):
    Config = Config
    card = Card(title="Mine", summary="A method of another package.")
"""

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """``install(name, source)`` makes a distribution of one module; registries are as before at the end."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_plugins", None)
    for methods in registry.KINDS.values():
        methods.load_own()
    before = {kind: methods.items() for kind, methods in registry.KINDS.items()}
    installed: list[str] = []

    def make(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)
        info = tmp_path / f"{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[poisonlab.methods]\n{name} = {name}\n")
        installed.append(name)

    yield make
    for kind, items in before.items():
        registry.KINDS[kind].restore(items)
    for name in installed:
        sys.modules.pop(name, None)


def test_without_other_packages_there_are_no_plugins(install: Install) -> None:
    assert plugins() == ()


def test_a_method_of_another_package_is_found_by_name(install: Install) -> None:
    install("pl_mine", METHOD.format(name="mine"))

    assert "mine" in registry.attack
    assert registry.attack["mine"].card.title == "Mine"
    assert [(p.distribution, p.methods) for p in plugins()] == [("pl_mine 1.2", ("attack mine",))]
    assert doctor._plugins() == (True, "pl_mine 1.2: attack mine")


def test_a_name_that_exists_is_refused_and_what_came_with_it_is_left_out(install: Install) -> None:
    own = registry.attack["badnets"]
    registry._plugins = None
    install("pl_thief", METHOD.format(name="extra") + METHOD.format(name="badnets"))

    assert registry.attack["badnets"] is own and "extra" not in registry.attack
    (plugin,) = plugins()
    assert plugin.problem == (
        "plugin pl_thief of pl_thief 1.2 is left out: ValueError: attack 'badnets' is registered twice"
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("def broken(:", "SyntaxError: "),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (
            METHOD.format(name="mute").replace("    card =", "    other ="),
            "TypeError: attack 'mute' has no card",
        ),
        (
            METHOD.format(name="mute") + "    def threat(self, poison, classes): ...",
            "TypeError: Mine.threat must be annotated with what it returns, such as -> Backdoor",
        ),
    ],
)
def test_a_broken_plugin_is_named_in_one_line_and_the_others_work(
    install: Install, source: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", logger="poisonlab")  # the command line silences it
    install("pl_broken", source)
    install("pl_works", METHOD.format(name="mine"))

    assert "mine" in registry.attack and "mute" not in registry.attack
    broken, works = plugins()
    assert f"pl_broken 1.2 is left out: {said}" in broken.problem and "\n" not in broken.problem
    assert broken.problem in caplog.text and not works.problem
    fine, text = doctor._plugins()
    assert not fine and broken.problem in text and "pl_works 1.2: attack mine" in text


def test_a_plugin_may_look_methods_up_while_it_is_imported(install: Install) -> None:
    source = "from poisonlab import registry\nassert 'awm' in registry.defense\n"
    install("pl_curious", source + METHOD.format(name="mine"))

    assert "mine" in registry.attack


@pytest.mark.parametrize("presets", [None, {"quick": {"clean_images": 7}}])
def test_a_dataset_without_presets_gets_those_that_suit_its_size(
    presets: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Drawn(registry.dataset["digits"]):  # type: ignore[misc]
        pass

    monkeypatch.delattr(registry.dataset["digits"], "presets")
    if presets is not None:
        Drawn.presets = presets
    monkeypatch.setitem(registry.dataset._items, "drawn", Drawn)
    monkeypatch.setattr(Drawn, "name", "drawn")

    spec = make_spec("drawn", "badnets", "none")

    assert spec.victim.name == "resnet8" and spec.training.epochs >= 10
    assert spec.clean_images == (7 if presets else 120)
