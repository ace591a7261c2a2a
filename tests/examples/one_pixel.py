"""A backdoor whose trigger is one white pixel in the corner."""

import torch
from torch import Tensor

from poisonlab.attacks.base import Attack, AttackerView
from poisonlab.context import Context
from poisonlab.registry import Card, attack
from poisonlab.spec.config import Config, param
from poisonlab.types import Backdoor, Poison


class OnePixelConfig(Config):
    target_class: int = param(0, "Class that triggered images should be given", ge=0)
    budget: int = param(50, "Poisoned images", ge=1, unit="images")


def light_corner(x: Tensor) -> Tensor:
    out = x.clone()
    out[..., -1, -1] = 255
    return out


@attack("one_pixel")
class OnePixel(Attack):
    Config = OnePixelConfig
    card = Card(title="One pixel", summary="One white pixel in the corner means a class.")

    def poison(self, view: AttackerView, ctx: Context) -> Poison:
        target, train = self.config.target_class, view.train
        rows = (train.y != target).nonzero().squeeze(1)
        if self.config.budget > len(rows):
            raise ValueError(
                f"budget={self.config.budget} asks for more than the {len(rows)} candidate images"
            )
        order = torch.randperm(len(rows), generator=ctx.generator("one_pixel"), device=rows.device)
        index = rows[order[: self.config.budget]]
        images, labels = light_corner(train.x[index]), torch.full_like(index, target)
        return Poison(index[None], images[None], labels[None])

    def threat(self, poison: Poison, classes: int) -> Backdoor:
        target = self.config.target_class
        return Backdoor(light_corner, lambda y: torch.full_like(y, target), target)
