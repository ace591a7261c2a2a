"""Lesson: learning to craft. MetaPoison (Huang et al. 2020, arXiv:2004.00225) on points in the plane.

    min over moves D of  L_adv(x_t, y_adv; theta*(D)),   theta*(D) = what training on the moved points ends with

where theta*(D) is approximated by K further steps of training from networks at different epochs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.context import derive
from poisonlab.lessons import networks, plane
from poisonlab.lessons.networks import Weights
from poisonlab.lessons.plane import Points
from poisonlab.training.loop import batches

EACH = 100
TARGET = (-0.2, 0.3)  # a point of class 0; the adversarial label is class 1; it is never in the training set
SIZES = (2, 32, 32, 2)  # of the layers
LR = 0.1
BATCH = 20
SURROGATES = 12  # M
SURROGATE_EPOCHS = 24  # T
UNROLL = 2  # K
CRAFT_STEPS = 12  # epochs of crafting
STEP = 0.25  # of the crafting Adam, in budgets
VICTIMS = 8
VICTIM_EPOCHS = 40
WAYS = ("clean", "random", "collision", "crafted")
MAP_CELLS = 25  # of the map of the adversarial loss, along a side


@dataclass(frozen=True)
class Crafted:
    """What was crafted, and what it does to networks trained from new random starts.

    Attributes:
        points: the clean training points.
        rows: which of them may be moved, ``(poisons,)``.
        moves: after every crafting step, ``(CRAFT_STEPS + 1, poisons, 2)``.
        adversarial: probability of the attacker's class at the target after each epoch of the victims, for each of
            ``WAYS``, ``(ways, victims, epochs + 1)``.
        landscapes: of one victim at the end, ``(ways, cells, cells)``.
        paths: the weights of one victim on clean and on crafted points after each epoch, seen in the plane in which
            the two paths differ most, ``(2, epochs + 1, 2)``.
        map_axes: ``(2, MAP_CELLS)`` places along the two axes of that plane.
        loss_map: the adversarial loss there, ``(MAP_CELLS, MAP_CELLS)``, rows along the second axis.
        test_accuracy: mean over victims, ``(ways,)``.
    """

    points: Points
    rows: Tensor
    moves: Tensor
    adversarial: Tensor
    landscapes: Tensor
    paths: Tensor
    map_axes: Tensor
    loss_map: Tensor
    test_accuracy: Tensor

    @property
    def success(self) -> Tensor:
        """Share of the victims that give the attacker's class at the end, ``(ways,)``."""
        return (self.adversarial[:, :, -1] > 0.5).float().mean(1)


def adversarial_loss(weights: Weights) -> Tensor:
    """L_adv of every network: cross-entropy of the target with the attacker's class, ``(m,)``."""
    return networks.losses(weights, weights[0].new_tensor([TARGET]), torch.tensor([1]))[:, 0]


def sgd_step(weights: Weights, x: Tensor, y: Tensor, differentiable: bool = False) -> Weights:
    """theta - lr grad L_train(theta), for each network on its own."""
    loss = networks.losses(weights, x, y).mean(1).sum()
    gradients = torch.autograd.grad(loss, weights, create_graph=differentiable)
    return [w - LR * g for w, g in zip(weights, gradients, strict=True)]


def trained(weights: Weights) -> Weights:
    """Leaves to differentiate by."""
    return [w.detach().requires_grad_() for w in weights]


def surrogate_ensemble(points: Points, start: Weights, generator: torch.Generator) -> Weights:
    """Surrogate m of M after m T / M epochs of clean training: together they cover the whole training of a victim."""
    kept = []
    weights = trained(start)
    spacing = SURROGATE_EPOCHS // SURROGATES
    for number in range(SURROGATES):
        kept.append(networks.pick(weights, number))
        for index in batches(len(points.x), BATCH, spacing, generator):
            weights = trained(sgd_step(weights, points.x[index], points.y[index]))
    return [torch.cat(column).detach() for column in zip(*kept, strict=True)]


def hypergradient(
    weights: Weights, points: Points, rows: Tensor, moves: Tensor, steps: list[Tensor]
) -> Tensor:
    """Gradient of the mean adversarial loss over K steps, with respect to the moves; only the first step sees them.

    Args:
        moves: ``(poisons, 2)``. steps: the row indices of the K batches.
    """
    moves = moves.detach().requires_grad_()
    moved = points.x.index_add(0, rows, moves)
    unrolled: Weights = trained(weights)
    total = torch.zeros(())
    for k, index in enumerate(steps):
        x = (points.x if k else moved)[index]
        unrolled = sgd_step(unrolled, x, points.y[index], differentiable=True)
        total = total + adversarial_loss(unrolled).mean() / len(steps)
    (gradient,) = torch.autograd.grad(total, moves)
    return gradient


def craft_moves(points: Points, rows: Tensor, eps: float, seed: int) -> Tensor:
    """Moves of at most ``eps`` along each axis, after each step, ``(CRAFT_STEPS + 1, poisons, 2)``."""
    start = networks.draw(SIZES, SURROGATES, derive(seed, "crafting", "surrogates"))
    weights = surrogate_ensemble(points, start, derive(seed, "crafting", "pretraining"))
    order = derive(seed, "crafting", "order")
    epochs = [number * (SURROGATE_EPOCHS // SURROGATES) for number in range(SURROGATES)]
    moves = eps * (2 * torch.rand(len(rows), 2, generator=derive(seed, "crafting", "moves")) - 1)
    adam = torch.optim.Adam([moves], lr=STEP * eps)
    kept = [moves.clone()]
    for _ in range(CRAFT_STEPS):
        epoch = list(batches(len(points.x), BATCH, 1, order))
        moves.grad = torch.zeros_like(moves)
        for number, index in enumerate(epoch):
            ahead = [epoch[(number + k) % len(epoch)] for k in range(UNROLL)]
            moves.grad += hypergradient(weights, points, rows, moves, ahead)
            weights = sgd_step(trained(weights), points.x[index], points.y[index])
        adam.step()
        moves.clamp_(-eps, eps)
        kept.append(moves.clone())
        for number in range(SURROGATES):
            epochs[number] += 1
            if epochs[number] >= SURROGATE_EPOCHS:  # starts anew
                epochs[number] = 0
                for w, initial in zip(weights, start, strict=True):
                    w.data[number] = initial[number]
    return torch.stack(kept)


def clean_points(poisons: int, seed: int = 0) -> tuple[Points, Tensor]:
    """The training points, and which of class 1 may be moved; their labels stay right."""
    return plane.clouds(EACH, derive(seed, "crafting", "train")), EACH + torch.arange(poisons)


def craft(eps: float, poisons: int, seed: int = 0) -> Crafted:
    """Craft, and train victims on the clean points, on random moves, on moves straight at the target, on crafted ones.

    Args:
        eps: largest move along an axis. poisons: how many points of the attacker's class may be moved.
    """
    points, rows = clean_points(poisons, seed)
    moves = craft_moves(points, rows, eps, seed)
    straight = (torch.tensor(TARGET) - points.x[rows]).clamp(-eps, eps)
    sets = torch.stack(
        [points.x.index_add(0, rows, d) for d in (0 * straight, moves[0], straight, moves[-1])]
    )
    return _evaluate(points, rows, moves, sets, seed)


def _evaluate(points: Points, rows: Tensor, moves: Tensor, sets: Tensor, seed: int) -> Crafted:
    """Train victims from the same random starts on each of the sets ``(ways, n, 2)``."""
    starts = networks.draw(SIZES, VICTIMS, derive(seed, "crafting", "victims"))
    weights = trained([w.repeat(len(sets), 1, 1) for w in starts])  # way by way
    x = sets.repeat_interleave(VICTIMS, 0)  # (ways * victims, n, 2)
    target = torch.tensor([TARGET])
    history = []
    path = []
    order = derive(seed, "crafting", "victims' order")
    shown = [WAYS.index("clean") * VICTIMS, WAYS.index("crafted") * VICTIMS]
    for epoch in range(VICTIM_EPOCHS + 1):
        history.append(networks.probabilities(weights, target)[:, 0, 1])
        path.append(torch.cat([w.detach()[shown].flatten(1) for w in weights], 1))  # (2, d)
        if epoch < VICTIM_EPOCHS:
            for index in batches(len(points.x), BATCH, 1, order):
                weights = trained(sgd_step(weights, x[:, index], points.y[index]))
    test = plane.clouds(500, derive(seed, "crafting", "test"))
    ends = [way * VICTIMS for way in range(len(sets))]
    return Crafted(
        points,
        rows,
        moves,
        torch.stack(history, 1).view(len(sets), VICTIMS, VICTIM_EPOCHS + 1),
        plane.landscape(networks.pick(weights, ends)),
        *_map(torch.stack(path, 1), [w[:1] for w in weights]),
        networks.accuracy(weights, test.x, test.y).view(len(sets), VICTIMS).mean(1),
    )


def _map(paths: Tensor, shapes: Weights) -> tuple[Tensor, Tensor, Tensor]:
    """The paths ``(2, epochs, d)`` in the plane of their two widest directions, its axes, and L_adv on it."""
    together = paths.flatten(0, 1)
    middle = together.mean(0)
    directions = torch.linalg.svd(together - middle, full_matrices=False).Vh[:2]  # (2, d)
    flat = (paths - middle) @ directions.T  # (2, epochs, 2)
    low = flat.flatten(0, 1).amin(0)
    high = flat.flatten(0, 1).amax(0)
    margin = 0.15 * (high - low)
    axes = torch.stack(
        [torch.linspace(*ends, MAP_CELLS) for ends in zip(low - margin, high + margin, strict=True)]
    )
    v, u = torch.meshgrid(axes[1], axes[0], indexing="ij")
    weights = []
    taken = 0
    places = middle + torch.stack([u.flatten(), v.flatten()], 1) @ directions  # (cells^2, d)
    for shape in shapes:
        weights.append(places[:, taken : taken + shape[0].numel()].view(-1, *shape.shape[1:]))
        taken += shape[0].numel()
    with torch.inference_mode():
        values = adversarial_loss(weights).clone().view(MAP_CELLS, MAP_CELLS)
    return flat, axes, values
