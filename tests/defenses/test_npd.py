"""What is special about NPD: where its layer goes, that nothing else moves, and its attack and loss by hand."""

import copy
import math

import pytest
import torch
from core_helpers import clean_model, digits, small, state_of
from core_helpers import network as core_network
from torch import Tensor, nn

from poisonlab import registry
from poisonlab.context import Context
from poisonlab.defenses.npd import NPD, NPDConfig, likeliest_other, misled, place, polarizing_loss, within
from poisonlab.models.base import Classifier, as_floats, logits
from poisonlab.models.shared.inserted import insert


def network(name: str, shape: tuple[int, int, int] = (3, 32, 32)) -> Classifier:
    kind = registry.victim[name]
    statistics = torch.zeros(shape[0]), torch.ones(shape[0])
    made: Classifier = kind(kind.Config.for_preset("paper", "cifar10")).network(shape, 10, *statistics)
    return made.eval()


def test_the_layer_goes_where_the_reference_puts_it() -> None:
    model = network("preact_resnet18")
    before = place(model, (3, 32, 32))

    assert before is not None
    last_block = before.rsplit(".", 1)[0]
    assert (
        model.get_submodule(before)
        is [m for n, m in model.named_modules() if n.startswith(last_block) and isinstance(m, nn.Conv2d)][0]
    )
    layer = insert(model, before)
    assert sum(p.numel() for p in layer.parameters()) == 512**2 + 2 * 512


@pytest.mark.parametrize(
    "name", ["resnet8", "hyperlight", "vgg19_bn", "mobilenetv2", "convnet", "densenet121"]
)
def test_at_first_the_layer_changes_nothing(name: str) -> None:
    model = network(name)
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = model(x)

    before = place(model, (3, 32, 32))
    assert before is not None
    insert(model, before)

    assert torch.allclose(model(x), expected, rtol=1e-4, atol=1e-4 * float(expected.detach().abs().max()))


def test_only_the_layer_is_trained_and_the_given_network_is_left_alone() -> None:
    model = clean_model()
    before = state_of(model)

    repaired = (
        small(NPD, epochs=2, warmup_epochs=1).repair(model, digits().reserve[:32], Context(seed=1)).result
    )

    after = state_of(repaired)
    added = after.keys() - before.keys()
    assert all(torch.equal(before[name], value) for name, value in state_of(model).items())
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert added and all(".inserted." in name for name in added)
    changed = copy.deepcopy(model)
    insert(changed, str(place(changed, digits().reserve.shape)))
    assert not all(torch.equal(after[name], value) for name, value in state_of(changed).items())


def test_the_batch_norm_collects_in_the_warm_up_and_rests_afterwards() -> None:
    def counted(**values: int) -> int:
        repaired = (
            small(NPD, batch_size=16, **values)
            .repair(clean_model(), digits().reserve[:32], Context(seed=1))
            .result
        )
        return next(
            int(v) for k, v in state_of(repaired).items() if k.endswith("inserted.norm.num_batches_tracked")
        )

    assert counted(epochs=3, warmup_epochs=2) == 4
    assert counted(epochs=3, warmup_epochs=0) == 0


def test_changes_keep_the_radius_and_the_range_of_images_and_lead_to_the_wished_class() -> None:
    model = clean_model()
    x = as_floats(digits().test.x[:40])
    y = digits().test.y[:40]
    wished = likeliest_other(model(x), y)
    config = NPDConfig(inner_steps=4, enough=1.0)

    examples = misled(model, x, wished, 1.5, config)

    delta = (examples - x).flatten(1).norm(dim=1)
    assert delta.max() <= 1.5 + 1e-4 and examples.min() >= 0 and examples.max() <= 1
    before = model(x).softmax(1).gather(1, wished[:, None]).mean()
    assert model(examples).softmax(1).gather(1, wished[:, None]).mean() > before + 0.05


def test_an_attack_that_misleads_enough_of_a_batch_goes_no_further() -> None:
    model = clean_model()
    x = as_floats(digits().test.x[:20])
    own = model(x).argmax(1)  # all of them are there before the first step

    assert torch.equal(misled(model, x, own, 1.5, NPDConfig()), x)


def test_changes_are_shortened_and_never_lengthened() -> None:
    delta = torch.tensor([3.0, 4.0, 0.3, 0.4, 0, 0]).view(3, 1, 1, 2)

    assert within(delta, 2.0).flatten(1).norm(dim=1).tolist() == pytest.approx([2.0, 0.5, 0])


def test_the_wished_class_is_a_wrong_one_however_small_the_logits() -> None:
    logits = torch.tensor([[30.0, -12.0, -11.0], [-40.0, -50.0, -60.0], [1.0, 2.0, 3.0]])

    assert likeliest_other(logits, torch.tensor([0, 0, 2])).tolist() == [2, 1, 1]


def test_a_network_that_was_polarized_is_refused_and_one_without_a_place_as_well() -> None:
    """In the repair, too: where a network cannot be looked at beforehand, as some of other libraries."""
    data = digits().reserve[:16]
    method = small(NPD)
    once = method.repair(clean_model(), data, Context(seed=1)).result
    single = Classifier(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), 392, 10, torch.zeros(1), torch.ones(1)
    )

    for network, message in ((once, "repaired by npd before; take it from"), (single, "fewer than two")):
        with pytest.raises(ValueError, match=message):
            method.check_network(network, data.shape)
        with pytest.raises(ValueError, match=message):
            method.repair(network.eval(), data, Context(seed=1))


class Says(nn.Module):
    """A network whose logits are the pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def test_the_loss_is_that_of_a_batch_by_hand() -> None:
    x = torch.tensor([[2.0, 0.0, -1.0]]).view(1, 1, 1, 3)  # says class 0
    examples = torch.tensor([[0.0, 1.0, 3.0]]).view(1, 1, 1, 3)  # says class 2
    config = NPDConfig(lambda_1=1.0, lambda_2=0.5, lambda_3=0.25, lambda_4=0.125)
    model: Classifier = Says()  # type: ignore[assignment]

    loss = polarizing_loss(model, x, torch.tensor([1]), examples, torch.tensor([0]), config)

    def softmax(*values: float) -> list[float]:
        total = sum(math.exp(v) for v in values)
        return [math.exp(v) / total for v in values]

    clean = softmax(2, 0, -1)
    attacked = softmax(0, 1, 3)
    expected = -math.log(clean[1])
    expected += 0.5 * -math.log(attacked[0])  # keeps what it said of x
    expected += 0.25 * -math.log(1.0001 - attacked[2])  # the likeliest class but the label
    expected += 0.125 * -math.log(1.0001 - attacked[0])
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert likeliest_other(model(examples), torch.tensor([2])).item() == 1


def test_logits_of_a_repaired_copy_are_its_own() -> None:
    """A copy has a layer of its own: training one does not change the other."""
    first = copy.deepcopy(clean_model())
    insert(first, str(place(first, digits().reserve.shape)))
    second = copy.deepcopy(first)
    x = digits().test.x[:5]
    before = logits(first, x)

    with torch.no_grad():
        for name, value in second.named_parameters():
            if ".inserted." in name:
                value.zero_()

    assert torch.equal(logits(first, x), before) and not torch.equal(logits(second, x), before)


def test_pairs_leave_no_image_alone_whose_map_is_one_place() -> None:
    """Batch norm in its warm-up has no variance of a single number."""
    clean = digits().reserve[:5]
    model = core_network(clean, "vgg19_bn", width=4)

    repaired = small(NPD, batch_size=2, warmup_epochs=1).repair(model, clean, Context(seed=1)).result

    assert logits(repaired, clean.x).isfinite().all()
