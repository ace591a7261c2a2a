"""Every repair against the bare passes of the network that it makes, on random images already in place.

    python benchmarks/defenses.py --like cifar10-quick --only anp awm

A first repair is listened to: which passes, with what batch, mode and gradients. Bare is these passes alone. Memory is
how far the peak rises over what a process held before (on a GPU: the peak of what torch allocated), each side in a
process of its own. The preset quick runs at its full length; that of the paper (``--like cifar10``) is cut short.
"""

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.passes import Pass, Replay, listen
from benchmarks.ratio import SIZES, conditions, medians, options
from poisonlab import machine, registry
from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.models.base import Classifier, initialize
from poisonlab.types import ImageSet

GOAL = 1.15
RESET_PEAK = Path("/proc/self/clear_refs")
CLASSES = 10
CLEAN_IMAGES = {"digits": 50}  # 500 elsewhere
SHORT: dict[str, Any] = {
    "iterations": 100,
    "rounds": 3,
    "epochs": 4,
    "teacher_epochs": 2,
    "unlearn_epochs": 3,
    "recover_epochs": 3,
}


def repairs() -> list[str]:
    """Names of the defenses that change a trained model."""
    return sorted(name for name in registry.defense if registry.defense[name].overrides("repair"))


class Bench:
    """A victim, the defender's images and a defense."""

    def __init__(self, name: str, chosen: argparse.Namespace) -> None:
        dataset = chosen.like.removesuffix("-quick")
        preset = "paper" if chosen.like == "cifar10" else "quick"
        method = registry.defense[name]
        config = method.Config.for_preset(preset, dataset)
        if preset == "paper":
            short = {
                key: min(value, getattr(config, key)) for key, value in SHORT.items() if hasattr(config, key)
            }
            config = config.model_copy(update=short)
        self.defense: Defense = method(config)
        self.ctx = Context(device=chosen.device)
        draws = self.ctx.generator("benchmark")
        shape, _ = SIZES[chosen.like]
        n = CLEAN_IMAGES.get(dataset, 500)
        x = torch.randint(256, (n, *shape), generator=draws, device=chosen.device).to(torch.uint8)
        y = torch.randint(CLASSES, (n,), generator=draws, device=chosen.device)
        self.clean = ImageSet(x, y, tuple(map(str, range(CLASSES))))
        self.model = self.victim(chosen, shape)

    def victim(self, chosen: argparse.Namespace, shape: tuple[int, int, int]) -> Classifier:
        method = registry.victim[chosen.victim]
        channels = torch.full((shape[0],), 0.5), torch.full((shape[0],), 0.25)
        made = method(method.Config()).network(shape, CLASSES, *channels).to(chosen.device)
        made = initialize(made, self.ctx.generator("init")).eval().requires_grad_(False)
        return made.to(memory_format=torch.channels_last)

    def repair(self) -> None:
        self.defense.repair(self.model, self.clean, self.ctx)

    def bare(self, passes: list[Pass]) -> Replay:
        return Replay(self.model, passes)


def memory(name: str, chosen: argparse.Namespace, passes: list[Pass] | None) -> float:
    """Rise of the peak in MiB, by a repair or, with ``passes``, by these alone; not a number without Linux or CUDA."""
    machine.set_threads()
    bench = Bench(name, chosen)
    work = bench.repair if passes is None else bench.bare(passes)
    if chosen.device.type == "cuda":
        machine.reset_peak_memory(chosen.device)
        before = torch.cuda.memory_allocated(chosen.device) / 2**20
        work()
        return (machine.peak_memory_mb(chosen.device) or 0.0) - before
    if not RESET_PEAK.exists():
        return float("nan")
    weight = torch.zeros(1, requires_grad=True)
    weight.grad = torch.zeros(1)
    torch.optim.SGD([weight]).step()  # optimizers import a good part of torch at their first step
    RESET_PEAK.write_text("5")  # what imports needed is forgotten
    before = _peak_of_process()
    work()
    return _peak_of_process() - before


def _peak_of_process() -> float:
    """Linux's high-water mark of resident memory, MiB."""
    (line,) = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    ]
    return int(line.split()[1]) / 2**10


def main() -> int:
    chosen = options(__doc__, steps=None, repeats=3, methods=repairs())
    machine.set_threads()
    print(conditions(chosen) + f"; goal: time ratio <= {GOAL:.2f}")
    columns = {"forward": 9, "back": 7, "s": 9, "bare s": 9, "ratio": 7, "MiB": 8, "bare MiB": 10, "of it": 7}
    print(f"{'defense':10}" + "".join(f"{column:>{width}}" for column, width in columns.items()))
    missed = 0
    workers = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1)
    for name in chosen.only:
        bench = Bench(name, chosen)
        passes = listen(bench.repair)
        if not passes:
            print(f"{name:10}{0:9}{0:7}   no pass of the network")
            continue
        full, floor = medians(bench.repair, bench.bare(passes), chosen)
        held, bare = (workers.submit(memory, name, chosen, given).result() for given in (None, passes))
        missed += full / floor > GOAL
        backwards = sum(len(p.backwards) for p in passes)
        print(
            f"{name:10}{len(passes):9}{backwards:7}{full:9.2f}{floor:9.2f}{full / floor:7.2f}"
            f"{held:8.1f}{bare:10.1f}{held / bare if bare else float('nan'):7.2f}"
            f"{'   MISSED' if full / floor > GOAL else ''}",
            flush=True,
        )
    workers.shutdown()
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
