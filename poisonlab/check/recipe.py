"""How the networks of a check are trained: as a victim usually is on a set of that size."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from poisonlab import registry
from poisonlab.spec.config import ExperimentSpec, Preset, TrainingConfig, make_spec, preset_of
from poisonlab.spec.suited import presets_of
from poisonlab.types import ImageSet

STAND_IN = "folder"  # a dataset that fits images of any number, for a spec that needs one


@dataclass(frozen=True)
class Recipe:
    """What decides the networks of a check.

    Attributes:
        preset: of the victim and of the detectors.
        kind: the dataset whose detectors' values are taken; ``folder`` of pictures that no dataset describes.
        victim: name of the network.
        training: values of :class:`~poisonlab.spec.config.TrainingConfig`.
        precision: autocast type of training.
    """

    preset: Preset
    kind: str
    victim: str
    training: Mapping[str, Any]
    precision: str

    def spec(self, defense: str, seed: int, trusted: int = 0) -> ExperimentSpec:
        """A run without an attack, in which a defense looks at the victim.

        Args:
            trusted: images that the defense is granted.
        """
        own = registry.defense[defense].Config.for_preset(self.preset, self.kind)
        values = {f"training.{name}": value for name, value in self.training.items()}
        values |= {f"defense.{name}": value for name, value in own.model_dump().items()}
        if isinstance(own, TrainingConfig):  # networks that the detector trains learn as the victim does
            values |= {f"defense.{name}": value for name, value in self.training.items()}
        values |= {"clean_images": trusted, "dataset.reserve_images": trusted, "precision": self.precision}
        return make_spec(
            STAND_IN, "none", defense, preset=self.preset, seed=seed, victim=self.victim, overrides=values
        )


def usual(
    data: ImageSet, preset: Preset, dataset: str = "", settings: Mapping[str, Any] | None = None
) -> Recipe:
    """The usual victim and recipe for a set of images.

    Args:
        dataset: the registered dataset that the images are of; empty of a folder.
        settings: single values of the training to replace, such as ``{"epochs": 20}``.
    """
    found = presets_of(len(data), data.shape[1])[preset]
    if dataset:
        found = preset_of(registry.dataset[dataset], preset)
    training = {**found["training"], **(settings or {})}
    precision = str(found.get("precision", "float32"))
    return Recipe(preset, dataset or STAND_IN, str(found["victim"]), training, precision)
