"""The shape of the house: who may import whom, what is never used, and that the core runs alone."""

import ast
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from poisonlab.cache import code_version

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "poisonlab"
FILES = sorted(PACKAGE.rglob("*.py"))
PROGRAM = [*FILES, *sorted((ROOT / "pages").glob("*.py")), ROOT / "app.py"]

# Layers from the bottom up; a module imports from its own layer and from those below only.
LAYERS: list[set[str]] = [
    {"types", "events", "registry", "machine", "context", "spec", "records", "__init__"},
    {"cache"},
    {"data", "models"},
    {"training", "measure"},
    {"words"},
    {"generative", "published", "multilevel"},
    {"attacks", "defenses"},
    {"pipeline", "lessons"},
    {"check", "lens", "zoo"},
    {"store", "figures"},
    {"report"},
    {"runner"},
    {"api", "cli", "__main__"},
    {"ui"},
]
HEAVY = {
    "streamlit": {"ui"},
    "duckdb": {"store"},
    "plotly": {"figures"},
    "pandas": {"store", "figures", "words", "report", "ui", "api"},
    "pyarrow": {"store"},
    "jinja2": {"report"},
}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path) -> set[str]:
    """Full names of all that a file imports, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names}
    return found


@functools.cache
def calls(path: Path) -> set[str]:
    """Dotted names of all that a file calls."""
    return {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}


def part_of(path: Path) -> str:
    """The first name below the package: a module, or the folder it lies in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def place(path: Path) -> str:
    return str(path.relative_to(ROOT))


def layer(part: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if part in names)


def test_every_part_has_its_layer() -> None:
    """A new module or folder has to say here who may import it."""
    assert {part_of(path) for path in FILES} <= set().union(*LAYERS)


def test_imports_point_downwards() -> None:
    upwards = [
        f"{place(path)} imports {name}"
        for path in FILES
        for name in imports(path)
        if name.startswith("poisonlab.")
        and not name.startswith("poisonlab.__")
        and layer(name.split(".")[1]) > layer(part_of(path))
    ]
    assert not upwards


def test_no_two_modules_import_each_other() -> None:
    """Nor any more in a circle, imports for type checking alone included."""
    names = code_version.package_modules()
    needed = {name: code_version.imports_of(name) - packages_of(name) - {name} for name in names}
    assert needed["poisonlab.context"] == {"poisonlab.events", "poisonlab.types"}
    while leaves := {name for name in needed if not needed[name]}:
        needed = {name: found - leaves for name, found in needed.items() if name not in leaves}
    assert not needed, f"these import each other: {sorted(needed)}"


def packages_of(module: str) -> set[str]:
    """The packages that a module lies in: importing it imports them, which is no circle."""
    parts = module.split(".")
    return {".".join(parts[:length]) for length in range(1, len(parts))}


def test_only_the_allowed_parts_import_browser_database_and_figures() -> None:
    forbidden = [
        f"{place(path)} imports {name}"
        for path in FILES
        for name in imports(path)
        if part_of(path) not in HEAVY.get(name.split(".")[0], {part_of(path)})
    ]
    assert not forbidden


def test_imports_name_the_whole_path() -> None:
    assert not [
        f"{place(path)}: {name}" for path in PROGRAM for name in imports(path) if name.startswith(".")
    ]


def test_pages_hold_no_training_and_no_sql() -> None:
    forbidden = {"duckdb", "sklearn", "poisonlab.training", "poisonlab.pipeline", "torch.nn", "torch.optim"}
    found = [
        f"{place(path)} imports {name}"
        for path in (ROOT / "pages").glob("*.py")
        for name in imports(path)
        if any(f"{name}.".startswith(f"{module}.") for module in forbidden)
    ]
    assert not found


def test_nothing_is_seeded_globally() -> None:
    seeding = {"torch.manual_seed", "torch.seed", "random.seed", "np.random.seed", "torch.cuda.manual_seed"}

    assert not [place(path) for path in PROGRAM if seeding & calls(path)]


def test_nothing_is_unpickled_or_evaluated() -> None:
    called = {"torch.load", "torch.save", "eval", "exec", "compile"}
    imported = {"pickle", "dill", "joblib", "shelve", "marshal"}

    found = [
        place(p) for p in PROGRAM if called & calls(p) or imported & {n.split(".")[0] for n in imports(p)}
    ]
    assert found == ["poisonlab/models/shared/weights_file.py"]  # weights that somebody brings
    text = (ROOT / found[0]).read_text()
    assert text.count("torch.load(") == text.count("weights_only=True)") == 1


def test_no_page_writes_html() -> None:
    """But for constants of style, which nothing from elsewhere can reach."""
    style = PACKAGE / "ui" / "theme.py"
    writing = [p for p in PROGRAM if "unsafe_allow_html" in p.read_text() or "st.html" in calls(p)]

    assert writing == [style]
    calls_of_it = [node for node in ast.walk(tree(style)) if isinstance(node, ast.Call)]
    written = [ast.unparse(node) for node in calls_of_it if ast.unparse(node.func) == "st.html"]
    assert written == ["st.html(FOCUS_RING)", "st.html(DARK_CHIPS)"]


def test_nothing_prints_but_the_command_line() -> None:
    spoken = {"cli", "__main__"}
    programs = {
        PACKAGE / "generative" / "ship.py",
        PACKAGE / "zoo" / "ship.py",
        PACKAGE / "cache" / "code_version.py",
    }
    silent = [p for p in FILES if part_of(p) not in spoken and p not in programs]

    assert not [place(path) for path in silent if "print" in calls(path)]


def test_every_random_draw_of_torch_takes_a_generator() -> None:
    drawing = {
        "rand",
        "randn",
        "randint",
        "randperm",
        "normal",
        "bernoulli",
        "multinomial",
        "normal_",
        "uniform_",
        "bernoulli_",
        "random_",
        "exponential_",
        "xavier_uniform_",
        "kaiming_normal_",
    }
    without = [
        f"{place(path)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in drawing
        if not any(keyword.arg == "generator" for keyword in node.keywords)
    ]
    assert not without


# -- how the code reads -------------------------------------------------------------------------------

LONGEST_FUNCTION = 60  # lines


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_no_function_is_longer_than_a_screen() -> None:
    lengths = {
        f"{place(path)}:{function.lineno} {function.name}": (function.end_lineno or 0) - function.lineno + 1
        for path in FILES
        for function in functions(path)
    }
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION}


def test_no_function_changes_variables_of_another() -> None:
    assert not [
        f"{place(path)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Nonlocal)
    ]


def test_conditions_assign_nothing() -> None:
    found = {
        place(path)
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If | ast.While | ast.IfExp)
        if any(isinstance(part, ast.NamedExpr) for part in ast.walk(node.test))
    }
    assert not found


def test_assignments_do_not_pack_unrelated_values() -> None:
    """``self.a, self.b = a, b`` and the like are written one to a line; a swap or a slice of both is one thought."""
    packed = [
        f"{place(path)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)
        for target in node.targets
        if isinstance(target, ast.Tuple)
        if any(isinstance(element, ast.Attribute) for element in target.elts)
    ]
    assert not packed


def test_formatting_is_hardly_ever_switched_off() -> None:
    assert sum(path.read_text().count("# fmt: skip") for path in FILES) < 30


def test_the_top_level_is_small_and_files_can_be_read_in_one_sitting() -> None:
    lengths = sorted(len(path.read_text().splitlines()) for path in FILES)

    assert len(list(PACKAGE.glob("*.py"))) <= 8
    assert lengths[len(lengths) // 2] <= 120


# -- the core alone -----------------------------------------------------------------------------------

BLOCKED = ("streamlit", "duckdb", "plotly", "pandas", "pyarrow", "jinja2")
SIZES = {
    "training.epochs": 1,
    "dataset.train_images": 60,
    "dataset.test_images": 30,
    "clean_images": 10,
    "defense.rounds": 1,
    "victim.width": 8,
}
ALONE = f"""
import json, runpy, sys
from pathlib import Path

for name in {BLOCKED!r}:
    sys.modules[name] = None  # an import of it now raises ModuleNotFoundError

from poisonlab.spec.config import make_spec
from poisonlab.context import Context
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.cache.stage_cache import StageCache

spec = make_spec("digits", "badnets", "awm", overrides={SIZES!r})
result = run_experiment(spec, Context(cache=StageCache(Path("cache"))))
print(json.dumps(result.metrics))
runpy.run_module("poisonlab", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run from Python and the same from the command line, where only the core's packages can be imported."""
    folder = tmp_path_factory.mktemp("alone")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "POISONLAB_RESULTS": str(folder),
    }
    settings = [part for name, value in SIZES.items() for part in ("--set", f"{name}={value}")]
    names = [
        "run",
        "--dataset",
        "digits",
        "--attack",
        "badnets",
        "--defense",
        "awm",
        "--device",
        "cpu",
        "--json",
    ]
    command = [sys.executable, "-c", ALONE, *names, *settings]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_the_core_runs_without_browser_database_and_figures(alone: list[str]) -> None:
    assert {"clean_accuracy", "asr", "asr_control", "asr_undefended"} <= json.loads(alone[0]).keys()


def test_the_command_line_runs_without_browser_database_and_figures(alone: list[str]) -> None:
    said = json.loads(alone[-1])

    assert said["state"] == "done" and said["metrics"] == json.loads(alone[0])
