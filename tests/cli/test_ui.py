"""``poisonlab ui`` runs ``app.py`` where it lies, with what the command line says."""

import os
import runpy
import sys
from pathlib import Path

import pytest
import streamlit as st

import poisonlab
from poisonlab.cli.main import main

STAND_IN = """
import json, os, sys
from pathlib import Path

assert __name__ == "__main__"
names = ("STREAMLIT_SERVER_PORT", "STREAMLIT_SERVER_ADDRESS", "POISONLAB_RESULTS")
Path(__file__).with_name("started.json").write_text(json.dumps([sys.argv, *map(os.environ.get, names)]))
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose ``app.py`` notes how it was started in place of serving pages."""
    (tmp_path / "app.py").write_text(STAND_IN)
    monkeypatch.setattr(poisonlab, "app_folder", lambda: tmp_path)
    monkeypatch.setattr(sys, "argv", ["poisonlab", "ui"])
    for name in ("STREAMLIT_SERVER_PORT", "STREAMLIT_SERVER_ADDRESS", poisonlab.RESULTS):
        monkeypatch.setenv(name, "")
    return tmp_path


def test_it_starts_the_app_with_port_address_and_results(app: Path) -> None:
    assert main(["ui", "--port", "8600", "--address", "0.0.0.0", "--results", str(app / "mine")]) == 0

    started = (app / "started.json").read_text()
    assert started == f'[["{app / "app.py"}"], "8600", "0.0.0.0", "{app / "mine"}"]'


def test_without_options_streamlit_keeps_its_own_settings(app: Path) -> None:
    assert main(["ui"]) == 0

    assert os.environ["STREAMLIT_SERVER_PORT"] == "" and os.environ["STREAMLIT_SERVER_ADDRESS"] == ""


def test_ctrl_c_ends_the_app_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: object, config: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(st.App, "run", interrupted)

    runpy.run_path(str(poisonlab.app_folder() / "app.py"), run_name="__main__")
