"""Channel Lipschitzness pruning: channels that can amplify their input most are cut, without any data."""

import copy

import torch
from torch import Tensor, nn

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.shared.layer_scores import show_channel_scores
from poisonlab.models.base import Classifier
from poisonlab.models.shared.hooks import hooked
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param
from poisonlab.types import ChannelScores, Findings, ImageSet


class CLPConfig(Config):
    u: float = param(
        3.0,
        "Channels above mean + u standard deviations of their layer are pruned",
        quick={"*": 2.5, "digits": 2.0, "cifar10": 3.0},
        elsewhere={"tiny_imagenet": 5.0},
        ge=0,
        le=20,
        source="CLP repository",
    )


def lipschitz_bounds(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """sigma_k = ||W_k||_2 |gamma_k| / sqrt(var_k + eps), ``(channels,)``.

    ||.||_2 is the largest singular value of the kernel as a matrix ``(inputs, height width)``.
    """
    kernels = convolution.weight.detach().flatten(2)  # (channels, inputs, kh kw)
    assert norm.running_var is not None  # victims track their statistics
    scale = norm.weight.detach().abs() / torch.sqrt(norm.running_var + norm.eps)
    bounds: Tensor = torch.linalg.matrix_norm(kernels, ord=2) * scale
    return bounds


def pairs(model: Classifier, shape: tuple[int, int, int]) -> list[tuple[str, nn.Conv2d, nn.BatchNorm2d]]:
    """Each batch norm whose input is what a convolution gave, and that convolution; found by running the network.

    A pooling in between keeps the pair. A norm that reads a sum, as in pre-activation blocks, has no one convolution.

    Args:
        shape: ``(c, h, w)`` of an image.
    """
    source: dict[int, nn.Conv2d] = {}  # id of a tensor -> the convolution that it came from
    alive: list[Tensor] = []  # an id is of one tensor as long as that exists
    before: dict[nn.BatchNorm2d, nn.Conv2d] = {}

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        alive.append(output)
        convolution = module if isinstance(module, nn.Conv2d) else source.get(id(inputs[0]))
        if convolution is None:
            return
        if isinstance(module, nn.BatchNorm2d):
            before[module] = convolution
        else:
            source[id(output)] = convolution

    kinds = nn.Conv2d | nn.BatchNorm2d | nn.MaxPool2d | nn.AvgPool2d
    handles = [m.register_forward_hook(watch) for m in model.modules() if isinstance(m, kinds)]
    with hooked(handles), torch.no_grad():
        model(torch.zeros(1, *shape, device=model.head.weight.device))
    norms = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    return [(name, before[norm], norm) for name, norm in norms if norm in before]


@defense("clp")
class CLP(Defense):
    """Zheng, Tang, Li and Liu, ECCV 2022, arXiv:2208.03111. For each convolution followed by batch norm:

    sigma_k = ||W_k||_2 |gamma_k| / sqrt(var_k);  channels with  sigma_k > mean(sigma) + u sd(sigma)  get
    gamma_k = beta_k = 0.

    Batch norm is in eval mode (its running variance enters the bound) and no image is looked at.
    """

    Config = CLPConfig
    needs_clean_images = False
    card = Card(
        title="Channel Lipschitzness pruning",
        references=(
            Reference(
                authors="R. Zheng, R. Tang, J. Li, L. Liu",
                title="Data-free Backdoor Removal based on Channel Lipschitzness",
                venue="ECCV",
                year=2022,
                arxiv="2208.03111",
            ),
        ),
        summary="A tiny trigger must be amplified to win. Compute for every channel how strongly it can amplify "
        "anything, and cut the few that stand out in their layer. Takes a second and needs no images at all.",
        threat_model="Defender holds the trained model only.",
        deviations=(
            "The variance carries batch norm's own eps, as in the network itself.",
            "A batch norm is judged with the convolution whose output it reads; norms that read a sum, as in "
            "pre-activation networks, are not judged. The repository pairs by the order of modules and judges seven of "
            "sixteen norms of a PreAct-ResNet-18 by a convolution that they do not read, or not alone.",
            "In a layer of n channels none can lie more than (n - 1) / sqrt(n) standard deviations above the mean, "
            "3.75 for n = 16: the preset quick takes a smaller u but on CIFAR-10. On narrow networks the rule stays a "
            "gamble.",
        ),
    )

    def check_network(self, network: Classifier, shape: tuple[int, int, int]) -> None:
        if not pairs(network, shape):
            raise ValueError(
                "clp judges each batch norm with the convolution before it, and the victim has none; choose another "
                "victim"
            )

    def repair(self, model: Classifier, clean: ImageSet, ctx: Context) -> Repair:
        pruned_model = copy.deepcopy(model)
        bounds: dict[str, Tensor] = {}  # module -> (channels,), as a share of its largest
        total = 0
        for name, convolution, norm in pairs(pruned_model, clean.shape):
            sigma = lipschitz_bounds(convolution, norm)
            pruned = sigma > sigma.mean() + self.config.u * sigma.std()
            with torch.no_grad():
                norm.weight[pruned] = 0
                norm.bias[pruned] = 0
            total += int(pruned.sum())
            bounds[name] = (sigma / sigma.max()).detach()
        ctx.log(f"pruned {total} channels")
        scores = ChannelScores(
            score="Lipschitz bound of each channel, as a share of its layer's largest",
            low_is_blamed=False,
            modules=tuple(bounds),
            sizes=tuple(len(shares) for shares in bounds.values()),
            values=torch.cat(list(bounds.values())),
        )
        show_channel_scores("lipschitz", scores, ctx)
        return Repair(pruned_model, Findings(channels=scores))
