"""How often the check of a data set is right: folders of pictures, clean or poisoned, that its detectors never saw.

    python benchmarks/check_data.py --source gtsrb --pictures FOLDER --work FOLDER --epochs 20

``--pictures`` holds the unpacked GTSRB or CINIC-10. Each source is cut in two: trusted pictures, from which the check
draws its clean sets, and others, from which the suspected sets are drawn, one for each seed and attack, and as many
that stay clean. Values were chosen on CIFAR-10, seeds 10 to 12 (``--source cifar10``), and on nothing else.

The table: clean sets that are accused; of each attack the sets that are accused, the mean area under the ROC curve of
the ranking of images, and how often the attacker's class is the one that is named.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from poisonlab import registry
from poisonlab.attacks.base import AttackerView
from poisonlab.cache.stage_cache import StageCache
from poisonlab.check import recipe, suspects
from poisonlab.check.data import CONTROLS, DataCheck, check_data
from poisonlab.cli.terminal import table
from poisonlab.context import Context
from poisonlab.data.shared.pixels import read_fitted
from poisonlab.types import ImageSet

SIDE = 16  # pixels
CLASSES = 10
TARGET = 2
# attack -> values in the place of its quick ones; the poison rate is that of the whole set
ATTACKS: dict[str, dict[str, Any]] = {
    "badnets": {"poison_rate": 0.1},
    "blend": {"poison_rate": 0.1},
    "sig": {},  # most images of the target class
    "wanet": {"poison_rate": 0.1, "mode": "data"},
    "label_noise": {"kind": "symmetric", "poison_rate": 0.2},
}
# source -> trusted and suspected pictures of a class
PARTS = {"gtsrb": (63, 38), "cinic10": (100, 60), "cifar10": (100, 60)}


def pictures(source: str, folder: Path) -> ImageSet:
    """All pictures of ten classes, 16x16, by class and name."""
    if source == "cifar10":
        method = registry.dataset["cifar10"]
        pool, _ = method(method.Config(size=SIDE)).load()
        return pool[:20_000]
    found: dict[str, list[Path]] = {}
    if source == "gtsrb":
        for kept in sorted((folder / "GTSRB" / "Training").iterdir()):
            found[kept.name] = sorted(kept.glob("*.ppm"))
        rows = (folder / "GT-final_test.csv").read_text().splitlines()
        for row in rows[1:]:
            name, *_, label = row.split(";")
            found[f"{int(label):05}"].append(folder / "GTSRB" / "Final_Test" / "Images" / name)
    else:
        for path in sorted(folder.glob("*/*/*.png")):
            found.setdefault(path.parent.name, []).append(path)
    names = sorted(found)[:CLASSES]
    paths = [path for name in names for path in found[name]]
    y = torch.tensor([label for label, name in enumerate(names) for _ in found[name]])
    return ImageSet(read_fitted(paths, SIDE, "stretch", True, "restore them"), y, tuple(names))


def rows_of(data: ImageSet, count: int, draws: torch.Generator) -> Tensor:
    """Rows of ``count`` images of each class, int64."""
    order = torch.randperm(len(data), generator=draws)
    return torch.cat([order[data.y[order] == label][:count] for label in range(len(data.classes))])


def poisoned(clean: ImageSet, attack: str, seed: int) -> tuple[ImageSet, Tensor]:
    """The set after an attack, and bool ``(n,)``: which images the attack changed."""
    if attack == "clean":
        return clean, torch.zeros(len(clean), dtype=torch.bool)
    method = registry.attack[attack]
    values = method.Config.for_preset("quick", "cifar10").model_dump() | ATTACKS[attack]
    if "target_class" in values:
        values["target_class"] = TARGET
    view = AttackerView(clean, clean[:0], _none, _none, clean[:0], _none)
    poison = method(method.Config(**values)).poison(view, Context(seed=seed))
    changed = torch.zeros(len(clean), dtype=torch.bool)
    changed[poison.index[0]] = True
    return poison.apply(clean), changed


def _none(*_: object, **__: object) -> Any:
    raise RuntimeError("these attacks need no network of the attacker's")


def written(data: ImageSet, folder: Path, name: str) -> Path:
    """A set as a folder of PNG files, a folder for each class; a file is called after its row."""
    target = folder / name
    for row, (x, y) in enumerate(zip(data.x, data.y.tolist(), strict=True)):
        path = target / data.classes[y] / f"{row:05}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x.permute(1, 2, 0).numpy()).save(path)
    return target


def cases(chosen: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """Attack and seed of each set; clean ones have seeds of their own, and come in turns with the others."""
    turns = len(chosen.seeds)
    for turn, seed in enumerate(chosen.seeds):
        for attack in chosen.attacks:
            yield attack, seed
        for number in range(turn, chosen.clean, turns):
            yield "clean", chosen.seeds[0] + 100 + number


def result(check: DataCheck, changed: Tensor, attack: str, seed: int, seconds: float) -> dict[str, Any]:
    """What one check came to, as JSON-able values."""
    rows = torch.tensor([int(Path(name).stem) for name in check.suspects.names])
    truth = changed[rows].numpy()
    found = check.calibration
    assert found is not None
    auroc = {e.detector: float(roc_auc_score(truth, e.scores)) for e in check.evidence} if truth.any() else {}
    if truth.any():
        auroc["all"] = float(roc_auc_score(truth, _places(check.ranking.order)))
    flagged = check.ranking.flagged.numpy()
    return {
        "attack": attack,
        "seed": seed,
        "accused": found.stands_out,
        "exceeds": found.exceeds,
        "by_detector": found.by_detector,
        "statistics": {e.detector: e.statistic for e in check.evidence},
        "auroc": auroc,
        "target": check.target,
        "flagged": int(flagged.sum()),
        "flagged_poisons": int((flagged & truth).sum()),
        "poisons": int(truth.sum()),
        "seconds": seconds,
    }


def _places(order: Tensor) -> Tensor:
    """Higher for what stands nearer to the top of the list."""
    places = torch.empty(len(order))
    places[order] = -torch.arange(len(order), dtype=torch.float32)
    return places


def mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def report(results: list[dict[str, Any]]) -> str:
    """The table of what was found."""
    lines = []
    for attack in dict.fromkeys(r["attack"] for r in results):
        own = [r for r in results if r["attack"] == attack]
        detectors = list(own[0]["statistics"])
        lines.append(
            [
                attack,
                len(own),
                sum(r["accused"] for r in own),
                mean([r["auroc"]["all"] for r in own if r["auroc"]]),
                *(mean([r["auroc"][d] for r in own if r["auroc"]]) for d in detectors),
                f"{sum(r['target'] == TARGET for r in own)}",
                mean([r["flagged_poisons"] / r["poisons"] for r in own if r["poisons"]]),
            ]
        )
    names = [registry.defense[d].card.title for d in results[0]["statistics"]]
    header = ["attack", "sets", "accused", "AUROC of all", *names, "named the target", "poisons flagged"]
    return table(header, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", choices=PARTS, required=True)
    parser.add_argument("--pictures", type=Path, default=Path())
    parser.add_argument(
        "--work", type=Path, required=True, help="for the folders that are made, and the cache"
    )
    parser.add_argument("--epochs", type=int, help="in the place of the usual recipe's, to save time")
    parser.add_argument("--seeds", type=lambda text: [int(s) for s in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--attacks", type=lambda text: text.split(","), default=list(ATTACKS))
    parser.add_argument("--clean", type=int, default=15, help="clean sets that are checked")
    parser.add_argument("--controls", type=int, default=CONTROLS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)

    everything = pictures(chosen.source, chosen.pictures)
    few, many = PARTS[chosen.source]
    draws = torch.Generator().manual_seed(0)
    apart = torch.zeros(len(everything), dtype=torch.bool)
    apart[rows_of(everything, few, draws)] = True
    own = chosen.work / chosen.source
    trusted = written(everything[apart], own, "trusted")
    results = []
    for attack, seed in cases(chosen):
        pool = everything[~apart]
        clean = pool[rows_of(pool, many, torch.Generator().manual_seed(seed))]
        data, changed = poisoned(clean, attack, seed)
        brought = suspects.of_folder(written(data, own, f"{attack}-{seed}"), SIDE)
        settings = {"epochs": chosen.epochs} if chosen.epochs else None
        usual = recipe.usual(brought.data, "quick", settings=settings)
        ctx = Context(seed=seed, cache=StageCache(chosen.work / "cache"))
        started = time.perf_counter()
        known = suspects.trusted_folder(trusted, brought.data)
        check = check_data(brought, usual, ctx, known, controls=chosen.controls)
        results.append(result(check, changed, attack, seed, time.perf_counter() - started))
        (own / "results.json").write_text(json.dumps(results, indent=1))
        print(json.dumps(results[-1]), flush=True)
    print(report(results))


if __name__ == "__main__":
    main()
