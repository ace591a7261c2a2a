"""A repaired network to take away, as a file that says what it is."""

import json
from pathlib import Path

from safetensors.torch import save

from poisonlab.models.base import Classifier
from poisonlab.pipeline.takeout import INPUT
from poisonlab.records.record import write_atomically
from poisonlab.types import ImageSet


def network_file(network: Classifier, images: ImageSet) -> bytes:
    """Weights under our names with their normalization, as safetensors; what they belong to stands in the file's head.

    :func:`~poisonlab.pipeline.takeout.read_network` builds the network from it.

    Args:
        images: of the shape and of the classes that the network is for.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    about = {
        "victim": network.victim.model_dump_json() if network.victim else "",
        "image": json.dumps(images.shape),
        "classes": json.dumps(images.classes),
        "input": INPUT,
    }
    return save(state, metadata=about)


def write_network(network: Classifier, images: ImageSet, path: Path) -> None:
    """The same, kept.

    Raises:
        OSError: the file cannot be written.
    """
    write_atomically(path, network_file(network, images))
