"""One hypergradient of MetaPoison against bare passes, one surrogate after the other against a stack, and memory by K.

    python benchmarks/metapoison.py --clock cpu

Bare are the forward and backward passes that the recursion needs at least, on images in place: K + 1 first derivatives
and K second ones. The stack is ``torch.func.vmap`` over the surrogates' weights. Memory is what autograd keeps for
backward passes, at its largest, of the recursion and of the graph through all steps.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ratio import conditions, medians, options
from poisonlab import machine, registry
from poisonlab.attacks.shared.unrolling import (
    Batch,
    LookAhead,
    Weights,
    gradient,
    inner,
    leaves,
    with_batch_statistics,
)
from poisonlab.context import Context
from poisonlab.models.base import Classifier, initialize

GOAL = 1.10
CLASSES, BATCH, POISONS, STEPS, MODELS = 3, 60, 6, 2, 3  # the preset quick on cifar3
SHAPE = (3, 16, 16)
LONGEST = 4  # K of the memory table


def convnet(ctx: Context, number: int) -> Classifier:
    method = registry.victim["convnet"]
    config = method.Config.for_preset("quick", "cifar3")
    model = (
        method(config).network(SHAPE, CLASSES, torch.full((3,), 0.5), torch.full((3,), 0.25)).to(ctx.device)
    )
    return initialize(model, ctx.generator("init", str(number)))  # type: ignore[return-value]


def random_batches(count: int, ctx: Context) -> list[Batch]:
    draws = ctx.generator("batches")
    x = torch.rand(count, BATCH, *SHAPE, generator=draws, device=ctx.device)
    y = torch.randint(CLASSES, (count, BATCH), generator=draws, device=ctx.device)
    return list(zip(x, y, strict=True))


def bare(look: LookAhead, weights: Weights, batches: list[Batch]) -> None:
    """Forward and backward passes of the recursion, with nothing between them."""
    here, direction = leaves(weights), weights
    for number, (x, y) in enumerate(batches):
        gradient(
            look.losses(here, x, y)[0], here
        )  # K steps of training, and the target's gradient after the last
        if number < len(batches) - 1:
            seen = x.detach().requires_grad_() if number == 0 else x
            first = gradient(look.losses(here, seen, y)[0], here, differentiable=True)
            torch.autograd.grad(inner(first, direction), seen if number == 0 else tuple(here.values()))


def stacked(look: LookAhead, weights: list[Weights], batches: list[Batch], poisoned: Tensor) -> Tensor:
    """The same derivatives for all surrogates at once."""

    def train(theta: Weights, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return look.losses(theta, x, y)

    def one(start: Weights) -> Tensor:
        path = [start]
        for x, y in batches[:-1]:
            found, _ = torch.func.grad(train, has_aux=True)(path[-1], x, y)
            path.append({name: w - look.lr * found[name] for name, w in path[-1].items()})
        v = torch.func.grad(lambda theta: train(theta, *batches[-1])[1] / STEPS)(path[-1])
        for theta, (x, y) in zip(reversed(path[1:-1]), reversed(batches[1:-1]), strict=True):

            def pulled(theta: Weights, x: Tensor = x, y: Tensor = y, v: Weights = v) -> Tensor:
                found, adversarial = torch.func.grad(train, has_aux=True)(theta, x, y)
                return adversarial / STEPS - look.lr * inner(found, v)

            more = torch.func.grad(pulled)(theta)
            v = {name: w + more[name] for name, w in v.items()}

        def mixed(x: Tensor) -> Tensor:
            return -look.lr * inner(torch.func.grad(train, has_aux=True)(start, x, batches[0][1])[0], v)

        return torch.func.grad(mixed)(batches[0][0])[poisoned]

    return torch.func.vmap(one)({name: torch.stack([w[name] for w in weights]) for name in weights[0]})


def nested(look: LookAhead, weights: Weights, batches: list[Batch], poisoned: Tensor) -> Tensor:
    """The same derivative by the graph through all steps."""
    x, y = batches[0]
    poisons = x[poisoned].requires_grad_()
    here, total = leaves(weights), torch.zeros((), device=x.device)
    for number, (x, y) in enumerate(batches):
        seen = x.index_copy(0, poisoned, poisons) if number == 0 else x
        train, adversarial = look.losses(here, seen, y)
        if number:
            total = total + adversarial / (len(batches) - 1)
        if number < len(batches) - 1:
            found = gradient(train, here, differentiable=True)
            here = {name: w - look.lr * found[name] for name, w in here.items()}
    return torch.autograd.grad(total, poisons)[0]


class Kept:
    """Bytes of the tensors that autograd holds for backward passes, and the most there ever were."""

    def __init__(self) -> None:
        self.alive: dict[int, tuple[int, int]] = {}  # storage -> (holders, bytes)
        self.most = 0

    def __enter__(self) -> "Kept":
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda box: box.tensor)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.hooks.__exit__(*error)

    def pack(self, tensor: Tensor) -> "Box":
        return Box(self, tensor)


class Box:
    """A saved tensor that tells when it goes."""

    def __init__(self, kept: Kept, tensor: Tensor) -> None:
        self.kept, self.tensor, self.place = kept, tensor, tensor.untyped_storage().data_ptr()
        holders, _ = kept.alive.get(self.place, (0, 0))
        kept.alive[self.place] = holders + 1, tensor.untyped_storage().nbytes()
        kept.most = max(kept.most, sum(size for _, size in kept.alive.values()))

    def __del__(self) -> None:
        holders, size = self.kept.alive[self.place]
        if holders == 1:
            del self.kept.alive[self.place]
        else:
            self.kept.alive[self.place] = holders - 1, size


def main() -> int:
    chosen = options(__doc__, victims=False, steps=None, repeats=7)
    chosen.like = "cifar3-quick"
    machine.set_threads()
    ctx = Context(device=chosen.device)
    models = [with_batch_statistics(convnet(ctx, n)) for n in range(MODELS)]
    weights = [{name: p.detach() for name, p in model.named_parameters()} for model in models]
    target = torch.rand(1, *SHAPE, generator=ctx.generator("target"), device=ctx.device)
    look = LookAhead(models[0], target, torch.zeros(1, dtype=torch.int64, device=ctx.device), lr=0.1)
    poisoned = torch.arange(POISONS, device=ctx.device)
    batches = random_batches(LONGEST + 1, ctx)
    short = batches[: STEPS + 1]

    def in_turn() -> Tensor:
        return torch.stack([look.hypergradient(w, short, poisoned)[0] for w in weights])

    print(conditions(chosen))
    full, floor = medians(in_turn, lambda: [bare(look, w, short) for w in weights], chosen)
    together, _ = medians(lambda: stacked(look, weights, short, poisoned), lambda: None, chosen)
    print(f"a hypergradient, K = {STEPS}: {1000 * full / MODELS:.1f} ms; bare {1000 * floor / MODELS:.1f} ms")
    print(f"{MODELS} surrogates in turn {1000 * full:.0f} ms, stacked {1000 * together:.0f} ms")
    for steps in range(1, LONGEST + 1):
        held = []
        for work in (look.hypergradient, lambda *given: nested(look, *given)):
            with Kept() as kept:
                work(weights[0], batches[: steps + 1], poisoned)
            held.append(kept.most / 2**20)
        print(f"K = {steps}: kept for backward {held[0]:.1f} MB by recursion, {held[1]:.1f} MB nested")
    ratio = full / floor
    print(f"ratio {ratio:.3f}, goal <= {GOAL:.2f}: {'met' if ratio <= GOAL else 'MISSED'}")
    return int(ratio > GOAL)


if __name__ == "__main__":
    sys.exit(main())
