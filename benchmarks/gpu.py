"""All ratios to the bare passes on one GPU, and a victim of the preset full, in at most eight minutes.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --seconds 3600

Each work runs in a process of its own, the most telling first, and is stopped when it has taken more than its share of
the time that is left; what does not fit any more is said. The last work is one training of hyperlight with the recipe
of the preset full: ten epochs over 45,000 random images of 32x32.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from poisonlab import machine
from poisonlab.context import Context
from poisonlab.spec.config import make_spec
from poisonlab.training.loop import train_network
from poisonlab.training.victims import new_network
from poisonlab.types import ImageSet

HERE = Path(__file__).resolve().parent
SECONDS = 480
IMAGES = 45_000
BIG = ["--like", "cifar10"]
WORKS: dict[str, list[str]] = {
    "training, ResNet-18": ["training.py", *BIG, "--victim", "resnet18"],
    "training, HyperlightBench": ["training.py", *BIG, "--victim", "hyperlight"],
    "Langevin": ["langevin.py", *BIG],
    "DDPM": ["ddpm.py", *BIG],
    "evaluation": ["evaluation.py", *BIG, "--victim", "resnet18"],
    "gradient matching": ["gradient_matching.py", *BIG, "--victim", "resnet18"],
    "Bullseye Polytope": ["crafting.py", *BIG, "--victim", "resnet18"],
    "Langevin against a plain loop": ["sampling.py", *BIG],
    "repairs": ["defenses.py", *BIG, "--victim", "resnet18"],
}


def run(script: list[str], device: str, limit: float) -> str:
    """The last lines that a benchmark prints, or why there are none."""
    command = [sys.executable, str(HERE / script[0]), *script[1:], "--device", device]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired as stopped:
        said = stopped.stdout.decode() if isinstance(stopped.stdout, bytes) else stopped.stdout or ""
        return f"{said.strip()}\nstopped after {limit:.0f} s".strip()
    if not done.stdout.strip():
        return f"failed: {done.stderr.strip().splitlines()[-1:]}"
    return done.stdout.strip()


def seconds_of_a_victim(device: str) -> float:
    """One training with the recipe of the preset full, on random images."""
    spec = make_spec("cifar10", "none", "none", preset="full")
    ctx = Context(device=machine.resolve_device(device), precision=getattr(torch, spec.precision))
    machine.keep_memory()
    machine.settle_arithmetic(ctx.device)
    draws = ctx.generator("benchmark")
    x = torch.randint(256, (IMAGES, 3, 32, 32), generator=draws, device=ctx.device, dtype=torch.uint8)
    y = torch.randint(10, (IMAGES,), generator=draws, device=ctx.device)
    images = ImageSet(x, y, tuple("0123456789"))
    model = new_network(spec, images, ctx)
    started = time.perf_counter()
    train_network(model, images, spec.training, ctx)
    if ctx.device.type == "cuda":
        torch.cuda.synchronize(ctx.device)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of all works together")
    chosen = parser.parse_args()
    device = machine.resolve_device(chosen.device)
    print(f"{machine.device_name(device)}, torch {torch.__version__}", flush=True)
    end = time.monotonic() + chosen.seconds
    for number, (name, script) in enumerate(WORKS.items()):
        left = end - time.monotonic()
        share = 2 * left / (len(WORKS) + 1 - number)  # most works need less than an equal share
        print(f"\n== {name}\n{run(script, chosen.device, min(left, share))}", flush=True)
    print("\n== a victim of the preset full")
    if time.monotonic() < end:
        print(f"{seconds_of_a_victim(chosen.device):.1f} s of training")
    else:
        print("left out: the time is over")
    return 0


if __name__ == "__main__":
    sys.exit(main())
