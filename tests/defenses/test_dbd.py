"""What is special about DBD: its symmetric loss, whose labels it believes, and how images are mixed."""

import copy
import dataclasses
import math

import pytest
import torch
from core_helpers import clean_model, digits, network, noise_images, same_state, small, state_of

from poisonlab.context import Context
from poisonlab.defenses.dbd import DBD, FAINTEST, MixMatch, proportion, symmetric_cross_entropy
from poisonlab.models.base import predict
from poisonlab.types import ImageSet

TINY = {"contrastive_epochs": 1, "head_epochs": 1, "mixing_epochs": 2, "mixing_batches": 2, "batch_size": 8}


def learning(data: ImageSet, **values: float) -> MixMatch:
    method = small(DBD, **values)
    return MixMatch(copy.deepcopy(clean_model()), data, method.config, Context())


def test_the_symmetric_loss_is_that_of_two_answers_by_hand() -> None:
    given = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])

    loss = symmetric_cross_entropy(given, torch.tensor([0, 1]), 0.1, 1.0)

    faint = -math.log(FAINTEST)  # the label's logarithm is 0 where it is given, log 1e-4 elsewhere
    assert loss[0].item() == pytest.approx(0.1 * math.log(2) + 0.5 * faint)
    assert loss[1].item() == pytest.approx(0.1 * math.log(4) + 0.75 * faint)


def test_the_larger_part_of_a_mixture_is_that_of_beta() -> None:
    draws = torch.Generator().manual_seed(0)
    found = torch.tensor([proportion(0.75, draws) for _ in range(4000)])
    torch.manual_seed(0)
    drawn = torch.distributions.Beta(0.75, 0.75).sample((4000,))
    expected = torch.maximum(drawn, 1 - drawn)

    assert found.min() >= 0.5 and found.max() <= 1
    assert found.mean().item() == pytest.approx(expected.mean().item(), abs=0.01)
    assert found.std().item() == pytest.approx(expected.std().item(), abs=0.01)


def test_labels_are_believed_where_the_loss_is_low_over_all_classes_together() -> None:
    data = digits().train[:100]
    wrong = dataclasses.replace(data, y=torch.cat([(data.y[:20] + 1) % 10, data.y[20:]]))
    step = learning(wrong, credible_share=0.6)

    believed = step.choose()

    assert len(believed) == 60 and len(step.others) == 40
    assert set(range(20)) <= set(step.others.tolist())  # what the network reads otherwise is not believed
    assert step.losses[believed].max() <= step.losses[step.others].min()


def test_a_batch_is_mixed_with_itself_and_its_labels_stay_distributions() -> None:
    data = digits().train[:100]
    step = learning(data, crop_padding=0, flip=False)
    believed = step.choose()

    x, y = step.prepare(believed[:8])

    assert x.shape == (24, *data.shape) and y.shape == (24, 10) and step.believed == 8
    assert torch.allclose(y.sum(1), torch.ones(24)) and 0 <= float(x.min()) <= float(x.max()) <= 1
    largest, place = y[:8].max(1)
    assert (
        torch.equal(place, data.y[believed[:8]]) and (largest >= 0.5).all()
    )  # the image itself has the larger part


def test_guesses_are_the_squared_mean_answers_scaled_to_one() -> None:
    data = digits().train[:6]
    step = learning(data)
    step.network.eval()
    views = [step.seen(torch.arange(6)) for _ in range(2)]

    found = step.guess(views)

    with torch.no_grad():
        mean = sum(step.network(x).softmax(1) for x in views) / 2
    expected = mean.square() / mean.square().sum(1, keepdim=True)
    assert torch.allclose(found, expected, atol=1e-6)


def test_where_every_label_is_believed_only_labels_are_learned() -> None:
    step = learning(digits().train[:40], credible_share=1.0)

    rows = step.choose()
    x, y = step.prepare(rows[:8])

    assert len(rows) == 40 and not len(step.others)
    step.weight = 1e6  # of what is not there
    assert step.loss(torch.zeros(8, 10), y).item() == pytest.approx(math.log(10)) and len(x) == 8


def test_its_network_depends_on_the_seed_alone_and_changes_nothing_given() -> None:
    model = clean_model()
    before = state_of(model)
    suspects = digits().train[:60]
    method = small(DBD, **TINY)

    one, again, other = (
        method.repair_with_suspects(model, suspects[:0], suspects, Context(seed=seed)) for seed in (3, 3, 4)
    )

    assert same_state(state_of(one.result), state_of(again.result)) and not same_state(
        state_of(one.result), state_of(other.result)
    )
    assert same_state(state_of(model), before) and not one.result.training
    flags = one.findings.flags
    assert flags is not None and len(flags.rows) == 30
    assert predict(one.result, suspects.x).shape == (60,)


def test_labels_take_no_part_in_the_features() -> None:
    """Steps 1 and 2: the features of two sets that differ in their labels alone are equal."""
    data = noise_images(24)
    turned = dataclasses.replace(data, y=data.y.roll(1))
    method = small(DBD, **TINY | {"contrastive_batch_size": 12})
    learned = []
    for images in (data, turned):
        own = network(images)
        method.learn_features(own, images, Context())
        learned.append(state_of(own))

    assert same_state(*learned) and not same_state(learned[0], state_of(network(data)))
