"""Networks and poisons of a run, saved from its page."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import streamlit as st
from page_helpers import Open
from safetensors.torch import load as load_bytes

from poisonlab.runner import runtime
from poisonlab.ui import takeout


def run_of(defense: str) -> str:
    return str(runtime.get().store.runs.find(defense=defense, limit=1)["run_id"][0])


def test_a_click_prepares_what_is_then_saved(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "triggers")
    assert "Prepare networks" in [button.label for button in app.button]
    saved = [button.proto.label for button in app.get("download_button")]

    next(button for button in app.button if button.label == "Prepare networks").click().run()

    assert not app.exception
    more = [button.proto.label for button in app.get("download_button")]
    assert len(more) == len(saved) + 1 and any(label.startswith("Save networks (") for label in more)


def test_the_archives_hold_networks_and_poisons(open_page: Open, filled: Path) -> None:
    open_page(filled)
    record = runtime.get().store.runs.record(run_of("awm"))

    with zipfile.ZipFile(io.BytesIO(takeout.archive(record, "networks"))) as networks:
        assert networks.namelist() == [f"{m}.safetensors" for m in ("control", "undefended", "defended")]
        assert load_bytes(networks.read("defended.safetensors"))["head.bias"].shape == (10,)
    with zipfile.ZipFile(io.BytesIO(takeout.archive(record, "poisons"))) as poisons:
        arrays = np.load(io.BytesIO(poisons.read("poison.npz")), allow_pickle=False)
        assert len(poisons.namelist()) == 1 + arrays["indices"].size


def test_a_run_that_is_not_kept_says_to_run_it_again(
    open_page: Open, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_page(filled)
    record = runtime.get().store.runs.record(run_of("awm"))
    other = record.spec.model_dump() | {"seed": 77}
    said: list[str] = []
    monkeypatch.setattr(st, "warning", said.append)

    takeout._offer(record.model_copy(update={"spec": type(record.spec).of(other)}), "networks")

    (text,) = said
    assert "run it again" in text


def test_a_folder_that_a_stranger_names_is_not_read(
    open_page: Open, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_page(filled)
    record = runtime.get().store.runs.record(run_of("awm"))
    values = json.loads(json.dumps(record.spec.model_dump()))
    values["dataset"] = {"name": "folder", "params": {"path": "/etc"}}
    said: list[str] = []
    monkeypatch.setattr(st, "info", said.append)
    monkeypatch.setattr(takeout, "archive", lambda *_: pytest.fail("it was read"))

    takeout._offer(record.model_copy(update={"spec": type(record.spec).of(values)}), "networks")

    assert said == [takeout.BY_PATH]
