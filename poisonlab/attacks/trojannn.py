"""TrojanNN: a patch that was optimized to excite two units of a network."""

import torch
from torch import Tensor

from poisonlab.attacks.base import AttackerView
from poisonlab.attacks.shared.backdoor import TRAINS_A_MODEL, BackdoorAttack, DirtyLabelConfig
from poisonlab.attacks.shared.pixels import to_bytes
from poisonlab.context import Context
from poisonlab.models.base import Classifier
from poisonlab.registry import Card, attack
from poisonlab.spec.config import param
from poisonlab.spec.papers import TROJANING


class TrojanNNConfig(DirtyLabelConfig):
    area: float = param(
        0.07, "Share of the image that the patch covers", gt=0, le=0.5, source="BackdoorBench"
    )
    units: int = param(2, "Penultimate units to excite", ge=1, le=512, source="BackdoorBench")
    activation: float = param(100, "Value the units should reach", gt=0, source="BackdoorBench")
    steps: int = param(1000, "Adam steps", ge=1, le=10_000, source="BackdoorBench")
    step_size: float = param(10, "Adam learning rate", gt=0, le=255, unit="1/255")


def disc(h: int, w: int, area: float) -> Tensor:
    """The ``area * h * w`` pixels closest to a point in the lower right quarter, bool ``(h, w)``."""
    count = round(area * h * w)
    if count < 1:
        raise ValueError(f"area={area} of {h}x{w} images is {count} pixels")
    down = torch.arange(h)[:, None] - 0.75 * h
    right = torch.arange(w) - 0.75 * w
    order = (down**2 + right**2).flatten().argsort(stable=True)
    mask = torch.zeros(h * w, dtype=torch.bool)
    mask[order[:count]] = True
    return mask.view(h, w)


def strongest_units(model: Classifier, count: int) -> Tensor:
    """Penultimate units with the largest sum of absolute weights into the head: argmax_j sum_c |W_cj|."""
    reach = model.head.weight.abs().sum(0)
    if count > len(reach):
        raise ValueError(f"units={count} asks for more than the {len(reach)} penultimate units")
    return reach.topk(count).indices


def excite(
    model: Classifier, units: Tensor, start: Tensor, mask: Tensor, config: TrojanNNConfig, ctx: Context
) -> Tensor:
    """Minimize mean_j (phi_j(x) - activation)^2 over the pixels of ``x`` inside ``mask``, kept in [0, 1].

    Args:
        start: float ``(1, c, h, w)``.

    Returns:
        float ``(1, c, h, w)``.
    """
    x = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=config.step_size / 255)
    for step in range(1, config.steps + 1):
        reached = model.features(x)[:, units]
        (gradient,) = torch.autograd.grad((reached - config.activation).square().mean(), x)
        x.grad = gradient * mask
        optimizer.step()
        with torch.no_grad():
            x.clamp_(0, 1)
        if step % 10 == 0 or step == config.steps:
            ctx.metric("mean_activation", step, reached.mean().item())
        ctx.progress(step, config.steps)
    return x.detach()


@attack("trojannn")
class TrojanNN(BackdoorAttack):
    """Trojan trigger generation and retraining (Liu et al., NDSS 2018, section IV)."""

    Config = TrojanNNConfig
    card = Card(
        title="TrojanNN",
        references=(TROJANING,),
        summary="The attacker asks a clean network which patch would excite its most influential units, and uses that "
        "patch as the trigger: networks of its kind see it well and learn it fast.",
        threat_model=TRAINS_A_MODEL,
        deviations=(
            "As in BackdoorBench the patch poisons training from scratch; the paper retrains the given network on "
            "images it reverse-engineered.",
            "The mask is a disc in the lower right quarter; BackdoorBench uses an apple's outline of the same area.",
            "Pixels outside the mask are the training set's mean color while the patch is optimized, and pixels stay "
            "in [0, 1]: 100 is a direction, not a value that averaged units reach. The learning rate is ours.",
        ),
    )

    def learn(self, view: AttackerView, ctx: Context) -> dict[str, Tensor]:
        cfg: TrojanNNConfig = self.config
        c, h, w = view.train.shape
        mask = disc(h, w, cfg.area).to(ctx.device)
        model = view.clean_model().requires_grad_(False)
        noise = torch.rand((1, c, h, w), generator=ctx.generator("trojannn", "start"), device=ctx.device)
        start = torch.where(mask, noise, model.normalize.mean)
        pattern = excite(model, strongest_units(model, cfg.units), start, mask, cfg, ctx)
        return {"pattern": to_bytes(pattern[0]), "mask": mask}

    def trigger(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        return torch.where(state["mask"], state["pattern"], x)
