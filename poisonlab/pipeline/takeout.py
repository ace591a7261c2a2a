"""What a run worked with, as files for other programs: its networks, and its poisons as pictures and as arrays."""

import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from poisonlab.models.base import Classifier
from poisonlab.models.shared.weights_file import WeightsError
from poisonlab.pipeline.reopen import NotKept, Opened, reopen
from poisonlab.pipeline.weights import load_network
from poisonlab.records.record import RunRecord
from poisonlab.records.recorded_spec import NotRunnable
from poisonlab.spec.config import VictimPart
from poisonlab.types import ImageSet

INPUT = "float images (n, c, h, w) in [0, 1]; the first layer subtracts mean and divides by std"


def open_run(record: RunRecord, cache: Path) -> Opened:
    """A recorded run, opened again.

    Args:
        cache: the folder of the stage cache.

    Raises:
        NotKept: its stages are not there, or its spec is none of today's; says what to do.
        DataError: the dataset cannot be loaded.
    """
    try:
        spec = record.spec.experiment()
    except NotRunnable as error:
        raise NotKept(f"the networks of this run cannot be built here: {error}") from None
    return reopen(spec, cache, "cpu" if record.device == "cpu" else "auto")


def network_files(opened: Opened, run_id: str) -> Iterator[tuple[str, bytes]]:
    """The first trial's control, undefended and defended victim, each a safetensors file by its name.

    Its metadata say what it is: see :func:`about_network`.
    """
    for model, victims in opened.victims.items():
        network = victims.member(0)
        yield f"{model}.safetensors", network_file(network, about_network(opened, model, network, run_id))


def about_network(opened: Opened, model: str, network: Classifier, run_id: str) -> dict[str, str]:
    """What a program needs to build a network and to feed it; lists and objects are JSON."""
    spec = opened.spec
    of_run = {"run_id": run_id, "model": model, "trial": "0", "dataset": spec.dataset.name}
    return of_run | described(network, spec.victim, opened.attacked.splits.train)


def described(network: Classifier, victim: VictimPart, images: ImageSet) -> dict[str, str]:
    """What a network is by itself.

    Args:
        images: of the shape and of the classes that it is for.
    """
    normalize = network.normalize
    return {
        "architecture": victim.name,
        "victim": victim.model_dump_json(),
        "image": json.dumps(images.shape),
        "classes": json.dumps(images.classes),
        "mean": json.dumps(normalize.mean.flatten().tolist()),
        "std": json.dumps(normalize.std.flatten().tolist()),
        "logit_scale": json.dumps(network.logit_scale),
        "input": INPUT,
    }


def network_file(network: Classifier, about: dict[str, str]) -> bytes:
    """Weights with their normalization as a safetensors file, whose head says what they are."""
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    return save(state, metadata=about)


def read_network(path: Any) -> Classifier:
    """A network that :func:`network_files` wrote, on the CPU, in eval mode.

    Raises:
        WeightsError: it is not such a file, or its weights do not fit the network that it names.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        victim = VictimPart.model_validate_json(about["victim"])
        c, h, w = json.loads(about["image"])
        classes = len(json.loads(about["classes"]))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} is not a network that was exported here: {str(error)[:200]}") from None
    return load_network(victim, (c, h, w), classes, state)


def poison_files(opened: Opened) -> Iterator[tuple[str, bytes]]:
    """``poison.npz``, and each poisoned image as a PNG of its own pixels.

    A picture is named by its trial, its row in the training set, and its label before and after.
    """
    arrays = poison_arrays(opened)
    yield "poison.npz", _npz(arrays)
    trials, budget = arrays["indices"].shape
    for trial in range(trials):
        for place in range(budget):
            row = arrays["indices"][trial, place]
            before = arrays["original_labels"][trial, place]
            after = arrays["labels"][trial, place]
            name = f"trial{trial:03d}/row{row:06d}-class{before}-labeled{after}.png"
            yield name, as_png(arrays["images"][trial, place])


def poison_arrays(opened: Opened) -> dict[str, np.ndarray]:
    """Everything that the attack changed in the training set; ``t`` trials of ``k`` images.

    Returns:
        ``indices`` int64 ``(t, k)``, rows of the training set as the run divided it; ``images`` uint8
        ``(t, k, c, h, w)``; ``labels`` and ``original_labels`` int64 ``(t, k)``; ``original_images`` as ``images``;
        ``classes``, the names of the labels.
    """
    poison = opened.attacked.poison
    train = opened.attacked.splits.train
    return {
        "indices": _array(poison.index),
        "images": _array(poison.images),
        "labels": _array(poison.labels),
        "original_images": _array(train.x[poison.index]),
        "original_labels": _array(train.y[poison.index]),
        "classes": np.array(train.classes),
    }


def zipped(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Files by their names as one ZIP archive, stored: weights and pictures hardly shrink."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, raw in files:
            archive.writestr(name, raw)
    return file.getvalue()


def as_png(image: np.ndarray) -> bytes:
    """uint8 ``(c, h, w)`` as a PNG file of its own size, gray where there is one channel."""
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()


def _array(values: Tensor) -> np.ndarray:
    found: np.ndarray = values.detach().to(torch.device("cpu")).numpy()
    return found


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()
