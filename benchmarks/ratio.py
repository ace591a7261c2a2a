"""What the ratio benchmarks share: measured and bare work in turns, medians, one line with the goal."""

import argparse
import statistics
import time
from collections.abc import Callable, Collection
from typing import Any

import torch

from poisonlab import registry
from poisonlab.context import Context
from poisonlab.models.base import Classifier, initialize

SIZES = {"digits": ((1, 16, 16), 50), "cifar10-quick": ((3, 16, 16), 128), "cifar10": ((3, 32, 32), 128)}


def options(
    description: str | None,
    victims: bool = True,
    steps: int | None = 10,
    repeats: int = 21,
    methods: Collection[str] = (),
) -> argparse.Namespace:
    """The command line of a ratio benchmark; ``shape`` and ``batch`` follow from ``--like``.

    Args:
        steps: in a repetition; ``None`` where the work has a length of its own.
        methods: those that ``--only`` may choose from.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--like", choices=SIZES, default="digits", help="image and batch sizes of a dataset")
    if victims:
        parser.add_argument("--victim", default="resnet8")
    if steps is not None:
        parser.add_argument("--steps", type=int, default=steps, help="steps in a repetition")
    if methods:
        parser.add_argument("--only", nargs="+", choices=methods, default=methods, help="measure these alone")
    parser.add_argument("--repeats", type=int, default=repeats, help="repetitions of each side, in turns")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu counts the process's own seconds: for a machine that others use at the same time",
    )
    chosen = parser.parse_args()
    chosen.shape, chosen.batch = SIZES[chosen.like]
    chosen.device = torch.device(chosen.device)
    return chosen


def untrained(chosen: argparse.Namespace, ctx: Context) -> Classifier:
    """The victim that was chosen, for ten classes, with random weights, in eval mode."""
    method, channels = registry.victim[chosen.victim], chosen.shape[0]
    statistics_of = torch.full((channels,), 0.5), torch.full((channels,), 0.25)
    model = method(method.Config()).network(chosen.shape, 10, *statistics_of).to(chosen.device)
    return initialize(model, ctx.generator("init")).eval().to(memory_format=torch.channels_last)


def medians(
    measured: Callable[[], Any], bare: Callable[[], Any], chosen: argparse.Namespace
) -> tuple[float, float]:
    """Median seconds of both, timed in turns."""

    def seconds(work: Callable[[], Any]) -> float:
        clock = time.process_time if chosen.clock == "cpu" else time.perf_counter
        if chosen.device.type == "cuda":
            torch.cuda.synchronize(chosen.device)
        start = clock()
        work()
        if chosen.device.type == "cuda":
            torch.cuda.synchronize(chosen.device)
        return clock() - start

    taken: dict[str, list[float]] = {"measured": [], "bare": []}
    for number in range(chosen.repeats + 1):
        turns = [("measured", measured), ("bare", bare)]
        for name, work in turns if number % 2 else turns[::-1]:
            spent = seconds(work)
            if number:  # the first turn of each warms up
                taken[name].append(spent)
    return statistics.median(taken["measured"]), statistics.median(taken["bare"])


def conditions(chosen: argparse.Namespace) -> str:
    """What a measurement was made under, in one line."""
    words = {
        k: v
        for k, v in vars(chosen).items()
        if k in ("like", "victim", "device", "steps", "repeats", "clock")
    }
    return ", ".join(f"{k} {v}" for k, v in words.items()) + f", {torch.get_num_threads()} threads"


def compare(
    measured: Callable[[], Any], bare: Callable[[], Any], goal: float, chosen: argparse.Namespace
) -> int:
    """Time both in turns, print the ratio of the medians; 1 where it misses the goal."""
    full, floor = medians(measured, bare, chosen)
    ratio = full / floor
    print(conditions(chosen))
    print(
        f"measured {1000 * full / chosen.steps:.3f} ms a step, bare {1000 * floor / chosen.steps:.3f} ms a step"
    )
    print(f"ratio {ratio:.3f}, goal <= {goal:.2f}: {'met' if ratio <= goal else 'MISSED'}")
    return int(ratio > goal)
