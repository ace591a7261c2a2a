"""Where a network looks when it answers: class activation maps and input gradients, and their share in a trigger."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.lens.pictures import networks, spread, victims_of
from poisonlab.models.base import Classifier, as_floats
from poisonlab.models.shared.hooks import hooked
from poisonlab.models.shared.inserted import is_inserted
from poisonlab.pipeline.reopen import Opened
from poisonlab.types import Backdoor, Targeted

MEASURED = 128  # images that shares are averaged over, where these are small
SHOWN = 8  # images whose maps are drawn
PIXELS_AT_ONCE = 128 * 32 * 32  # gradients keep every activation: of large images fewer are taken at a time
PIXELS_IN_ALL = 8 * PIXELS_AT_ONCE
LARGE = 0.25  # a trigger on more of the image than this is no place to look at
METHODS = ("Grad-CAM", "HiResCAM")
GRADIENTS = "input gradients"
ACROSS = 2  # cells that a trigger has to be wide for a map to show it as a thing with a place


@dataclass(frozen=True)
class Layer:
    """A part of a network whose output keeps the image's layout.

    Attributes:
        name: of the module.
        height, width: cells of its maps.
    """

    name: str
    height: int
    width: int


@dataclass(frozen=True)
class Attention:
    """Where each network looks on the same pictures.

    Attributes:
        x: uint8 ``(shown, c, h, w)``, some of the pictures; ``k`` are measured.
        support: bool ``(shown, h, w)``, pixels that the trigger changed; all false where there is none.
        true: int64 ``(shown,)``, their classes.
        even: the share of a map that is the same everywhere; NaN without a trigger.
        names: of the maps: those of each layer from the finest to the coarsest, by two methods, then the input
            gradients; these alone of a network without layers that keep the image's layout.
        usual: position in ``names`` of the map to look at first, see :func:`usual_map`.
        answers: model -> int64 ``(shown,)``.
        maps: model -> float32 ``(names, shown, h, w)``, not negative, enlarged to the image.
        shares: model -> float32 ``(names, k)`` in [0, 1], of each map's mass that lies in the trigger; NaN where the
            map is empty or the trigger changes nothing.
    """

    x: Tensor
    support: Tensor
    true: Tensor
    classes: tuple[str, ...]
    even: float
    names: tuple[str, ...]
    usual: int
    answers: dict[str, Tensor]
    maps: dict[str, Tensor]
    shares: dict[str, Tensor]


def attention(opened: Opened, trial: int = 0) -> Attention:
    """Where a trial's networks look on the pictures that the attack is measured on, each for its own answer.

    Of a backdoor these are test images with the trigger, of a targeted attack the target, then poisoned images; where
    there is nothing of these, test images.
    """
    x, plain, true = _subjects(opened, trial)
    support = (x != plain).any(1)  # (k, h, w)
    models = networks(opened, trial)
    first = next(iter(models.values()))
    layers = tuple(layer for _, layer in spatial_layers(first, as_floats(x[:1])).values())
    shown = spread(len(x), SHOWN).to(x.device)
    answers: dict[str, Tensor] = {}
    maps: dict[str, Tensor] = {}
    shares: dict[str, Tensor] = {}
    for name, model in models.items():
        said, seen = looked_at(model, x, spatial_layers(model, as_floats(x[:1])))
        answers[name] = said[shown].cpu()
        maps[name] = seen[:, shown].cpu()
        shares[name] = share_inside(seen, support).cpu()
    even = float(support.float().mean()) if support.any() else float("nan")
    names = tuple(f"{method} {layer.height}×{layer.width}" for method in METHODS for layer in layers)
    usual = usual_map(layers, support)
    classes = opened.attacked.splits.train.classes
    kept = (x[shown].cpu(), support[shown].cpu(), true[shown].cpu())
    return Attention(*kept, classes, even, (*names, GRADIENTS), usual, answers, maps, shares)


def _subjects(opened: Opened, trial: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, the same without a trigger, and their classes."""
    splits = opened.attacked.splits
    most = min(MEASURED, max(SHOWN, PIXELS_IN_ALL // splits.test.x[0, 0].numel()))
    threat = opened.attacked.threat
    if isinstance(threat, Backdoor):
        plain = victims_of(splits.test, threat, most)
        return threat.trigger(plain.x), plain.x, plain.y
    if isinstance(threat, Targeted):
        poison = opened.attacked.poison
        rows = spread(poison.budget, SHOWN - 1).to(poison.index.device)
        x = torch.cat([threat.images[trial, None], poison.images[trial, rows]])
        true = torch.cat([threat.true_labels[trial, None], splits.train.y[poison.index[trial, rows]]])
        return x, x, true
    some = splits.test[spread(len(splits.test), most).to(splits.test.y.device)]
    return some.x, some.x, some.y


def spatial_layers(model: Classifier, x: Tensor) -> dict[str, tuple[nn.Module, Layer]]:
    """The last module of each resolution that gives maps ``(n, channels, height, width)``, the finest first.

    A network whose modules mostly give something else, as transformers do, has none. A layer that a repair put in does
    not count: networks are to be looked at in one place before the repair and after it.

    Args:
        x: float ``(1, c, h, w)`` in [0, 1].
    """
    found: dict[tuple[int, int], tuple[str, nn.Module]] = {}
    single = [0, 0]  # calls of modules without parts: all, and those that give maps

    def note(name: str, module: nn.Module, output: object) -> None:
        size = _map_size(output, x)
        if not list(module.children()):
            single[0] += 1
            single[1] += size is not None
        if size is not None:
            found.pop(size, None)
            found[size] = (name, module)

    handles = [
        module.register_forward_hook(lambda m, _, out, name=name: note(name, m, out))
        for name, module in model.body.named_modules(prefix="body")
        if not is_inserted(name)
    ]
    with hooked(handles), torch.no_grad():
        model(x)
    if 2 * single[1] < single[0]:
        return {}
    ordered = sorted(found.items(), reverse=True)
    return {name: (module, Layer(name, *size)) for size, (name, module) in ordered}


def _map_size(output: object, x: Tensor) -> tuple[int, int] | None:
    """Height and width of what a module gave, where it has the layout of the image."""
    if not isinstance(output, Tensor) or output.ndim != 4:
        return None
    height, width = output.shape[2:]
    alike = abs(height * x.shape[3] - width * x.shape[2]) <= max(x.shape[2:])  # to a cell
    return (height, width) if alike and min(height, width) > 1 else None


def looked_at(
    model: Classifier, x: Tensor, layers: Mapping[str, tuple[nn.Module, Layer]]
) -> tuple[Tensor, Tensor]:
    """Answers, and for the logit of each answer the maps of all layers and the input gradients.

    Input gradients (Simonyan et al., ICLR workshop 2014, section 3) are the largest absolute derivative of a pixel's
    channels.

    Args:
        x: uint8 ``(n, c, h, w)``.

    Returns:
        int64 ``(n,)``, and float32 ``(2 layers + 1, n, h, w)``, not negative: Grad-CAM of each layer, HiResCAM of each,
        and the input gradients.
    """
    at_once = max(1, PIXELS_AT_ONCE // x[0, 0].numel())
    parts = [_looked_at(model, part, layers) for part in x.split(at_once)]
    return torch.cat([answers for answers, _ in parts]), torch.cat([maps for _, maps in parts], 1)


def _looked_at(
    model: Classifier, x: Tensor, layers: Mapping[str, tuple[nn.Module, Layer]]
) -> tuple[Tensor, Tensor]:
    outputs: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(lambda m, _, out, name=name: outputs.__setitem__(name, out))
        for name, (module, _) in layers.items()
    ]
    pixels = as_floats(x).requires_grad_(True)
    with hooked(handles), torch.enable_grad():
        logits = model(pixels)
    answers = logits.argmax(1)
    score = logits.gather(1, answers[:, None]).sum()  # images do not mix in eval mode
    asked = [outputs[name] for name in layers]
    *gradients, of_pixels = torch.autograd.grad(score, [*asked, pixels])
    pairs = [(out.detach(), gradient) for out, gradient in zip(asked, gradients, strict=True)]
    coarse = [grad_cam(*pair) for pair in pairs] + [hires_cam(*pair) for pair in pairs]
    maps = [enlarged(part, x.shape[2:]) for part in coarse]
    return answers, torch.stack([*maps, of_pixels.abs().amax(1)])


def grad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Channels weighted by the mean of their gradients and summed, without what is negative: ``(n, height, width)``.

    Selvaraju et al., ICCV 2017, equations 1 and 2.

    Args:
        activation, gradient: ``(n, channels, height, width)``, and the score's gradient with respect to it.
    """
    weights = gradient.mean((2, 3), keepdim=True)  # (n, channels, 1, 1)
    return (weights * activation).sum(1).relu()


def hires_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """The same with each place's own gradient in the place of the mean (Draelos & Carin 2020, arXiv:2011.08891).

    In the last layer of a network that ends in average pooling, a channel has one gradient everywhere and both are the
    same. Before it, the mean throws away where a channel counts: a channel that answers to a trigger answers to other
    edges as well, and Grad-CAM marks them all.
    """
    return (gradient * activation).sum(1).relu()


def enlarged(coarse: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps ``(n, height, width)`` as float32 ``(n, h, w)``, linear between the middles of cells; none gets negative."""
    shown = F.interpolate(coarse[:, None].float(), tuple(size), mode="bilinear", align_corners=False)
    return shown.squeeze(1)


def share_inside(maps: Tensor, support: Tensor) -> Tensor:
    """The share of each map's mass on the pixels of ``support``, in [0, 1]; NaN of an empty map or support.

    Args:
        maps: ``(..., n, h, w)``, not negative. support: bool ``(n, h, w)``.
    """
    whole = maps.sum((-2, -1))
    share = (maps * support).sum((-2, -1)) / whole
    known = (whole > 0) & support.any(-1).any(-1)
    return share.clamp(0, 1).where(known, torch.nan)


def usual_map(layers: tuple[Layer, ...], support: Tensor) -> int:
    """Position of the map to look at first, among those of :data:`METHODS` and the gradients.

    Selvaraju et al. take Grad-CAM of the last layer, which knows most about classes: so does this, where no trigger has
    a place. A small picture leaves that layer a few cells, each larger than a small trigger: even a map that is all in
    the trigger's own cell has half of its mass beside it. So the first choice is the deepest layer in which the trigger
    is at least two cells wide, as sampling asks of a thing that is to be seen, or the finest; and HiResCAM there, as
    Grad-CAM's reason for one weight a channel holds for a last layer alone.

    Args:
        support: bool ``(k, h, w)``, where the trigger is on each of the pictures.
    """
    if not layers:
        return 0
    side = trigger_side(support)
    if side is None:
        return len(layers) - 1
    fine = [i for i, layer in enumerate(layers) if ACROSS * support.shape[1] <= side * layer.height]
    return len(layers) + max(fine, default=0)


def trigger_side(support: Tensor) -> int | None:
    """Shorter side of the box around a trigger, in pixels; ``None`` without one, or of one on much of the image."""
    somewhere = support.any(0)
    if not somewhere.any() or somewhere.float().mean() > LARGE:
        return None
    places = somewhere.nonzero()
    return int((places.amax(0) - places.amin(0) + 1).min())
