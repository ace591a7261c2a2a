"""Time of F_1 and its hypergradient against the steps of each player, everything else held.

    python benchmarks/multilevel.py
    python benchmarks/multilevel.py --clock cpu    # on a machine that others use, too

The claim is linear growth in every T. The line through T = 5 and T = 20 is drawn on to T = 80, and the time there must
not exceed it by more than the goal: growth by the square would be 4 times as slow.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from poisonlab.multilevel import poisoning
from poisonlab.multilevel.data import diabetes, split
from poisonlab.multilevel.method import value_and_gradient
from poisonlab.multilevel.poisoning import ORDERS, Rules

GOAL = 1.5
STEPS = (5, 10, 20, 40, 80)
HELD = 10


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--games", type=int, default=10, help="splits played at once")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    chosen = parser.parse_args()
    clock = time.process_time if chosen.clock == "cpu" else time.perf_counter
    data = split(diabetes(), 40, 100, chosen.games)
    penalty = torch.full((chosen.games,), 30.0, dtype=torch.float64)
    missed = False
    print(
        f"{chosen.games} games, {chosen.clock} clock, {torch.get_num_threads()} threads, the other player at {HELD}"
    )
    for order in ORDERS:
        for player in ("attacker_steps", "learner_steps"):
            taken = []
            for steps in STEPS:
                rules = Rules(**{"attacker_steps": HELD, "learner_steps": HELD} | {player: steps})
                levels = poisoning.trilevel(data, penalty, order, rules)
                seconds = []
                for _ in range(chosen.repeats):
                    start = clock()
                    value_and_gradient(levels, levels[0].start)
                    seconds.append(clock() - start)
                taken.append(statistics.median(seconds))
            rise = (taken[2] - taken[0]) / (STEPS[2] - STEPS[0])  # seconds a step, on the short side
            ratio = taken[-1] / (taken[0] + rise * (STEPS[-1] - STEPS[0]))
            missed |= ratio > GOAL
            shown = "  ".join(f"T={t}: {1000 * s:.1f} ms" for t, s in zip(STEPS, taken, strict=True))
            print(f"{order}, {player}: {shown}; last point {ratio:.2f} of the line, goal <= {GOAL}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
