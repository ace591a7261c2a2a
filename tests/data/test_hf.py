"""Data sets of Hugging Face's library: the same pictures and labels as in a folder, nothing read from elsewhere."""

import functools
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from poisonlab import registry
from poisonlab.cli.main import main
from poisonlab.data.base import DataError, data_fingerprint
from poisonlab.data.hf import HfConfig, HuggingFace
from poisonlab.data.shared import pixels
from poisonlab.spec.config import ExperimentSpec, SpecError, make_spec
from poisonlab.types import ImageSet

datasets = pytest.importorskip("datasets", reason="the extra [hf] is not installed")
hub = pytest.importorskip("huggingface_hub")

NAMES = ("zebra", "ant", "cow")  # not in the order of the alphabet
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POISONLAB_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def picture(number: int, mode: str = "RGB", size: tuple[int, int] = (24, 20)) -> Image.Image:
    noise = np.random.default_rng(number).integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    noise[..., number % 3] += 150
    return Image.fromarray(noise).convert(mode)


def as_png(image: Image.Image, **more: Any) -> bytes:
    written = BytesIO()
    image.save(written, "PNG", **more)
    return written.getvalue()


def split(count: int, first: int = 0, label: Any = None, column: str = "label") -> Any:
    """Pictures whose label follows from their color, as ``ClassLabel`` unless said otherwise."""
    feature = label or datasets.ClassLabel(names=list(NAMES))
    numbers = range(first, first + count)
    values = {"image": [picture(i) for i in numbers], column: [i % 3 for i in numbers]}
    return datasets.Dataset.from_dict(
        values, features=datasets.Features({"image": datasets.Image(), column: feature})
    )


def saved(root: Path, splits: Mapping[str, Any] | None = None) -> Path:
    splits = splits or {"train": split(96), "test": split(30, 96)}
    datasets.DatasetDict(splits).save_to_disk(root)
    return root


def parquet(root: Path, splits: Mapping[str, Any] | None = None) -> Path:
    root.mkdir(parents=True)
    for name, part in (splits or {"train": split(96), "test": split(30, 96)}).items():
        part.to_parquet(root / f"{name}-00000-of-00001.parquet")
    return root


def image_folder(root: Path) -> Path:
    for part, numbers in (("train", range(96)), ("test", range(96, 126))):
        for i in numbers:
            (root / part / NAMES[i % 3]).mkdir(parents=True, exist_ok=True)
            picture(i).save(root / part / NAMES[i % 3] / f"{i:03d}.png")
    return root


def spec(root: Path | str, **more: Any) -> ExperimentSpec:
    overrides = {"dataset.path": str(root), "dataset.size": 16} | more
    return make_spec("hf", "badnets", "none", overrides=overrides)


def load(asked: ExperimentSpec) -> tuple[ImageSet, ImageSet]:
    train, test = asked.dataset.build().load()
    return train, test


# -- layouts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [saved, parquet])
def test_pictures_and_labels_come_back_in_the_order_of_the_file(write: Any, tmp_path: Path) -> None:
    asked = spec(write(tmp_path / "set"))

    train, test = load(asked)

    assert train.classes == NAMES  # in the order of ClassLabel
    assert train.y.tolist() == [i % 3 for i in range(96)] and len(test) == 30
    assert train.x.flatten(2).float().mean(2).argmax(1).tolist() == [i % 3 for i in range(96)]
    assert asked.dataset.params.classes == 3 and asked.dataset.params.test_images == 30  # type: ignore[attr-defined]


def test_a_folder_gives_the_same_pixels_as_the_dataset_folder(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "set")
    overrides = {"dataset.path": str(root), "dataset.size": 16}

    here, there = (load(make_spec(name, "badnets", "none", overrides=overrides)) for name in ("hf", "folder"))

    assert here[0].classes == there[0].classes == tuple(sorted(NAMES))
    assert data_fingerprint(*here) == data_fingerprint(*there)


def test_one_set_saved_without_splits_has_every_fifth_picture_for_tests(tmp_path: Path) -> None:
    split(120).save_to_disk(tmp_path / "set")

    train, test = load(spec(tmp_path / "set"))

    assert len(train) == 96 and test.y.bincount().tolist() == [8, 8, 8]


def test_validation_joins_training_unless_splits_are_named(tmp_path: Path) -> None:
    root = saved(tmp_path / "set", {"train": split(90), "validation": split(30, 90), "test": split(60, 120)})

    assert len(load(spec(root))[0]) == 120
    named = spec(root, **{"dataset.train_split": "test", "dataset.test_split": "validation"})
    assert [len(part) for part in load(named)] == [60, 30]


# -- columns and labels --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feature", "values", "classes"),
    [
        ("int64", [9, 10, 2], ("2", "9", "10")),
        ("string", ["b", "a", "c"], ("a", "b", "c")),
    ],
)
def test_labels_may_be_numbers_or_texts(
    feature: str, values: list[Any], classes: tuple[str, ...], tmp_path: Path
) -> None:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value(feature)})
    rows = {"image": [picture(i) for i in range(120)], "label": [values[i % 3] for i in range(120)]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "set")

    train, _ = load(spec(tmp_path / "set"))

    assert train.classes == classes
    colors = train.x.flatten(2).float().mean(2).argmax(1)
    assert all(train.classes[y] == str(values[color]) for y, color in zip(train.y, colors, strict=True))


def test_a_class_without_pictures_is_left_out(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["first", "second", "third", "nothing"])
    saved(tmp_path / "set", {"train": split(120, label=names)})

    assert load(spec(tmp_path / "set"))[0].classes == ("first", "second", "third")


def test_a_split_without_pictures_is_named(tmp_path: Path) -> None:
    """The library writes it, and then cannot read it."""
    empty = split(3).select([])
    root = saved(tmp_path / "set", {"train": split(96), "test": empty})

    with pytest.raises(SpecError, match=r"set/test is a split without pictures; fill it"):
        spec(root)


def test_columns_that_cannot_be_found_are_named(tmp_path: Path) -> None:
    part = split(120, column="fine").rename_column("image", "photo")
    part = part.add_column("coarse", [0, 1, 0] * 40).cast_column(
        "coarse", datasets.ClassLabel(names=["x", "y"])
    )
    part.save_to_disk(tmp_path / "set")

    with pytest.raises(SpecError, match=r"'photo', 'fine', 'coarse'.*--set dataset\.label_column"):
        spec(tmp_path / "set")
    train, _ = load(spec(tmp_path / "set", **{"dataset.label_column": "coarse"}))
    assert train.classes == ("x", "y")


def test_bytes_that_nobody_marked_as_pictures_are_found(tmp_path: Path) -> None:
    rows = {"jpg": [as_png(picture(i)) for i in range(120)], "label": [i % 3 for i in range(120)]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "set" / "train.parquet")

    assert load(spec(tmp_path / "set"))[0].y.tolist()[:3] == [0, 1, 2]


def _of_one_more(**columns: Any) -> Any:
    """A set whose last row is another."""
    rows: dict[str, Sequence[Any]] = {
        "image": [{"bytes": as_png(picture(i)), "path": None} for i in range(120)],
        "label": [i % 3 for i in range(120)],
    }
    rows = {name: [*values, columns.get(name, values[0])] for name, values in rows.items()}
    features = datasets.Features(
        {
            "image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            "label": datasets.Value("int64"),
        }
    )
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("label", None, "1 of 121 rows of the split train have no label"),
        ("label", -1, "1 of 121 rows of the split train have no label"),
        ("image", {"bytes": b"GIF89a no picture", "path": None}, r"row 120 of train \("),
        ("image", {"bytes": None, "path": None}, "row 120 of train .no picture is there"),
        ("image", {"bytes": None, "path": "/etc/passwd"}, "row 120 .*not in the folder of the data set"),
        ("image", {"bytes": None, "path": "../../secret.png"}, "row 120 .*not in the folder of the data set"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(column: str, value: Any, said: str, tmp_path: Path) -> None:
    picture(0).save(tmp_path / "secret.png")
    _of_one_more(**{column: value}).to_parquet(tmp_path / "set" / "train.parquet")

    with pytest.raises((SpecError, DataError), match=said) as caught:
        load(spec(tmp_path / "set", **{"dataset.image_column": "image"}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("column", ["number", "text", "list", "parts"])
def test_a_column_that_holds_no_files_is_one_line(column: str, tmp_path: Path) -> None:
    values = {
        "number": [7] * 120,
        "text": ["x"] * 120,
        "list": [[1, 2]] * 120,
        "parts": [{"bytes": None, "path": 7}] * 120,
    }
    rows = {"label": [i % 3 for i in range(120)], column: values[column]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "set" / "train.parquet")

    with pytest.raises(DataError, match="row 0 of train .what is there is no file of a picture"):
        load(spec(tmp_path / "set", **{"dataset.image_column": column}))


@pytest.mark.parametrize(
    ("label", "values"),
    [
        (datasets.ClassLabel(names=["ant", "zebra", "cow"]), [0, 1, 2]),  # in another order
        (datasets.Value("int64"), [0, 1, 2]),
        (datasets.Value("string"), ["zebra", "ant", "cow"]),
    ],
)
def test_splits_whose_labels_mean_other_classes_are_refused(
    label: Any, values: list[Any], tmp_path: Path
) -> None:
    features = datasets.Features({"image": datasets.Image(), "label": label})
    rows = {"image": [picture(i) for i in range(60)], "label": [values[i % 3] for i in range(60)]}
    saved(
        tmp_path / "set",
        {"train": split(120), "test": datasets.Dataset.from_dict(rows, features=features)},
    )

    with pytest.raises(SpecError, match="splits 'train', 'test' do not mean the same classes by their label"):
        spec(tmp_path / "set")
    assert load(spec(tmp_path / "set", **{"dataset.train_split": "train"}))[0].classes == NAMES


def test_a_split_without_the_column_of_the_other_is_named(tmp_path: Path) -> None:
    saved(tmp_path / "set", {"train": split(120), "test": split(60, column="other")})

    with pytest.raises(
        SpecError, match="the split test has no column 'label' as another has; it has 'image'"
    ):
        spec(tmp_path / "set")


def test_what_the_library_met_is_said_and_not_that_it_met_something(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "train"
    folder.mkdir(parents=True)
    picture(0).save(folder / "0.png")
    (folder / "metadata.csv").write_text("file_name,label\n../../../secret.png,a\n")

    with pytest.raises(SpecError, match="secret.png"):
        spec(tmp_path / "set")


# -- decoded as the dataset folder does ---------------------------------------------------------------


def _odd() -> dict[str, Image.Image]:
    """Pictures of every form that the library stores, in PNG where that can hold them."""
    clear = picture(0, "RGBA")
    clear.putalpha(0)
    deep = Image.fromarray(np.full((20, 24), 40_000, np.uint16))
    palette = picture(1).quantize(8)
    wide = picture(2, size=(60, 20))
    return {
        "clear": clear,
        "deep": deep,
        "palette": palette,
        "gray": picture(3, "L"),
        "wide": wide,
        "ink": picture(4, "CMYK"),
    }


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("name", list(_odd()))
def test_odd_pictures_are_decoded_as_files_are(name: str, fit: str, tmp_path: Path) -> None:
    image = _odd()[name]
    rows = {"image": [image, *(picture(i) for i in range(1, 120))], "label": [i % 3 for i in range(120)]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "set")
    beside = tmp_path / "files"
    for i, one in enumerate(rows["image"]):
        (beside / str(i % 3)).mkdir(parents=True, exist_ok=True)
        usable = one.convert("RGB") if one.mode == "CMYK" else one  # PNG holds no ink
        usable.save(beside / str(i % 3) / f"{i:03d}.png")

    found = [
        torch.cat([part.x for part in load(make_spec(kind, "none", "none", overrides=settings))])
        for kind, path in (("hf", tmp_path / "set"), ("folder", beside))
        for settings in [{"dataset.path": str(path), "dataset.size": 16, "dataset.fit": fit}]
    ]

    images = [{one.numpy().tobytes() for one in part} for part in found]
    assert images[0] == images[1]


def test_a_picture_turned_by_the_camera_is_turned_back(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    upright = Image.new("RGB", (16, 16), (200, 0, 0))
    upright.paste((0, 0, 200), (0, 0, 16, 8))
    turned = as_png(upright.rotate(90), exif=exif.tobytes())
    rows = {"image": [turned] * 120, "label": [i % 3 for i in range(120)]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "set" / "train.parquet")

    train, _ = load(spec(tmp_path / "set"))

    assert torch.equal(train.x[0], torch.from_numpy(np.array(upright)).permute(2, 0, 1))


def test_pictures_are_decoded_once_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = spec(parquet(tmp_path / "set"))
    train, _ = load(asked)
    with monkeypatch.context() as patch:
        patch.setattr(pixels, "opened", lambda *args: pytest.fail("decoded again"))
        assert torch.equal(load(asked)[0].x, train.x)

    split(96, 300).to_parquet(tmp_path / "set" / "train-00000-of-00001.parquet")

    assert not torch.equal(load(asked)[0].x, train.x)


def test_a_file_that_was_replaced_under_its_old_date_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "set" / "train.parquet"
    split(120).to_parquet(file)
    asked = spec(tmp_path / "set")
    before, _ = load(asked)
    date = file.stat()

    split(120, 1).to_parquet(file)
    os.utime(file, ns=(date.st_atime_ns, date.st_mtime_ns))

    after, _ = load(asked)
    assert not torch.equal(after.x, before.x)


# -- what is refused ------------------------------------------------------------------------------------


def test_nothing_outside_of_the_folder_is_read(tmp_path: Path) -> None:
    parquet(tmp_path / "other")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n"
        f"    path: {tmp_path}/other/train-00000-of-00001.parquet\n---\n"
    )

    with pytest.raises(SpecError, match="outside of its folder|cannot be read"):
        spec(tmp_path / "set")


def test_arrow_files_elsewhere_are_not_mapped(tmp_path: Path) -> None:
    split(120).save_to_disk(tmp_path / "other")
    split(120).save_to_disk(tmp_path / "set")
    state = json.loads((tmp_path / "set" / "state.json").read_text())
    state["_data_files"] = [{"filename": "../other/data-00000-of-00001.arrow"}]
    (tmp_path / "set" / "state.json").write_text(json.dumps(state))

    with pytest.raises(SpecError, match="outside of its folder"):
        spec(tmp_path / "set")


@pytest.mark.parametrize("name", ["a[1]", "a::b", "two\nlines"])
def test_a_folder_whose_name_the_library_takes_for_a_pattern_is_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="in a path for a pattern; rename the folder") as caught:
        spec(parquet(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["set.pkl", "set.csv", "set.py", "set.txt"])
def test_other_kinds_of_files_are_not_opened(name: str, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / name).write_text("image,label\na,b\n")

    with pytest.raises(SpecError, match="dataset hf: .*(only arrow|cannot be read)"):
        spec(tmp_path / "set")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dataset.path": "/nowhere/at/all"}, "is no folder"),
        ({"dataset.repo": "a/b"}, "not both"),
        ({"dataset.train_split": "extra"}, "no split 'extra'; it has 'train', 'test'"),
        ({"dataset.train_split": "test", "dataset.test_split": "test"}, "are both 'test'"),
        ({"dataset.image_column": "photo"}, "dataset.image_column='photo' is none of the columns"),
        ({"attack.target_class": 3}, "not among the 3 classes"),
    ],
)
def test_values_that_cannot_be_are_refused_early(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=said):
        spec(saved(tmp_path / "set"), **settings)


def test_without_a_place_one_line_says_what_is_missing() -> None:
    with pytest.raises(DataError, match=r"--set dataset\.path"):
        HuggingFace(HfConfig()).load()


def test_without_the_library_one_line_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)

    with pytest.raises(SpecError, match=r"datasets is not installed; pip install 'poisonlab\[hf\]'"):
        spec(tmp_path)


def test_on_a_server_it_is_for_administrators_as_folders_are() -> None:
    assert registry.dataset["hf"].by_path and registry.dataset["folder"].by_path


# -- by name ----------------------------------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as the library asks for a data set: its commit, its files, each of them."""

    def __init__(self, folder: Path, asked: list[str], *args: Any) -> None:
        self.folder = folder
        self.asked = asked
        super().__init__(*args)

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._file(False)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        if "/resolve/" in path:
            self._file(True)
        elif "/tree/" in path:
            names = [p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file()]
            self._json(
                [
                    {"type": "file", "path": n, "oid": "0" * 40, "size": (self.folder / n).stat().st_size}
                    for n in names
                ]
            )
        elif path.startswith("/api/datasets/somebody/colors"):
            self._json({"id": "somebody/colors", "sha": COMMIT, "siblings": []})
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _json(self, value: Any) -> None:
        self._send(json.dumps(value).encode(), {"Content-Type": "application/json"}, True)

    def _file(self, body: bool) -> None:
        name = self.path.partition("?")[0].partition(f"/resolve/{COMMIT}/")[2]
        if not name or not (self.folder / name).is_file():
            self.send_error(404)
            return
        etag = {"ETag": f'"{name.replace("/", "-")}"', "X-Repo-Commit": COMMIT}
        self._send((self.folder / name).read_bytes(), etag, body)

    def _send(self, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(200)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def asked_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub on this machine with one data set, and its client's cache in a folder of its own."""
    root = parquet(tmp_path / "hub" / "data").parent
    (root / "harm.py").write_text("raise SystemExit")
    (root / "harm.pkl").write_bytes(b"\x80\x04")
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Hub, root, asked))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    fetch = functools.partial(hub.snapshot_download, endpoint=address, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(hub, "snapshot_download", fetch)
    yield asked
    server.shutdown()
    server.server_close()


def test_a_name_is_fetched_at_a_commit_that_the_spec_keeps(
    asked_of_the_hub: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = spec("", **{"dataset.repo": "somebody/colors"})

    assert asked.dataset.params.commit == COMMIT  # type: ignore[attr-defined]
    assert not [path for path in asked_of_the_hub if "harm" in path and "resolve" in path]
    train, test = load(asked)
    assert (len(train), len(test), train.classes) == (96, 30, NAMES)


def test_what_was_fetched_is_read_again_without_a_network(
    asked_of_the_hub: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = spec("", **{"dataset.repo": "somebody/colors"})
    first = load(asked)
    offline = functools.partial(hub.snapshot_download, local_files_only=True)
    monkeypatch.setattr(hub, "snapshot_download", offline)

    again = spec("", **{"dataset.repo": "somebody/colors"})

    assert again == asked and data_fingerprint(*load(again)) == data_fingerprint(*first)


def test_without_a_network_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = functools.partial(
        hub.snapshot_download, endpoint="http://127.0.0.1:9", cache_dir=tmp_path / "cache"
    )
    monkeypatch.setattr(hub, "snapshot_download", nobody)

    with pytest.raises(SpecError, match=r"hub cannot be reached .*hf download a/b .*dataset\.path") as caught:
        spec("", **{"dataset.repo": "a/b"})
    assert "\n" not in str(caught.value)


def test_a_name_that_the_hub_does_not_know(asked_of_the_hub: list[str]) -> None:
    with pytest.raises(SpecError, match=r"nobody/nothing at main .*hub") as caught:
        spec("", **{"dataset.repo": "nobody/nothing"})
    assert "\n" not in str(caught.value)


# -- the whole way ----------------------------------------------------------------------------------------


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = saved(tmp_path / "set")
    command = f"run --dataset hf --attack badnets --defense clp --results {tmp_path / 'r'}"
    settings = [f"dataset.path={root}", "dataset.size=16", "training.epochs=2"]

    code = main([*command.split(), *(word for setting in settings for word in ("--set", setting))])

    said = capsys.readouterr()
    assert code == 0, said.err
    assert "clean_accuracy" in said.out
