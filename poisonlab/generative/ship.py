"""Train a generative model of a preset and put its weights into the repository:

    python -m poisonlab.generative.ship --dataset digits --model ebm

Runs of that spec then find them by the hash of their parameters and of the public images.
"""

import argparse
import sys
from typing import Any

import torch

from poisonlab import registry
from poisonlab.context import Context
from poisonlab.data.base import DivisionConfig, divide
from poisonlab.events import Event, Log, Metric
from poisonlab.generative import weights
from poisonlab.generative.recipes import Recipe
from poisonlab.spec.config import PRESETS, make_spec

DEFENSES = {"ebm": "puregen_ebm", "ddpm": "puregen_ddpm"}  # whose parameters are those of the family


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True, choices=list(registry.dataset))
    parser.add_argument("--model", default="ebm", choices=list(DEFENSES))
    parser.add_argument("--preset", default="quick", choices=PRESETS)
    chosen = parser.parse_args()

    spec = make_spec(chosen.dataset, "bullseye_polytope", DEFENSES[chosen.model], preset=chosen.preset)
    pool, test = spec.dataset.build().load()
    division = spec.dataset.params
    assert isinstance(division, DivisionConfig)
    public = divide(pool, test, division, spec.protocol).public
    params: Any = spec.defense.params
    recipe: Recipe = params.energy_recipe() if chosen.model == "ebm" else params.diffusion_recipe()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    network, health = recipe.train(public.x.to(device), Context(device=device, seed=recipe.seed, send=_print))
    command = " ".join(["python -m poisonlab.generative.ship", *sys.argv[1:]])
    path = weights.ship(recipe.key(public.x), network.state_dict(), vars(health), command, recipe.kind)
    print(f"{path}: {health}")


def _print(event: Event) -> None:
    shown = isinstance(event, Metric) and event.name in ("ebm_psnr", "ddpm_psnr", "loss")
    if shown or isinstance(event, Log):
        print(event, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
