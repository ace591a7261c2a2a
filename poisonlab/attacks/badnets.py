"""BadNets: a patch that makes the victim predict the target class."""

from typing import Literal

import torch
from torch import Tensor

from poisonlab.attacks.shared.backdoor import (
    NEEDS_NO_MODEL,
    SPARES_THE_TARGET,
    BackdoorAttack,
    DirtyLabelConfig,
)
from poisonlab.registry import Card, attack
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import param


class BadNetsConfig(DirtyLabelConfig):
    patch_size: int = param(3, "Side of the patch", ge=1, le=16, unit="pixels", source="BackdoorBench")
    margin: int = param(
        0,
        "Distance of the patch from the lower right corner; random crops cut off a patch at the very edge",
        ge=0,
        le=16,
        unit="pixels",
        source="BackdoorBench",
    )
    pattern: Literal["white", "checkerboard"] = param("white", "What the patch shows", source="BackdoorBench")


def stamp(x: Tensor, size: int, margin: int, pattern: str) -> Tensor:
    """Paste a patch near the lower right corner: x' = (1 - M) x + M P.

    Args:
        x: uint8 ``(n, c, h, w)``; not modified.
        size, margin: side of the patch and its distance from the edges, in pixels.
    """
    h, w = x.shape[-2:]
    if size + margin > min(h, w):
        raise ValueError(f"patch_size={size} with margin={margin} does not fit into {h}x{w} images")
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    lit = (rows + columns) % 2 == 0 if pattern == "checkerboard" else torch.ones(size, size, dtype=torch.bool)
    out = x.clone()
    out[..., h - margin - size : h - margin, w - margin - size : w - margin] = lit.to(x) * 255
    return out


@attack("badnets")
class BadNets(BackdoorAttack):
    """Patch trigger with relabeling (Gu et al. 2017, arXiv:1708.06733, section 4)."""

    Config = BadNetsConfig
    card = Card(
        title="BadNets",
        references=(
            Reference(
                authors="T. Gu, B. Dolan-Gavitt, S. Garg",
                title="BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain",
                year=2017,
                arxiv="1708.06733",
            ),
        ),
        summary="A few training images get a small patch and the attacker's label. The trained model behaves well "
        "until it sees the patch.",
        threat_model=NEEDS_NO_MODEL,
        deviations=(
            "The paper stamps MNIST digits and traffic signs; here any image set, in the 3x3 corner form of "
            "BackdoorBench.",
            "The dark squares of the checkerboard are 0; in BackdoorBench they are 1. In the ANP repository its upper "
            "left pixel is dark, too.",
            SPARES_THE_TARGET.format("BackdoorBench"),
        ),
    )

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        return stamp(x, self.config.patch_size, self.config.margin, self.config.pattern)
