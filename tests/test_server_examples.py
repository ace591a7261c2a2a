"""The examples for a shared server are what the program reads."""

import shutil
import subprocess
from pathlib import Path

import pytest

from poisonlab.runner.rules import RULES, read_rules

ROOT = Path(__file__).resolve().parents[1]


def test_the_rules_of_the_documentation_are_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RULES, str(ROOT / "docs/server/rules.toml"))
    rules = read_rules()
    assert rules.person("ada@example.org").administrator and rules.waiting == 20
    assert all(name in (ROOT / "docs/server/rules.toml").read_text() for name in type(rules).model_fields)


def test_the_dockerfile_is_clean() -> None:
    hadolint = shutil.which("hadolint", path=ROOT / ".venv" / "bin") or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
