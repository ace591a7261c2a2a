"""Datasets: the division, pooling, and errors that say which file, what was expected and what to do."""

import dataclasses
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from core_helpers import block_network, loaded, noise_images
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch.nn import functional as F

from poisonlab.context import derive
from poisonlab.data import cifar10
from poisonlab.data.base import (
    DataError,
    DivisionConfig,
    balanced_order,
    clean_subset,
    data_fingerprint,
    data_folder,
    divide,
    pool_to,
    proportional_order,
)
from poisonlab.data.shared import tensor_file
from poisonlab.spec.config import DatasetPart, Protocol
from poisonlab.types import ImageSet


def numbered(n: int, classes: int = 5) -> ImageSet:
    """Images that are told apart by their pixels; labels in no order."""
    x = torch.arange(n).view(n, 1, 1, 1).expand(n, 4, 1, 1)
    digits = torch.stack([x[:, i] // 256**i % 256 for i in range(4)], 1).to(torch.uint8)
    y = torch.randint(classes, (n,), generator=derive(0, "labels"))
    return ImageSet(digits, y, tuple(map(str, range(classes))))


def number_of(data: ImageSet) -> set[int]:
    return {int.from_bytes(bytes(row), "little") for row in data.x.flatten(1).tolist()}


def test_the_fingerprint_of_data_changes_with_each_of_its_parts() -> None:
    pool, test = numbered(30), numbered(20)
    pixel, label = pool.x.clone(), pool.y.clone()
    pixel[7, 0, 0, 0] ^= 1
    label[7] = (label[7] + 1) % 5
    named = ("a", *pool.classes[1:])
    others = [
        (pool, test),
        (dataclasses.replace(pool, x=pixel), test),
        (dataclasses.replace(pool, y=label), test),
        (dataclasses.replace(pool, classes=named), test),
        (pool[torch.arange(29)], test),
        (pool, test[torch.arange(19)]),
        (test, pool),
    ]
    assert len({data_fingerprint(*pair) for pair in others}) == len(others)
    assert data_fingerprint(pool, test) == data_fingerprint(numbered(30), numbered(20))


counts = st.integers(20, 120)
maybe = st.integers(0, 120)


@given(counts, counts, counts, maybe, maybe, st.sampled_from(get_args(Protocol)))
def test_any_division_keeps_the_attacked_images_apart(
    train: int, head: int, pretrain: int, reserve: int, public: int, protocol: Any
) -> None:
    config = DivisionConfig(
        train_images=train,
        head_images=head,
        pretrain_images=pretrain,
        reserve_images=reserve,
        public_images=public,
        test_images=20,
    )
    splits = divide(numbered(400), numbered(30), config, protocol)
    parts = {p: number_of(getattr(splits, p)) for p in ("train", "reserve", "public", "pretrain")}

    transfer = protocol != "from_scratch"
    assert [len(parts[p]) for p in parts] == [
        head if transfer else train,
        reserve,
        public,
        pretrain * transfer,
    ]
    assert not parts["train"] & (parts["reserve"] | parts["public"] | parts["pretrain"])
    assert not parts["reserve"] & parts["pretrain"]


def test_too_many_images_name_the_numbers_and_the_parameters() -> None:
    config = DivisionConfig(train_images=90, reserve_images=20, public_images=30, test_images=20)
    with pytest.raises(
        DataError, match="ask for 120 training and 20 test images, .* has 100 and 30; lower train_im"
    ):
        divide(numbered(100), numbered(30), config, "from_scratch")


def test_too_many_test_images_name_the_numbers() -> None:
    config = DivisionConfig(train_images=20, reserve_images=0, public_images=0, test_images=31)
    with pytest.raises(DataError, match="31 test images, but the dataset has 100 and 30"):
        divide(numbered(100), numbered(30), config, "from_scratch")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(0, 9))
def test_every_prefix_of_a_balanced_order_is_balanced(labels: list[int], seed: int) -> None:
    y = torch.tensor(labels)
    order = balanced_order(y, derive(seed, "order"))
    total = torch.bincount(y, minlength=5)

    assert sorted(order.tolist()) == list(range(len(y)))
    for end in range(1, len(y) + 1):
        have = torch.bincount(y[order[:end]], minlength=5)
        unfinished = have[have < total]
        assert not len(unfinished) or int(have.max() - unfinished.min()) <= 1


@given(st.lists(st.integers(1, 60), min_size=2, max_size=6), st.integers(0, 9))
def test_every_stretch_of_a_proportional_order_has_the_shares_of_the_whole(
    sizes: list[int], seed: int
) -> None:
    y = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    order = proportional_order(y, derive(seed, "order"))
    prefixes = F.one_hot(y[order], len(sizes)).cumsum(0)  # (n, classes)
    expected = torch.arange(1, len(y) + 1)[:, None] * torch.tensor(sizes) / len(y)

    assert sorted(order.tolist()) == list(range(len(y)))
    assert (prefixes - expected).abs().max() <= 1 + len(sizes) / 2


def test_equal_classes_are_divided_alike_in_both_orders() -> None:
    y = torch.arange(60) % 6

    assert torch.equal(proportional_order(y, derive(1)), balanced_order(y, derive(1)))


def test_trusted_images_are_balanced_and_depend_on_the_seed() -> None:
    reserve = noise_images(100, classes=5)
    first, other = (clean_subset(reserve, 20, derive(s, "clean")) for s in (0, 1))

    assert torch.bincount(first.y).tolist() == [4] * 5
    assert not torch.equal(first.x, other.x)


def test_too_many_trusted_images_name_the_numbers() -> None:
    with pytest.raises(
        DataError, match="clean_images=101 asks for more than the 100 images in reserve; lower"
    ):
        clean_subset(noise_images(100), 101, derive(0))


def test_pooling_averages_squares_and_rounds() -> None:
    x = torch.tensor([[0, 1, 10, 20], [2, 4, 30, 41]], dtype=torch.uint8).repeat(2, 1)[None, None]

    assert pool_to(x, 2).tolist() == [[[[2, 25], [2, 25]]]]


def test_pooling_to_the_same_side_changes_nothing() -> None:
    x = noise_images().x

    assert pool_to(x, 8) is x


def test_pooling_to_no_divisor_names_both_sides() -> None:
    with pytest.raises(DataError, match="side 32 cannot be pooled to 12; choose a divisor of 32"):
        pool_to(torch.zeros(1, 1, 32, 32, dtype=torch.uint8), 12)


def test_images_of_another_type_are_refused_with_what_came() -> None:
    with pytest.raises(ValueError, match=r"uint8 \(n, c, h, w\); got torch.float32 \(2, 1, 4, 4\)"):
        ImageSet(torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64), ("a",))


def test_labels_of_another_length_are_refused_with_what_came() -> None:
    with pytest.raises(ValueError, match=r"int64 \(2,\); got torch.int64 \(3,\)"):
        ImageSet(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), ("a",))


# -- digits -------------------------------------------------------------------------------------------


def test_digits_are_all_there_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, test, _ = loaded("digits", monkeypatch, size=12)

    assert (len(pool), len(test), pool.shape) == (1400, 397, (1, 12, 12))


# -- CIFAR-10 files -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder on a machine without a network."""
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path))
    block_network(monkeypatch)
    return tmp_path


def refused() -> str:
    with pytest.raises(DataError) as caught:
        cifar10.Cifar10(cifar10.Cifar10Config()).load()
    return str(caught.value)


def test_the_data_folder_is_the_one_the_environment_names(folder: Path) -> None:
    assert data_folder() == folder


def test_missing_files_name_the_folder_and_what_to_put_there(folder: Path) -> None:
    said = refused()

    assert (
        f"neither complete in {folder / 'cifar-10-batches-py'}" in said and "do not use the network" in said
    )
    assert "put the official cifar-10-batches-py folder there, or set POISONLAB_DATA" in said


def test_a_corrupt_archive_is_not_taken_for_data(folder: Path) -> None:
    batches = folder / "cifar-10-batches-py"
    batches.mkdir()
    for name in ("data_batch_1", "test_batch", "batches.meta"):
        (batches / name).write_bytes(b"not a batch")

    assert "neither complete in" in refused()
    assert not (folder / cifar10.FILE.name).exists()


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"{}"], ids=["empty", "zeros", "text"])
def test_a_damaged_tensor_file_says_to_delete_it(folder: Path, content: bytes) -> None:
    (folder / cifar10.FILE.name).write_bytes(content)
    said = refused()

    assert f"{folder / cifar10.FILE.name} is damaged" in said and "delete" in said and "rebuilt" in said


def small_tensors() -> dict[str, torch.Tensor]:
    x, y = torch.zeros(3, 3, 32, 32, dtype=torch.uint8), torch.zeros(3, dtype=torch.uint8)
    return {"train_x": x, "train_y": y, "test_x": x.clone(), "test_y": y.clone()}


def test_a_truncated_tensor_file_says_to_delete_it(folder: Path) -> None:
    path = folder / cifar10.FILE.name
    save_file(small_tensors(), path)
    path.write_bytes(path.read_bytes()[:-10])

    assert "is damaged" in refused()


def test_a_tensor_file_without_a_part_names_it(folder: Path) -> None:
    tensors = small_tensors()
    del tensors["test_y"]
    save_file(tensors, folder / cifar10.FILE.name)

    assert "lacks 'test_y'" in refused()


def test_other_pixels_are_recognised_by_their_hash(folder: Path) -> None:
    save_file(small_tensors(), folder / cifar10.FILE.name)
    said = refused()

    assert "SHA-256" in said and f"expected {str(cifar10.FILE.sha256)[:12]}" in said


def test_the_second_load_reads_the_tensor_file_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, made = small_tensors(), []
    monkeypatch.setattr(cifar10, "FILE", dataclasses.replace(cifar10.FILE, sha256=None))
    monkeypatch.setattr(cifar10, "tensors_of", lambda archive, title, root: made.append(root) or tensors)

    first, again = (cifar10.Cifar10(cifar10.Cifar10Config(size=16)).load() for _ in range(2))

    assert made == [folder] and torch.equal(first[0].x, again[0].x)
    assert first[0].shape == (3, 16, 16) and first[1].split == "test"


def test_a_folder_that_cannot_be_written_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").write_text("in the way")
    monkeypatch.setenv("POISONLAB_DATA", str(folder / "file"))

    assert "cannot keep CIFAR-10 under" in refused()


def test_a_full_disk_is_told_from_a_missing_archive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr(cifar10, "tensors_of", lambda archive, title, root: small_tensors())
    monkeypatch.setattr(tensor_file, "save_file", full)

    assert "No space left on device; free 400 MB there or set POISONLAB_DATA" in refused()


def test_real_cifar10_has_its_known_first_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded("cifar10", monkeypatch)  # makes the tensor file where only the archive is
    pool, test, _ = loaded("cifar10", monkeypatch, size=32)

    assert (len(pool), len(test), pool.shape) == (50_000, 10_000, (3, 32, 32))
    assert pool.y[:5].tolist() == [6, 9, 9, 4, 1] and test.y[:5].tolist() == [3, 8, 8, 0, 6]


def test_a_dataset_part_builds_its_loader() -> None:
    assert DatasetPart(name="digits", params={"size": 8}).build().config.size == 8
