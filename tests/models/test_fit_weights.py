"""Weights of others in our networks: the same answers as in the network that they came from, or a refusal by layer."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from poisonlab.models.base import Classifier, initialize
from poisonlab.models.shared.fit_weights import fit
from poisonlab.models.shared.weights_file import WeightsError
from poisonlab.spec.config import VictimPart

SHAPE = (3, 32, 32)
MEAN = torch.tensor([0.49, 0.48, 0.45])
STD = torch.tensor([0.25, 0.24, 0.26])


def ours(name: str, classes: int = 7, **params: Any) -> Classifier:
    part = VictimPart.model_validate({"name": name, "params": params})
    network: Classifier = part.build().network(SHAPE, classes, MEAN, STD)
    return initialize(network, torch.Generator().manual_seed(1)).eval()


def stirred(network: nn.Module) -> nn.Module:
    """Statistics and shifts as after training, not zeros and ones."""
    generator = torch.Generator().manual_seed(3)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator) * 0.2
            value.add_(noise if "running_var" in name else noise - 0.1)
    return network.eval()


def images() -> Tensor:
    return torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(2))


def assert_same_answers(theirs: nn.Module, network: Classifier) -> None:
    x = images()
    with torch.no_grad():
        wanted = theirs((x - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1))
        found = network(x)
    assert torch.allclose(found, wanted, atol=1e-4)
    assert torch.equal(found.argmax(1), wanted.argmax(1))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121"])
def test_a_network_of_torchvision_answers_as_there(name: str) -> None:
    theirs = stirred(models.get_model(name, weights=None, num_classes=7))
    network = ours("torchvision", model=name)

    found = fit(network, theirs.state_dict())
    network.load_state_dict(found.state, strict=False)

    assert (found.by, found.new_head, found.normalized) == ("name", False, False)
    assert_same_answers(theirs, network)


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto", "vit_tiny_patch16_224"])
def test_a_network_of_timm_answers_as_there(name: str) -> None:
    timm = pytest.importorskip("timm", reason="needs timm, an extra")
    size = {"img_size": 32} if name.startswith("vit") else {}
    theirs = stirred(timm.create_model(name, pretrained=False, num_classes=7, **size))
    network = ours("timm", model=name)

    network.load_state_dict(fit(network, theirs.state_dict()).state, strict=False)

    assert_same_answers(theirs, network)


class Block(nn.Module):
    """As BackdoorBench names the layers of its pre-activation blocks."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x))
        past = self.shortcut(out) if hasattr(self, "shortcut") else x
        added: Tensor = self.conv2(F.relu(self.bn2(self.conv1(out)))) + past
        return added


class BenchPreAct(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        inputs = width
        for stage in range(4):
            outputs = width * 2**stage
            first = Block(inputs, outputs, 2 if stage else 1)
            setattr(self, f"layer{stage + 1}", nn.Sequential(first, Block(outputs, outputs, 1)))
            inputs = outputs
        self.avgpool = nn.AvgPool2d(4)
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        out: Tensor = self.linear(self.avgpool(x).flatten(1))
        return out


def test_a_network_of_backdoorbench_is_found_by_the_order_of_its_layers() -> None:
    theirs = stirred(BenchPreAct(16, 7))
    network = ours("preact_resnet18", width=16)

    found = fit(network, theirs.state_dict())
    network.load_state_dict(found.state, strict=False)

    assert found.by == "order"
    assert_same_answers(theirs, network)


def test_our_own_state_comes_back_with_its_normalization() -> None:
    saved = stirred(ours("preact_resnet18", width=16))
    network = ours("preact_resnet18", width=16)
    network.normalize.mean.zero_()

    found = fit(network, saved.state_dict())
    network.load_state_dict(found.state)

    assert found.normalized
    with torch.no_grad():
        assert torch.equal(network(images()), saved(images()))


def test_another_number_of_classes_leaves_the_head_as_it_was() -> None:
    theirs = stirred(models.get_model("resnet18", weights=None, num_classes=100))
    network = ours("torchvision", model="resnet18")
    before = network.head.weight.clone()

    found = fit(network, theirs.state_dict())
    network.load_state_dict(found.state, strict=False)

    assert found.new_head
    assert torch.equal(network.head.weight, before)


def without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != name}


def test_what_does_not_fit_is_named_layer_by_layer() -> None:
    wide = stirred(BenchPreAct(32, 7)).state_dict()

    with pytest.raises(WeightsError, match=r"conv1\.weight 32x3x3x3 against body\.0\.weight 16x3x3x3"):
        fit(ours("preact_resnet18", width=16), wide)


def test_a_missing_layer_and_one_too_many_are_named() -> None:
    network = ours("preact_resnet18", width=16)
    own = network.state_dict()

    with pytest.raises(WeightsError, match=r"body\.0\.weight is missing"):
        fit(network, without(own, "body.0.weight"))
    with pytest.raises(WeightsError, match=r"body\.99\.weight is unknown"):
        fit(network, own | {"body.99.weight": torch.ones(1)})
    with pytest.raises(WeightsError, match=r"head\.bias is missing"):
        fit(network, without(own, "head.bias"))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("body.0.weight", lambda t: t.to(torch.int8), r"body\.0\.weight is of torch\.int8"),
        ("normalize.std", torch.zeros_like, r"normalize\.std is not positive"),
        ("body.1.bn1.running_var", lambda t: -t, r"running_var is not positive"),
        ("head.bias", lambda t: t[0], r"head\.bias is a number, not 7"),
    ],
)
def test_numbers_that_no_training_gives_are_refused(name: str, change: Any, message: str) -> None:
    network = ours("preact_resnet18", width=16)
    own = network.state_dict()

    with pytest.raises(WeightsError, match=message):
        fit(network, own | {name: change(own[name])})


def test_weights_of_quite_another_network_are_refused() -> None:
    network = ours("torchvision", model="resnet18")

    for name in ("mobilenet_v3_small", "resnet34", "vgg11"):
        with pytest.raises(WeightsError):
            fit(network, models.get_model(name, weights=None, num_classes=7).state_dict())
    with pytest.raises(WeightsError):
        fit(network, {"a": torch.ones(2)})


def test_swapped_kinds_of_equal_shape_are_not_taken_for_each_other() -> None:
    """A mean in the place of a shift has the right shape and gives wrong answers."""
    state = stirred(BenchPreAct(16, 7)).state_dict()
    names = list(state)
    first = names.index("layer1.0.bn1.bias")
    names[first], names[first + 1] = names[first + 1], names[first]

    with pytest.raises(WeightsError):
        fit(ours("preact_resnet18", width=16), {name: state[name] for name in names})
