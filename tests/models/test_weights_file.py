"""Files of weights as people have them: read without running anything, or refused in one line."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from poisonlab.models.shared.weights_file import WeightsError, read_weights


def net() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 3))


def prefixed(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {prefix + name: value for name, value in state.items()}


STATE = net().state_dict()
BENCH = {
    "model_name": "preactresnet18",
    "num_classes": 3,
    "model": STATE,
    "data_path": "../data",
    "img_size": (32, 32, 3),
    "clean_data": "cifar10",
    "bd_train": {"original_index_array": np.arange(5), "poison_indicator": np.zeros(5), "name": None},
    "bd_test": {"bd_data_container": {"data_dict": {3: {"path": "x.png", "other_info": (1, 0)}}}},
}
FILES: dict[str, Any] = {
    "plain": STATE,
    "data parallel": prefixed(STATE, "module."),
    "compiled": prefixed(STATE, "_orig_mod.module."),
    "state_dict": {"state_dict": prefixed(STATE, "module."), "epoch": 9, "best": 0.93},
    "model": {"model": STATE, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
    "twice": {"net": {"state_dict": STATE}},
    "BackdoorBench": BENCH,
    "beside other tensors": {"state_dict": STATE, "best": torch.tensor(0.93)},
    "averaged": {"n_averaged": torch.tensor(3), **prefixed(STATE, "module.")},
    "lightning": {"state_dict": prefixed(STATE, "model."), "epoch": 3, "hyper_parameters": {"lr": 0.1}},
    "float64": {name: value.double() if "." in name else value for name, value in STATE.items()},
}


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(torch.equal(found[name], STATE[name]) for name in STATE)


def written(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", FILES)
def test_weights_are_found_under_wrappers_and_prefixes(name: str, tmp_path: Path) -> None:
    assert same(read_weights(written(FILES[name], tmp_path / "w.pt")))


def test_the_old_format_of_torch_save_is_read(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "w.pth", _use_new_zipfile_serialization=False)

    assert same(read_weights(tmp_path / "w.pth"))


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(prefixed(STATE, "module."), tmp_path / "w.safetensors")

    assert same(read_weights(tmp_path / "w.safetensors"))


class Runs:
    """What a pickle may do to whoever opens it."""

    def __reduce__(self) -> Any:
        return os.system, ("touch opened",)


@pytest.mark.parametrize("how", ["alone", "beside weights", "plain pickle", "whole module"])
def test_a_file_that_runs_code_is_refused_and_runs_nothing(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "w.pt"
    content = {"alone": Runs(), "beside weights": {"model": STATE, "more": Runs()}, "whole module": net()}
    if how == "plain pickle":
        file.write_bytes(pickle.dumps(Runs()))
    else:
        torch.save(content[how], file)

    with pytest.raises(WeightsError, match=r"w\.pt"):
        read_weights(file)

    assert not (tmp_path / "opened").exists()


def damaged(kind: str) -> bytes:
    whole = pickle.dumps(list(range(999)))
    return {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "garbage": b"\x00garbage" * 99,
        "short": b"junk",
        "text": b"hello",
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(99),
    }[kind]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kind", ["empty", "cut", "garbage", "short", "text", "picture"])
def test_damaged_files_are_refused_in_one_line(kind: str, suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"w{suffix}"
    file.write_bytes(damaged(kind))

    with pytest.raises(WeightsError) as refused:
        read_weights(file)

    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("length", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_short_is_refused(length: float, tmp_path: Path) -> None:
    file = written(STATE, tmp_path / "w.pt")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(length * len(whole))])

    with pytest.raises(WeightsError):
        read_weights(file)


def test_no_damage_brings_anything_but_a_refusal_or_weights(tmp_path: Path) -> None:
    """Bytes changed at random, and random bytes."""
    draw = np.random.default_rng(3)
    whole = np.frombuffer(written(STATE, tmp_path / "w.pt").read_bytes(), dtype=np.uint8)
    for number in range(400):
        changed = whole.copy() if number % 2 else draw.integers(0, 255, 99).astype(np.uint8)
        changed[draw.integers(0, len(changed), 1 + number % 9)] = draw.integers(0, 255)
        file = tmp_path / f"{number}.pt"
        file.write_bytes(changed.tobytes())
        try:
            read_weights(file)
        except WeightsError as error:
            assert "\n" not in str(error)


NO_STATES: list[Any] = [
    {},
    {"epoch": 3},
    [1, 2],
    torch.ones(3),
    {"a": {"b": {"c": 1}}},
    {1: torch.ones(2)},
]


@pytest.mark.parametrize("content", NO_STATES, ids=range(len(NO_STATES)))
def test_a_file_without_a_state_dict_is_refused(content: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no state dict"):
        read_weights(written(content, tmp_path / "w.pt"))


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = {name: value.clone() for name, value in STATE.items()}
    state["3.weight"][0, 0] = float("nan")

    with pytest.raises(WeightsError, match=r"'3\.weight' holds numbers that are not finite"):
        read_weights(written(state, tmp_path / "w.pt"))


@pytest.mark.filterwarnings("ignore")  # torch says that some of these kinds are new, or old
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.eye(3, 4).to_sparse(), "no plain tensor"),
        (lambda: torch.eye(3, 4).to_sparse_csr(), "no plain tensor"),
        (lambda: torch.empty(3, 4, device="meta"), "no plain tensor"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "no plain tensor"),
        (lambda: torch.zeros(1).expand(10**6, 10**6), "fewer numbers in the file than its shape says"),
        (
            lambda: torch.ones(3, 4, dtype=torch.complex64),
            r"of torch\.complex64; save the weights as torch\.float32",
        ),
        (lambda: torch.ones(3, 4).to(torch.float8_e4m3fn), r"of torch\.float8_e4m3fn"),
        (lambda: torch.full((3, 4), 1e300, dtype=torch.float64), "not finite in float32"),
    ],
    ids=["sparse", "rows", "without numbers", "nested", "repeated", "complex", "float8", "beyond float32"],
)
def test_tensors_that_are_no_plain_numbers_are_refused(
    make: Callable[[], torch.Tensor], message: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=rf"3\.weight.* {message}"):
        read_weights(written(STATE | {"3.weight": make()}, tmp_path / "w.pt"))


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    state = {"a.weight": torch.full((2, 2), 0.5, dtype=torch.bfloat16), "a.mask": torch.tensor([True])}

    found = read_weights(written(state, tmp_path / "w.pt"))

    assert {name: value.dtype for name, value in found.items()} == {
        "a.weight": torch.float32,
        "a.mask": torch.bool,
    }


def test_a_compressed_file_is_refused_before_it_grows(tmp_path: Path) -> None:
    file = written({"a.weight": torch.zeros(10**6)}, tmp_path / "w.pt")
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)

    with pytest.raises(WeightsError, match="compressed"):
        read_weights(file)


@pytest.mark.parametrize("count", [0, 20_001])
def test_no_tensors_and_too_many_are_refused_before_they_are_read(count: int, tmp_path: Path) -> None:
    save_file({str(number): torch.zeros(0) for number in range(count)}, tmp_path / "w.safetensors")

    with pytest.raises(WeightsError, match=f"holds {count:,} tensors; weights have from 1 to 20,000"):
        read_weights(tmp_path / "w.safetensors")


def test_a_missing_file_a_folder_and_a_device_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        read_weights(tmp_path / "none.pt")
    with pytest.raises(WeightsError, match="no file"):
        read_weights(tmp_path)
    with pytest.raises(WeightsError, match="no file"):
        read_weights(Path("/dev/zero"))
