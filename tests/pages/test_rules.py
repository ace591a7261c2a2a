"""Rules that hold for every line of the pages."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from poisonlab.ui import charts, glossary, navigation
from poisonlab.ui.wording import duration, escape, number, percent, score

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([ROOT / "app.py", *(ROOT / "pages").glob("*.py"), *(ROOT / "poisonlab").rglob("*.py")])
PAGES = sorted((ROOT / "pages").glob("*.py"))


@pytest.mark.parametrize(
    "pattern",
    [
        "unsafe_allow_html",
        "unsafe_allow_javascript",
        r"components\.v1",
        "use_container_width",
    ],
)
def test_no_source_contains(pattern: str) -> None:
    found = [path.name for path in SOURCES if re.search(pattern, path.read_text())]

    assert not found


@pytest.mark.parametrize("pattern", [r"st\.html\(", "<style"])
def test_only_the_theme_says_how_the_browser_draws(pattern: str) -> None:
    found = [path.name for path in SOURCES if re.search(pattern, path.read_text())]

    assert found == ["theme.py"]


def calls(names: set[str]) -> list[tuple[str, str, dict[str | None, ast.expr]]]:
    """Of every call of a method of these names: the file, the method, and what it is given by keyword."""
    return [
        (path.name, call.func.attr, {k.arg: k.value for k in call.keywords})
        for path in SOURCES
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in names
    ]


def test_segments_are_drawn_in_one_place_which_knows_what_an_empty_link_means() -> None:
    drawn = [path.name for path in SOURCES if ".segmented_control(" in path.read_text()]

    assert drawn == ["link.py"]


def test_figures_are_shown_in_one_place_which_saves_drawings_and_sends_nothing_away() -> None:
    drawn = [path.name for path in SOURCES if ".plotly_chart(" in path.read_text()]

    assert drawn == ["charts.py"]
    assert charts.tools("curve-2026/seed 1") == {
        "toImageButtonOptions": {"format": "svg", "filename": "poisonlab_curve_2026_seed_1"},
        "showSendToCloud": False,
        "plotlyServerURL": "",
    }


def test_images_are_sent_without_loss() -> None:
    for file, _, options in calls({"image"}):
        assert ast.literal_eval(options["output_format"]) == "PNG", file
        assert "alt" in options, file


def test_charts_and_tables_have_a_text_alternative() -> None:
    for file, method, options in calls({"plotly_chart", "dataframe", "mermaid_chart", "line_chart"}):
        assert "alt" in options, f"{file}: {method}"


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_pages_hold_no_sql_and_no_bare_expression(path: Path) -> None:
    text = path.read_text()

    assert not re.search(r"\bSELECT\b|\bINSERT\b|duckdb", text)
    for node in ast.parse(text).body[1:]:
        assert not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call)


def test_every_page_file_is_in_the_navigation_and_the_other_way_round() -> None:
    listed = {name for section in navigation.PAGES.values() for name, _, _ in section}

    assert listed == {path.stem for path in PAGES}


def test_the_frame_imports_no_torch() -> None:
    code = "import sys; from poisonlab.ui import navigation, notices; print('torch' in sys.modules)"

    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "False"


BEFORE_TORCH = [path or "home" for path in navigation.WITHOUT_TORCH]
VISIT = f"""
import sys
from streamlit.testing.v1 import AppTest
app = AppTest.from_file({str(ROOT / "poisonlab" / "ui" / "main.py")!r}, default_timeout=60).run()
for name in {BEFORE_TORCH!r}:
    app.switch_page(f"../../pages/{{name}}.py").run()
    print("visited", name, app.exception, app.title[0].value, "torch" in sys.modules)
"""


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A line a page, all opened in a process of their own, on the results that ship with the program.

    One process for all: what no page has imported at the end, none of them imports.
    """
    results = str(tmp_path_factory.mktemp("results"))
    environment = os.environ | {"POISONLAB_RESULTS": results, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(
        [sys.executable, "-c", VISIT], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return said.stdout.splitlines()


@pytest.mark.parametrize("name", BEFORE_TORCH)
def test_a_page_that_stands_before_torch_is_loaded_imports_none(visited: list[str], name: str) -> None:
    title = "PoisonLab" if name == "home" else navigation.title(name)

    assert f"visited {name} ElementList() {title} False" in visited


def test_figures_import_no_streamlit() -> None:
    for path in (ROOT / "poisonlab" / "figures").glob("*.py"):
        assert "streamlit" not in path.read_text(), path.name


@pytest.mark.parametrize(
    "name",
    [
        "clean_accuracy",
        "asr",
        "asr_control",
        "poison_success_undefended",
        "accuracy_loss_undefended",
        "der",
        "psnr",
        "clean_accuracy_retrained",
        "energy",
    ],
)
def test_metrics_are_defined(name: str) -> None:
    assert len(glossary.help_for(name)) > 40
    assert "see its file" not in glossary.help_for(name)


def test_success_says_that_lower_is_better() -> None:
    for name in ("asr", "poison_success", "success"):
        assert "Lower is better under a defense" in glossary.help_for(name)
    assert "Lower is better" in glossary.help_for("accuracy_loss")


def test_markdown_is_taken_literally() -> None:
    assert escape("[x](http://y) :red[z] *b* $e$") == r"\[x\]\(http\://y\) \:red\[z\] \*b\* \$e\$"


def test_numbers_read_as_people_write_them() -> None:
    assert [percent(0.9896), percent(None), percent(float("nan"))] == ["99.0 %", "–", "–"]
    assert [duration(0.4), duration(200), duration(7500), duration(None)] == [
        "0 s",
        "3 min 20 s",
        "2 h 5 min",
        "–",
    ]
    assert [number(1e-8), number(999.6), number(-1234.5), number(None)] == ["1e-08", "1000", "-1234", "–"]


def test_a_score_next_to_nothing_says_so_and_one_just_below_one_is_not_one() -> None:
    shown = [score(value) for value in (1.9e-17, -1e-9, 0.0, 0.2742, 0.9998718, 0.9995, 1.0, 12.5, None)]
    assert shown == ["< 0.001", "> −0.001", "0", "0.274", "0.99987", "0.99950", "1", "12.5", "–"]
