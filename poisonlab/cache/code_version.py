"""Versions of the package's own code: which modules a result rests on, and the hash of what they do."""

import ast
import functools
import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Iterable

# Source of these modules carries results from place to place but never changes a number.
_PLUMBING = {"config", "registry", "events", "context", "stages", "versions", "partial", "artifacts", "types"}


@functools.cache
def modules_behind(module_name: str) -> frozenset[str]:
    """The package's own modules that ``module_name`` imports, itself included, plumbing left out."""
    found: set[str] = set()
    queue = [module_name]
    while queue:
        name = queue.pop()
        if name in found or name.rpartition(".")[2] in _PLUMBING or not name.startswith("poisonlab."):
            continue
        module = importlib.import_module(name)
        if module.__name__ != name or not hasattr(module, "__file__"):
            continue
        found.add(name)
        for node in ast.walk(_tree(name)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("poisonlab"):
                queue.append(node.module or "")
                queue.extend(
                    f"{node.module}.{a.name}" for a in node.names if _is_module(f"{node.module}.{a.name}")
                )
            elif isinstance(node, ast.Import):
                queue.extend(a.name for a in node.names if a.name.startswith("poisonlab."))
    return frozenset(found)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@functools.cache
def _tree(module_name: str) -> ast.Module:
    return ast.parse(inspect.getsource(importlib.import_module(module_name)))


@functools.cache
def _module_hash(module_name: str) -> str:
    """Hash of a module's code; comments, docstrings and layout do not count."""
    tree = ast.parse(inspect.getsource(importlib.import_module(module_name)))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body[0] = ast.Expr(ast.Constant(""))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def code_version(objects: Iterable[object]) -> str:
    """Hash of the source of the modules that define ``objects`` and of all they import from the package."""
    names: set[str] = set()
    for item in objects:
        names |= modules_behind(inspect.getmodule(item).__name__)  # type: ignore[union-attr]
    text = "".join(f"{n}:{_module_hash(n)};" for n in sorted(names))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
