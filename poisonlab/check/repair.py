"""A repaired network to take away, as a file that says what it is."""

import json
from pathlib import Path

from safetensors.torch import save_file

from poisonlab.models.base import Classifier


def write_network(network: Classifier, classes: tuple[str, ...], path: Path) -> None:
    """Weights under our names with their normalization, as safetensors; the victim and the classes stand in its head.

    Raises:
        OSError: the file cannot be written.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    victim = network.victim.model_dump_json() if network.victim else ""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        save_file(state, temporary, metadata={"victim": victim, "classes": json.dumps(classes)})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
