"""Hashes of the package's code, as they stand in the keys of cached stages.

The code is divided in three:

- the *core*: every module that can change a number of any experiment. Its hash stands in each key.
- *methods*: the files of attacks, defenses, victims and datasets, and what only they import. A method's hash stands in
  the keys of the stages that use it, so that a new or edited method leaves the stages of all others as they are.
- *display*: a short list of rooms that only show, store or transport what was computed. No key depends on them.

A hash is of the syntax tree: comments, docstrings and layout do not count, and every version of Python gives the same.
This module imports nothing but the standard library; run as a program it prints the hash of each module.
"""

import ast
import functools
import hashlib
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGE = "poisonlab"
ROOT = Path(__file__).resolve().parents[1]
METHOD_ROOMS = ("attacks", "defenses", "models", "data")

DISPLAY = {
    "_app": "the start script and the pages, where a wheel holds them",
    "__main__": "starts the command line",
    "api": "runs experiments and reads results for programs",
    "check": "asks what was computed about networks and images that somebody brings",
    "cli": "reads arguments and prints results",
    "figures": "draws what was computed",
    "generative.ship": "a command that trains weights to ship; the training itself is in the core",
    "lens": "looks inside finished runs, in no cached stage",
    "lessons": "computes for the teaching pages, in no cached stage",
    "measure.catalogue": "names and explains metrics",
    "measure.intervals": "how sure a rate is, on pages and the board",
    "measure.recorded": "reads finished runs and checks their metrics",
    "measure.metric": "what an entry of that catalogue says",
    "multilevel": "sweeps of their own kind, in no cached stage",
    "pipeline.submission": "puts the networks of a finished run into a file",
    "pipeline.takeout": "writes what a finished run worked with as files",
    "pipeline.verify": "measures finished runs again from their weights",
    "pipeline.weights": "loads weights out of files",
    "published": "numbers from papers",
    "records.archive": "moves finished runs between folders",
    "records.differences": "compares finished runs, for pages and reports",
    "records.recorded_spec": "reads the specs of finished runs",
    "records.revision": "names the code's commit",
    "records.submission": "packs a finished run into one file",
    "records.verified": "keeps which runs were measured again",
    "records.record": "writes and reads finished runs",
    "records.writing": "locks the folder of a run",
    "report": "lays out documents of finished runs",
    "runner": "decides when and on which device a run is computed; the key holds the device",
    "spec.bibliography": "collects the papers behind a view",
    "spec.citation": "puts papers into words, for cards",
    "spec.command": "puts a spec into a line of the shell",
    "spec.describe": "puts a spec into words",
    "spec.papers": "names papers, for cards",
    "store": "indexes finished runs",
    "ui": "lays out pages and forms",
    "zoo": "hands out networks that were trained before",
    "words": "explains numbers on pages and in reports",
}


def core_code() -> str:
    """Hash of the core."""
    return _combined(core_modules())


def method_code(module: str) -> str:
    """Hash of a method's module and of what it imports, the core left out.

    Imports are followed within this package and within the module's own top-level package: a method may come from
    another distribution.
    """
    return _combined(reached_from([module]) - core_modules())


@functools.cache
def core_modules() -> frozenset[str]:
    """Names of all modules of the package but display and methods; a method's file that these import is among them."""
    modules = set(package_modules()) - {PACKAGE}
    return reached_from(name for name in modules if not _within(name, METHOD_ROOMS))


@functools.cache
def package_modules() -> dict[str, Path]:
    """Every module of the package and its file."""
    return {_module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def reached_from(modules: Iterable[str]) -> frozenset[str]:
    """Modules and all that they import, directly or not, from this package and from their own; display left out."""
    found: set[str] = set()
    queue = list(modules)
    while queue:
        name = queue.pop()
        if name not in found and not _within(name, DISPLAY):
            found.add(name)
            queue.extend(imports_of(name))
    return frozenset(found)


# -- one module -------------------------------------------------------------------------------------


@functools.cache
def module_hash(module: str) -> str:
    """Hash of what a module's code does.

    A file that cannot be read, or that was edited after this process had loaded it, gets a hash that no other process
    has: what runs here is not what stands there, and must not be taken for it.
    """
    path = _file(module)
    if path is None or _edited_since_start(path):
        return f"unknown-{uuid.uuid4().hex}"
    return source_hash(_source(path))


def source_hash(source: bytes | str) -> str:
    """Hash of a source text; see :func:`canonical`."""
    return hashlib.sha256(canonical(ast.parse(source)).encode()).hexdigest()


def _source(path: Path) -> bytes:
    """The text of a module: every source that enters a key is read here."""
    return path.read_bytes()


@functools.cache
def imports_of(module: str) -> frozenset[str]:
    """What a module imports from this package or from its own, packages on the way included."""
    path = _file(module)
    if path is None:
        return frozenset()
    wanted = {part for name in _imported_names(module, path) for part in _with_parents(name)}
    families = {PACKAGE, module.partition(".")[0]}
    wanted -= {PACKAGE}  # its own file holds the version and where the app lies
    return frozenset(name for name in wanted if name.partition(".")[0] in families and _file(name))


def _imported_names(module: str, path: Path) -> Iterator[str]:
    """Full names of all that may be a module among what a file imports, at its top or inside a function."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    yield package
    for node in ast.walk(ast.parse(_source(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) + 1 - node.level], *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _file(module: str) -> Path | None:
    """Where a module's source lies; ``None`` of a name that is no module, or none with a source."""
    top, *rest = module.split(".")
    if top == PACKAGE:
        return package_modules().get(module)
    loaded = sys.modules.get(top)
    if loaded is None:
        return None
    if not rest:
        file = getattr(loaded, "__file__", None)
        return Path(file) if file and Path(file).suffix == ".py" else None
    for folder in getattr(loaded, "__path__", []):
        place = Path(folder).joinpath(*rest)
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
    return None


def _module_name(path: Path) -> str:
    parts = [PACKAGE, *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _with_parents(name: str) -> list[str]:
    """``a.b.c`` -> ``a``, ``a.b``, ``a.b.c``."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _within(name: str, rooms: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{PACKAGE}.{room}.") for room in rooms)


def _combined(modules: Iterable[str]) -> str:
    text = "".join(f"{name}:{module_hash(name)};" for name in sorted(modules))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _edited_since_start(path: Path) -> bool:
    if path in _STAMPS:
        return _STAMPS[path] != _stamp(path)
    found = path.stat()  # of another package, which was loaded after this module
    return max(found.st_mtime_ns, found.st_ctime_ns) > _STARTED


_STARTED = time.time_ns()
_STAMPS = {
    path: _stamp(path) for path in package_modules().values()
}  # taken when this process loads the package


# -- the syntax tree as text ----------------------------------------------------------------------------

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def canonical(node: ast.AST) -> str:
    """A syntax tree as text, the same from every version of Python: like ``ast.dump``, but without docstrings, and
    without the fields that are empty or that only some versions have."""
    out: list[str] = []
    _write(node, out)
    return "".join(out)


def _write(value: object, out: list[str]) -> None:
    if isinstance(value, ast.AST):
        _write_node(value, out)
    elif isinstance(value, list):
        out.append("[")
        for item in value:
            _write(item, out)
            out.append(",")
        out.append("]")
    else:
        out.append(ascii(value))


def _write_node(node: ast.AST, out: list[str]) -> None:
    out.append(f"{type(node).__name__}(")
    for name in _fields(type(node)):
        value = getattr(node, name, None)
        if name == "body" and isinstance(node, _DOCUMENTED):
            value = _without_docstring(node.body)
        elif name == "values" and isinstance(node, ast.JoinedStr):
            value = _merged(node.values)
        elif name == "format_spec" and isinstance(value, ast.JoinedStr) and not _merged(value.values):
            value = None
        if (value is None and not isinstance(node, ast.Constant | ast.MatchSingleton)) or value == []:
            continue
        out.append(f"{name}=")
        _write(value, out)
        out.append(",")
    out.append(")")


def _fields(kind: type[ast.AST]) -> list[str]:
    """Fields in an order that no version changes; ``kind`` tells how a string was written, not what it is."""
    return sorted(set(kind._fields) - {"kind"})


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        return body[1:]
    return body


def _merged(parts: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string, texts side by side made one: versions of Python divide them differently."""
    merged: list[ast.expr] = []
    for part in parts:
        text = part.value if isinstance(part, ast.Constant) else None
        last = merged[-1] if merged else None
        if isinstance(text, str) and isinstance(last, ast.Constant) and isinstance(last.value, str):
            merged[-1] = ast.Constant(last.value + text)
        elif text != "":
            merged.append(part)
    return merged


if __name__ == "__main__":
    for _name in package_modules():
        print(_name, module_hash(_name))
