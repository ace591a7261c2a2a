"""What a run sets on its machine."""

from collections.abc import Iterator

import pytest
import torch

from poisonlab import machine


@pytest.fixture
def arithmetic() -> Iterator[None]:
    precision = torch.get_float32_matmul_precision()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = fill
    torch.set_float32_matmul_precision(precision)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_gpu_is_told_to_give_the_same_numbers_each_time(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")

    machine.settle_arithmetic(torch.device(kind))

    gpu = kind == "cuda"
    assert torch.are_deterministic_algorithms_enabled() == gpu
    assert torch.is_deterministic_algorithms_warn_only_enabled() == gpu
    assert torch.get_float32_matmul_precision() == ("high" if gpu else "highest")


def test_memory_is_kept_and_given_back_without_harm() -> None:
    machine.keep_memory()
    x = torch.ones(1 << 22)
    assert float(x.sum()) == 1 << 22
    machine.release_memory()
    assert float(x.sum()) == 1 << 22
