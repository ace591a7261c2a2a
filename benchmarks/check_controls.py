"""Measure clean sets of a kind of images, and keep their numbers as the small table that comes with the program.

    python benchmarks/check_controls.py --dataset digits --images 1000 --work FOLDER

Each set is drawn from the dataset's images for training under another seed, and has a victim of that seed. The numbers
are what ``poisonlab check-data --dataset digits`` is compared with.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from poisonlab.cache.stage_cache import StageCache
from poisonlab.check import recipe, references
from poisonlab.check.data import CONTROLS
from poisonlab.check.evidence import examine
from poisonlab.context import Context
from poisonlab.spec.config import make_spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--images", type=int, required=True, help="of each set")
    parser.add_argument("--controls", type=int, default=CONTROLS)
    parser.add_argument("--work", type=Path, required=True, help="for the cache")
    chosen = parser.parse_args()
    torch.set_num_threads(1)

    pool, _ = make_spec(chosen.dataset, "none", "none").dataset.build().load()
    usual = recipe.usual(pool, "quick", chosen.dataset)
    sets = []
    for seed, data in references.clean_sets(pool, chosen.images, chosen.controls):
        ctx = Context(seed=seed, cache=StageCache(chosen.work / "cache"))
        found = examine(data, None, usual, seed, ctx).statistics()
        sets.append({name: float(f"{value:.6g}") for name, value in found.items()})
        print(json.dumps(sets[-1]), flush=True)
    made = (
        f"{chosen.controls} sets of {chosen.images} of the {len(pool)} images of {chosen.dataset} for training, each "
        f"with a victim of its own seed from {references.FIRST_SEED} on, on a CPU"
    )
    table = {
        "images": chosen.images,
        "pool": len(pool),
        "made": made,
        "recipe": references.described(usual),
        "sets": sets,
    }
    references.SHIPPED.mkdir(exist_ok=True)
    path = references.SHIPPED / f"{chosen.dataset}.json"
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
