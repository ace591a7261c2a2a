"""Train the energy model of a quick spec and put its weights into the repository:

    python -m poisonlab.generative.ship --dataset digits

Runs of that spec then find them by the hash of their parameters and of the public images.
"""

import argparse
import sys

import torch

from poisonlab import registry
from poisonlab.config import make_spec
from poisonlab.context import Context
from poisonlab.data.base import divide
from poisonlab.events import Event, Log, Metric
from poisonlab.generative import ebm, weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, choices=list(registry.dataset))
    dataset = parser.parse_args().dataset

    spec = make_spec(dataset, "bullseye_polytope", "puregen_ebm")
    pool, test = spec.dataset.build().load()
    public = divide(pool, test, spec.dataset.params, spec.protocol).public
    defense = spec.defense.params
    config, sampler = defense.ebm(), defense.sampler()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    network, health = ebm.train_ebm(
        public.x.to(device), config, sampler, Context(device=device, seed=config.seed, send=_print)
    )
    key = weights.key(public.x, config, sampler)
    path = weights.ship(
        key, network.state_dict(), vars(health), f"python -m poisonlab.generative.ship --dataset {dataset}"
    )
    print(f"{path}: {health}")


def _print(event: Event) -> None:
    if isinstance(event, Log) or (isinstance(event, Metric) and event.name == "ebm_psnr"):
        print(event, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
