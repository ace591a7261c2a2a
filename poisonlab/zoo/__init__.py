"""Small networks that come with the program: clean, attacked and repaired, to teach with and to try a detector on.

::

    import poisonlab

    network = poisonlab.zoo.load("cifar10/resnet8/badnets-0")
    print(poisonlab.zoo.about("cifar10/resnet8/badnets-0"))

A name is dataset, victim, attack and seed, and the defense where the network was repaired; ``control`` in the place of
the attack is a network that nobody attacked.
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poisonlab.models.base import Classifier
    from poisonlab.spec.config import ExperimentSpec

FOLDER = Path(__file__).parent / "networks"
SUFFIX = ".safetensors"
SUMS = "SHA256SUMS"  # of the files in the folder, as ``sha256sum`` writes them
BETWEEN = "__"  # stands for the stroke of a name in that of its file
_TOLD = ("dataset", "architecture", "attack", "defense", "model")


class NotInZoo(KeyError):
    """No network of this name is shipped; the message names those that are."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0])


class DamagedNetwork(RuntimeError):
    """The file of a network is not as it was shipped."""


def names() -> list[str]:
    """All that there are, in order."""
    found = [path.name.removesuffix(SUFFIX).replace(BETWEEN, "/") for path in FOLDER.glob(f"*{SUFFIX}")]
    return sorted(found)


def path_of(name: str) -> Path:
    """The file of a network, whose content is that which was shipped.

    Raises:
        NotInZoo: there is none of this name. DamagedNetwork: its file was changed.
    """
    if name not in names():
        raise NotInZoo(f"no network {str(name)[:80]!r} in the zoo; there are {', '.join(names())}")
    path = FOLDER / f"{name.replace('/', BETWEEN)}{SUFFIX}"
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        shipped = (path.parent / SUMS).read_text()
    except OSError as error:
        raise DamagedNetwork(
            f"{error.filename} cannot be read ({error.strerror}); install the program again"
        ) from None
    if f"{found}  {path.name}" not in shipped.splitlines():
        raise DamagedNetwork(
            f"{path} is damaged: its SHA-256 is not that in {SUMS}; install the program again"
        )
    return path


def load(name: str) -> "Classifier":
    """A network in eval mode, on the CPU: float images ``(n, c, h, w)`` in [0, 1] -> logits ``(n, classes)``.

    Raises:
        NotInZoo: there is none of this name. DamagedNetwork: its file was changed.
    """
    from poisonlab.pipeline.takeout import read_network  # noqa: PLC0415 - brings torch

    return read_network(path_of(name))


def about(name: str) -> dict[str, Any]:
    """What a network is: dataset, architecture, attack, defense, which model of its run, seed, and its rates.

    ``clean_accuracy`` and ``asr`` are shares of the test images, ``asr`` that of the attack of its run.

    Raises:
        NotInZoo: there is none of this name. DamagedNetwork: its file was changed.
    """
    header = _header(name)
    rates: dict[str, Any] = json.loads(header["rates"])
    return {key: header[key] for key in _TOLD} | rates


def spec(name: str) -> "ExperimentSpec":
    """The experiment that a network is from, by which its trigger and its poison can be had again.

    Raises:
        NotInZoo: there is none of this name. DamagedNetwork: its file was changed.
    """
    from poisonlab.spec.config import ExperimentSpec  # noqa: PLC0415 - names are listed without it

    return ExperimentSpec.model_validate_json(_header(name)["spec"])


def _header(name: str) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - names are listed without it

    path = path_of(name)
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise DamagedNetwork(f"{path} is damaged ({error}); install the program again") from None
    missing = [key for key in (*_TOLD, "rates", "spec") if key not in header]
    if missing:
        raise DamagedNetwork(f"{path} does not say its {missing[0]}; install the program again")
    return header
