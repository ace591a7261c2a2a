"""What is special about channel Lipschitzness pruning: the bound, the pairing, what is cut."""

import pytest
import torch
from core_helpers import clean_model, digits, listening, noise_images, normed_net, small
from torch import nn

from poisonlab import registry
from poisonlab.context import Context, derive
from poisonlab.defenses.clp import CLP, lipschitz_bounds, pairs
from poisonlab.events import ArtifactReady
from poisonlab.models.base import Classifier

SHAPE = (3, 16, 16)


def layer(channels: int = 5) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    draws = derive(0, "layer")
    convolution, norm = (
        nn.Conv2d(4, channels, 3, bias=False),
        nn.BatchNorm2d(channels).eval().requires_grad_(False),
    )
    nn.init.normal_(convolution.weight, generator=draws)
    norm.weight.uniform_(-2, 2, generator=draws)
    norm.running_var.uniform_(0.5, 2, generator=draws)
    return convolution, norm


def test_the_bound_is_the_spectral_norm_of_kernel_and_scale() -> None:
    convolution, norm = layer()
    for k, sigma in enumerate(lipschitz_bounds(convolution, norm)):
        kernel = (
            convolution.weight[k].reshape(4, 9) * norm.weight[k] / (norm.running_var[k] + norm.eps).sqrt()
        )
        assert sigma.item() == pytest.approx(torch.linalg.svdvals(kernel)[0].item(), rel=1e-5)


def test_bounds_and_cuts_are_those_of_the_repository() -> None:
    """Numbers from rkteddy/channel-Lipschitzness-based-pruning 5209c83, defense.py, with u = 1.

    It has no eps under the root; here the norms have none. SCLBD/BackdoorBench f02e353, defense/clp.py, gives the same.
    """
    model = normed_net().requires_grad_(False)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.eps = 0.0

    bounds = torch.cat([lipschitz_bounds(c, n) for _, c, n in pairs(model, (1, 6, 6))])
    repaired = small(CLP, u=1.0).repair(model, noise_images(2, (1, 6, 6)), Context()).model(model)

    expected = [1.50183296425, 0.428968319716, 0.431266842573, 0.39443661272, 0.731911987732]
    assert bounds.tolist() == pytest.approx(expected, rel=1e-10)
    cut = [m.weight == 0 for m in repaired.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [c.nonzero().flatten().tolist() for c in cut] == [[], [2]]


@pytest.mark.parametrize(
    ("victim", "count"), [("resnet8", 9), ("resnet9", 8), ("resnet18", 20), ("vgg19_bn", 16)]
)
def test_every_batch_norm_of_a_victim_has_its_convolution(victim: str, count: int) -> None:
    method = registry.victim[victim]
    model = method(method.Config(width=8)).network((3, 16, 16), 3, torch.zeros(3), torch.ones(3))
    found = pairs(model.eval(), SHAPE)

    assert len(found) == count == sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert all(c.out_channels == n.num_features for _, c, n in found)


def test_norms_that_read_a_sum_are_not_judged() -> None:
    """Nine of sixteen norms of a PreAct-ResNet-18 read what one convolution gave."""
    method = registry.victim["preact_resnet18"]
    model = method(method.Config(width=16)).network((3, 16, 16), 3, torch.zeros(3), torch.ones(3)).eval()
    names = {m: name for name, m in model.named_modules()}

    found = {name.removeprefix("body."): names[c].removeprefix("body.") for name, c, _ in pairs(model, SHAPE)}

    assert found.pop("1.bn1") == "0"  # the stem
    assert found == {f"{block}.bn2": f"{block}.conv1" for block in range(1, 9)}


def test_a_pooling_in_between_keeps_the_pair() -> None:
    method = registry.victim["hyperlight"]
    config = method.Config(first=8, others=16, whitening=True)
    model = method(config).network((3, 16, 16), 3, torch.zeros(3), torch.ones(3)).eval()

    assert len(pairs(model, SHAPE)) == 6


def test_the_channel_that_stands_out_is_cut_and_no_other() -> None:
    convolution, norm = layer(20)
    nn.init.constant_(norm.weight, 1.0)
    norm.weight[7], norm.bias[:] = 50.0, 1.0
    body = nn.Sequential(convolution, norm, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = Classifier(body, 20, 3, torch.zeros(4), torch.ones(4)).eval()

    repair = small(CLP, u=3.0).repair(model, noise_images(2, (4, 8, 8)), Context())
    pruned = repair.model(model).body[1]

    assert (
        (pruned.weight == 0).nonzero().flatten().tolist()
        == [7]
        == (pruned.bias == 0).nonzero().flatten().tolist()
    )
    assert norm.weight[7] == 50


def test_no_images_are_needed_and_all_channels_are_shown() -> None:
    ctx, heard = listening()
    small(CLP).repair(clean_model(), digits().reserve[:0], ctx)
    (scores,) = [e.value for e in heard if isinstance(e, ArtifactReady)]

    channels = [m.num_features for m in clean_model().modules() if isinstance(m, nn.BatchNorm2d)]
    assert scores.histogram.sum(1).tolist() == channels and scores.layers[:3] == ["1", "3.bn1", "3.bn2"]
