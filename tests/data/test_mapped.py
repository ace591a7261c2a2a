"""Sets that memory does not hold lie in files: the same images, and copies that take no more than what they change."""

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from poisonlab import machine
from poisonlab.cli.main import main
from poisonlab.data.base import DataError, data_fingerprint, divide, pool_to
from poisonlab.models import base
from poisonlab.models.base import channel_statistics
from poisonlab.spec.config import make_spec
from poisonlab.types import ImageSet, Poison, Splits

SHAPE = (50, 3, 16, 16)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine for which every picture is too large."""
    monkeypatch.setattr(machine, "PART_OF_MEMORY", 2**60)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for label in range(3):
        (tmp_path / "set" / str(label)).mkdir(parents=True)
        for i in range(40):
            noise = np.random.default_rng([label, i]).integers(0, 255, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "set" / str(label) / f"{i}.png")
    return tmp_path / "set"


def loaded(root: Path) -> tuple[str, Splits]:
    spec = make_spec("folder", "none", "none", overrides={"dataset.path": str(root), "dataset.size": 16})
    pool, test = spec.dataset.build().load()
    params = spec.dataset.params
    return data_fingerprint(pool, test), divide(pool, test, params, "from_scratch")  # type: ignore[arg-type]


def parts(splits: Splits) -> dict[str, ImageSet]:
    return {name: getattr(splits, name) for name in ("train", "test", "reserve", "public", "pretrain")}


def noise(shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def in_a_file(folder: Path) -> torch.Tensor:
    x = machine.new_bytes(SHAPE, folder)
    x.copy_(noise())
    return machine.filled(x)


def test_a_set_in_a_file_is_the_same_set(pictures: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint, before = loaded(pictures)
    monkeypatch.setattr(machine, "PART_OF_MEMORY", 2**60)

    kept = loaded(pictures)
    for path in (data / "folders").iterdir():
        path.unlink()
    decoded_anew = loaded(pictures)

    for found, after in (kept, decoded_anew):
        assert found == fingerprint
        for name, part in parts(after).items():
            mine = parts(before)[name]
            assert torch.equal(part.x, mine.x) and torch.equal(part.y, mine.y), name
            assert (part.split, part.classes) == (mine.split, mine.classes)


@pytest.mark.usefixtures("small_memory")
def test_a_poisoned_set_changes_nothing_but_itself(data: Path) -> None:
    x = in_a_file(data)
    train = ImageSet(x, torch.zeros(50, dtype=torch.int64), ("a", "b"))
    images = torch.full((2, 2, *SHAPE[1:]), 7, dtype=torch.uint8)
    poison = Poison(torch.tensor([[3, 40], [5, 6]]), images, torch.ones(2, 2, dtype=torch.int64))

    first, second = poison.sets(train)

    for made, rows in ((first, [3, 40]), (second, [5, 6])):
        expected = noise()
        expected[rows] = 7
        assert torch.equal(made.x, expected) and made.y.nonzero().flatten().tolist() == rows
    assert torch.equal(x, noise())


@pytest.mark.usefixtures("small_memory")
def test_what_somebody_writes_by_mistake_reaches_no_copy(data: Path) -> None:
    x = in_a_file(data)
    x[0] = 0

    assert torch.equal(machine.own_copy(x), noise())


@pytest.mark.usefixtures("small_memory")
def test_a_kept_file_is_never_written_to(pictures: Path, data: Path) -> None:
    spec = make_spec("folder", "none", "none", overrides={"dataset.path": str(pictures), "dataset.size": 16})
    pool, _ = spec.dataset.build().load()
    [path] = (data / "folders").glob("*.safetensors")
    before = path.read_bytes()

    pool.x.zero_()

    assert path.read_bytes() == before


@pytest.mark.usefixtures("small_memory")
def test_an_attack_and_a_defense_of_a_set_in_a_file(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"run --dataset folder --attack badnets --defense clp --results {tmp_path / 'r'}"
    settings = [f"dataset.path={pictures}", "dataset.size=16", "training.epochs=1"]

    code = main([*command.split(), *(word for setting in settings for word in ("--set", setting))])

    said = capsys.readouterr()
    assert code == 0 and "clean_accuracy" in said.out, said.err


@pytest.mark.usefixtures("small_memory")
def test_nothing_is_left_in_the_folder(data: Path) -> None:
    x = in_a_file(data)
    copy = machine.own_copy(x)
    del x

    assert torch.equal(copy, noise()) and list(data.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says about a process")
def test_a_copy_takes_the_pages_that_are_changed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda device: 100 * 2**20)
    shape = (10_000, 3, 64, 64)  # 117 MiB
    x = machine.new_bytes(shape, data)
    x.fill_(1)
    train = ImageSet(machine.filled(x), torch.zeros(10_000, dtype=torch.int64), ("a", "b"))
    images = torch.zeros(1, 100, *shape[1:], dtype=torch.uint8)
    poison = Poison(torch.arange(100)[None], images, torch.ones(1, 100, dtype=torch.int64))
    before = _own_pages()

    made = poison.apply(train)
    of_each_page = made.x.flatten()[::4096]

    assert int(of_each_page.max()) == 1 and int(made.x[:100].max()) == 0
    assert _own_pages() - before < 12 * 2**20  # 100 images are 1.2 MiB, all of them 117


def _own_pages() -> int:
    """Bytes of this process that no file stands for."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may not have files with holes")
def test_more_can_be_mapped_than_there_is_memory(tmp_path: Path) -> None:
    there = machine.memory_bytes(torch.device("cpu"))
    assert there is not None
    with (tmp_path / "holes").open("w+b") as file:
        file.truncate(3 * there)
        x = machine.mapped(file, 3 * there)
        x[-1] = 5

        assert x[-3:].tolist() == [0, 0, 5]
        assert machine.mapped(file, 3 * there)[-1] == 0


def test_a_full_disk_is_one_line(small_memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)

    with pytest.raises(DataError, match="No space left on device.*POISONLAB_DATA to another folder"):
        pool_to(noise(), 8)


def test_images_are_pooled_into_a_file_as_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pool_to(noise(), 8)
    monkeypatch.setattr(machine, "PART_OF_MEMORY", 2**60)

    assert torch.equal(pool_to(noise(), 8), before)


def test_statistics_of_a_large_set_are_those_of_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    before = channel_statistics(noise((700, 3, 16, 16)))
    monkeypatch.setattr(base, "COUNTED", 1)

    after = channel_statistics(noise((700, 3, 16, 16)))

    assert all(torch.allclose(a, b, rtol=1e-5) for a, b in zip(before, after, strict=True))
