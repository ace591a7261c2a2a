"""EPIC: facility location against brute force, what is dropped and stays dropped, the budget, and its training."""

import itertools

import pytest
import torch
from core_helpers import clean_model, derive, digits, network
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.base import ISOLATED
from poisonlab.defenses.epic import (
    DropIsolated,
    EPICConfig,
    isolated,
    last_layer_gradients,
    medoids,
    medoids_of_classes,
    similarities,
)
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.spec.config import TrainingConfig, make_spec
from poisonlab.training.loop import train_network
from poisonlab.types import ImageSet


def between_points(n: int, seed: int = 0) -> Tensor:
    return similarities(torch.rand(n, 3, generator=derive(seed, "points")))


def facility(similarity: Tensor, chosen: list[int]) -> float:
    return float(similarity[:, chosen].max(1).values.sum())


def test_similarity_is_that_of_the_official_library() -> None:
    """exp(-distance / columns): distances 5 and 10 over 2 columns."""
    found = similarities(torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]))

    near, far = 0.0820850, 0.0067379  # e^-2.5 and e^-5
    assert found.tolist() == [
        pytest.approx(row, abs=1e-6) for row in ([1, near, far], [near, 1, near], [far, near, 1])
    ]


def test_the_first_medoid_is_in_the_thick_of_the_points() -> None:
    """Sums of e^-distance: 2.7236, 2.8097, 2.7236, 1.0002, 1.0000; the sum of distances alone is least at 0.2."""
    similarity = similarities(torch.tensor([[0.0], [0.1], [0.2], [10.0], [20.0]]))

    assert similarity.sum(0).tolist() == pytest.approx([2.7236, 2.8097, 2.7236, 1.0002, 1.0], abs=1e-4)
    assert medoids(similarity, 3).tolist() == [1, 4, 3]


def test_medoids_are_shared_out_by_size_and_add_up() -> None:
    """3 of 10: shares of 1.5, 0.9 and 0.6 are 2, 1 and 1, and each class may be the one that gives one back."""
    found = {
        tuple(medoids_of_classes(torch.tensor([5, 3, 2]), 0.3, derive(seed, "epic")).tolist())
        for seed in range(40)
    }

    assert found == {(1, 1, 1), (2, 0, 1), (2, 1, 0)}
    whole = medoids_of_classes(torch.full((10,), 5000), 0.3, derive(0, "epic"))
    assert whole.tolist() == [1500] * 10


def test_a_share_that_asks_for_no_medoid_is_explained() -> None:
    with pytest.raises(ValueError, match=r"subset=0.001 asks for no medoid of the 200 training images"):
        medoids_of_classes(torch.full((10,), 20), 0.001, derive(0, "epic"))


@pytest.mark.parametrize("seed", range(5))
def test_each_medoid_is_the_best_next_one_by_brute_force(seed: int) -> None:
    similarity = between_points(8, seed)
    chosen: list[int] = []

    for found in medoids(similarity, 4).tolist():
        chosen.append(max(set(range(8)) - set(chosen), key=lambda j: facility(similarity, [*chosen, j])))
        assert found == chosen[-1]


@pytest.mark.parametrize("seed", range(5))
def test_greedy_is_within_its_guarantee_of_the_best_set(seed: int) -> None:
    similarity = between_points(8, seed)
    best = max(facility(similarity, list(some)) for some in itertools.combinations(range(8), 3))

    assert facility(similarity, medoids(similarity, 3).tolist()) >= (1 - 1 / torch.e) * best


def test_as_many_medoids_as_points_are_all_points() -> None:
    assert sorted(medoids(between_points(8), 8).tolist()) == list(range(8))


def test_a_point_far_from_two_clusters_is_isolated() -> None:
    points = torch.cat(
        [torch.randn(10, 2, generator=derive(0, "c")) * 0.05 + center for center in (0.0, 5.0)]
    )
    points = torch.cat([points, torch.tensor([[20.0, -20.0]])])

    assert isolated(points, 3).tolist() == [20]
    assert len(isolated(points, 21)) == 21  # with a medoid for each, everybody is alone


def test_gradients_are_those_of_the_last_layers_output() -> None:
    model, data = clean_model(), digits().train[:6]
    outputs = torch.nn.functional.linear(model.features(data.x.float() / 255), model.head.weight)
    outputs = (outputs * model.logit_scale).detach().requires_grad_()
    torch.nn.functional.cross_entropy(outputs, data.y, reduction="sum").backward()

    assert outputs.grad is not None
    assert torch.allclose(last_layer_gradients(model, data), outputs.grad, atol=1e-5)


class Watched(DropIsolated):
    """Remembers what was kept and drawn, and the rows of every batch."""

    def begin(self, model: torch.nn.Module, data: ImageSet, steps_an_epoch: int, epochs: int) -> None:
        super().begin(model, data, steps_an_epoch, epochs)
        self.history: list[Tensor] = []
        self.sizes: list[list[int]] = []

    def epoch(self, number: int, data: ImageSet) -> ImageSet:
        drawn = super().epoch(number, data)
        assert self.model.training and len(drawn) == int(self.kept.sum())
        self.history.append(self.kept.clone())
        self.sizes.append([])
        return drawn

    def batch(self, x: Tensor, y: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        self.sizes[-1].append(len(index))
        return super().batch(x, y, index)


def test_dropped_images_stay_dropped_within_the_budget_and_leave_the_batches() -> None:
    data, hook = digits().train, Watched(EPICConfig(subset=0.2, drop_after=2, every=2), Context())

    train_network(network(data, width=8), data, TrainingConfig(epochs=6, batch_size=20), Context(), hook)

    left = [int(kept.sum()) for kept in hook.history]
    assert left[:2] == [200, 200] and left[2] == left[3] < 200 and left[4] == left[5] <= left[3]
    assert all(bool((later <= earlier).all()) for earlier, later in itertools.pairwise(hook.history))
    assert left[1] - left[2] <= 0.2 * 200 and left[3] - left[4] <= 0.2 * 200
    assert [sum(sizes) for sizes in hook.sizes] == left and max(map(max, hook.sizes)) <= 20
    assert torch.equal(hook.learned()[ISOLATED], (~hook.kept).nonzero().squeeze(1))


def test_dropping_may_begin_before_the_first_epoch() -> None:
    """As PureGen does in fine-tuning: drop_after 0, every 1."""
    data, hook = digits().train, Watched(EPICConfig(subset=0.6, drop_after=0, every=1), Context())

    train_network(network(data, width=8), data, TrainingConfig(epochs=3, batch_size=20), Context(), hook)

    left = [int(kept.sum()) for kept in hook.history]
    assert 80 <= left[0] < 200 and left[0] > left[1] > left[2]


def test_a_start_after_the_last_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match="drop_after=3 leaves none of the 3 epochs"):
        DropIsolated(EPICConfig(drop_after=3), Context()).begin(network(digits().train), digits().train, 1, 3)


def test_dropping_everybody_is_explained() -> None:
    data = digits().train[:10]
    hook = DropIsolated(EPICConfig(subset=0.99, drop_after=1, every=1), Context())
    hook.begin(network(data), data, 1, 20)

    with pytest.raises(ValueError, match=r"subset=0.99 dropped every training image"):
        for number in range(2, 20):  # 9 of 10 images are medoids, another one is not each time
            hook.epoch(number, data)


@pytest.mark.slow
def test_digits_are_still_learned_without_the_dropped_ones() -> None:
    small = {"dataset.train_images": 300, "training.epochs": 8, "attack.poison_rate": 0.1}
    spec = make_spec("digits", "badnets", "epic", overrides=small)

    found = run_experiment(spec, Context()).metrics

    assert found["clean_accuracy"] > 0.7 and 0 <= found["isolation_precision"] <= 1
