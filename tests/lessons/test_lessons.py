"""The computations behind the lessons: each shows the effect that its page tells about."""

import pytest
import torch

from poisonlab.context import derive
from poisonlab.lessons import adaptive, backdoor, cleaning, crafting, energy, masking, networks, planting
from poisonlab.lessons.plane import clouds


@pytest.fixture(scope="module")
def crafted() -> crafting.Crafted:
    return crafting.craft(0.8, 60)


def test_networks_side_by_side_learn_as_they_do_alone() -> None:
    points = clouds(20, derive(0, "points"))
    start = networks.draw((2, 8, 2), 3, derive(0, "start"))
    counts = torch.rand(3, 40, generator=derive(0, "counts"))

    (together,) = networks.train(start, points.x, points.y, 5, 0.1, counts)
    (alone,) = networks.train(networks.pick(start, 1), points.x, points.y, 5, 0.1, counts[1:2])

    for w, lonely in zip(together, alone, strict=True):
        torch.testing.assert_close(w[1:2], lonely)


def test_zero_poisons_give_the_boundary_of_honest_training() -> None:
    near, far = planting.plant(0.1, 0), planting.plant(0.6, 0)

    torch.testing.assert_close(
        near.landscapes[:, 0], far.landscapes[:, 0]
    )  # where nobody poisons, nothing differs
    assert near.target[-1, 0] < 0.1


def test_poisons_move_the_boundary_at_the_target_and_hardly_elsewhere() -> None:
    planted = planting.plant(0.1, 0)

    assert planted.target[-1, -1] > 0.9
    assert planted.accuracy[-1] > planted.accuracy[0] - 0.06
    assert planted.needed in planting.BUDGETS[1:]


def test_asr_grows_with_the_poison_rate_and_accuracy_stays() -> None:
    result = backdoor.open_backdoor(side=2, target=0, seed=0)

    assert result.asr[-1, 0] < 0.1 and result.asr[-1, -1] > 0.9
    assert (result.asr[-1].diff() > -0.05).all()
    assert (result.accuracy[-1] > 0.92).all()
    assert (result.triggered[..., -2:, -2:] == 255).all()
    torch.testing.assert_close(result.triggered[..., :-2, :], result.examples[..., :-2, :])


def test_the_hypergradient_agrees_with_finite_differences() -> None:
    generator = derive(0, "check")
    points = clouds(8, generator)
    start = [w.double() for w in networks.draw((2, 6, 2), 2, generator)]
    points = type(points)(points.x.double(), points.y)
    rows, moves = torch.tensor([9, 10, 11]), torch.zeros(3, 2).double()
    steps = [torch.tensor([0, 3, 9, 10]), torch.tensor([1, 5, 11, 12])]

    def ahead(change: float) -> float:
        weights, moved = crafting.trained(start), points.x.clone()
        moved[9, 0] += change
        total = 0.0
        for k, index in enumerate(steps):
            weights = crafting.sgd_step(weights, (points.x if k else moved)[index], points.y[index])
            weights = crafting.trained(weights)
            total += crafting.adversarial_loss(weights).mean().item() / len(steps)
        return total

    gradient = crafting.hypergradient(start, points, rows, moves, steps)

    assert gradient[0, 0].item() == pytest.approx((ahead(1e-4) - ahead(-1e-4)) / 2e-4, rel=1e-4)
    assert gradient[2].abs().sum() == 0  # its row is in a later batch only


def test_crafted_moves_keep_the_budget_and_fool_new_networks(crafted: crafting.Crafted) -> None:
    success = dict(zip(crafting.WAYS, crafted.success.tolist(), strict=True))

    assert crafted.moves.abs().max() <= 0.8 + 1e-6
    assert (crafted.points.y[crafted.rows] == 1).all()
    assert success["clean"] == 0 and success["crafted"] == 1
    assert crafted.test_accuracy[-1] > crafted.test_accuracy[0] - 0.02


def test_crafting_bends_the_path_of_training_to_a_low_adversarial_loss(crafted: crafting.Crafted) -> None:
    clean, bent = crafted.adversarial[0, 0], crafted.adversarial[-1, 0]

    assert clean[0] == bent[0] and bent[-1] > clean[-1] + 0.3
    torch.testing.assert_close(crafted.paths[0, 0], crafted.paths[1, 0])  # both begin at the same weights


def test_walks_bring_poisoned_points_back_to_the_data() -> None:
    learned = energy.learn("ring")
    walks = energy.walk(learned, noise=0.1, temperature=0.03, steps=60)

    clean, poisoned = walks.distances
    assert poisoned[0] > 0.4 and poisoned[-1] < 0.15 and clean[-1] < 0.15
    assert walks.apart[-1] < 0.2 * walks.apart[0]
    assert walks.returned is not None and walks.energies[1, -1] < walks.energies[1, 0]
    assert (walks.poisoned[-1].mean(0) - learned.data.mean(0)).norm() < 0.4


def test_a_hot_walk_leaves_the_data() -> None:
    learned = energy.learn("ring")

    hot, cold = (energy.walk(learned, 0.1, temperature, 60).distances[0, -1] for temperature in (1.0, 0.03))

    assert hot > 2 * cold


def test_an_unknown_shape_is_explained() -> None:
    with pytest.raises(ValueError, match="no shape 'torus'; there is: ring"):
        energy.learn("torus")


def test_masking_lowers_asr_and_keeps_most_of_the_accuracy() -> None:
    loop = masking.recover_and_mask(patch=3, budget=20.0, alpha=0.9)

    assert loop.before[1] > 0.95 and loop.rounds[-1].asr < 0.1
    assert loop.rounds[-1].clean_accuracy > loop.before[0] - 0.12
    assert loop.inside[0] > 9 / 64  # more of the first pattern lies in the patch than chance would put there
    assert all(r.trigger.abs().sum() < 20.001 for r in loop.rounds)
    assert loop.rounds[-1].masks.min() >= 0 and loop.rounds[-1].masks.max() <= 1


def test_taking_back_beats_training_on_wrong_labels_at_every_factor() -> None:
    cleaned = cleaning.clean()
    as_it_is, _, drop, back, _ = cleaned.accuracy.T

    assert (back > as_it_is + 0.05).all()
    assert back[-1] > drop[-1] + 0.01  # four times too many are flagged: dropping them all is what hurts
    best = cleaned.order[: cleaned.flagged[1]]
    assert cleaned.wrong[best].float().mean() > 0.7  # of as many images as are wrong, most really are
    assert 0.15 < cleaned.wrong.float().mean() < 0.35
    kept = cleaned.agrees[-1] & ~cleaned.wrong
    assert kept[cleaned.order[: cleaned.flagged[-1]]].sum() > 100  # wrongly flagged images do come back


@pytest.mark.parametrize(("target", "seed"), [(4, 0), (2, 1), (7, 4)])
def test_a_large_mark_hides_from_the_search_for_small_ones_and_works_better(target: int, seed: int) -> None:
    hunt = adaptive.hunt(target, seed)
    side, strength = adaptive.SIDES.index(3), adaptive.STRENGTHS.index(0.6)

    usual, large = hunt.share[side, strength, target], hunt.share[-1, -1, target]
    assert usual < adaptive.LIMIT < large and hunt.best(target) == "larger"
    assert hunt.share[side, 0, target] < usual + 0.1  # a fainter one does not hide
    assert hunt.asr[-1, -1] >= hunt.asr[side, strength] > 0.9
    assert (hunt.accuracy > 0.9).all() and hunt.honest.min() > adaptive.LIMIT


@pytest.mark.slow
def test_what_the_lesson_says_holds_for_every_class_and_draw() -> None:
    """Fifty times sixteen networks: two minutes."""
    side, strength = adaptive.SIDES.index(3), adaptive.STRENGTHS.index(0.6)
    named = 0
    for seed in range(5):
        for target in range(10):
            hunt = adaptive.hunt(target, seed)
            usual, changes = hunt.changes(target)
            named += usual < adaptive.LIMIT
            works = hunt.asr[:, strength]
            assert hunt.best(target) == "larger" and changes["fainter"] < usual
            assert changes["smaller"] <= usual or works[0] < works[side] - 0.2
            assert min(changes["larger"], float(hunt.share[-1, -1, target])) > 1.5 * usual
            assert hunt.asr[-1, -1] >= works[-1] >= works[side]
    assert named > 35  # the detector mostly names the class


def test_a_mark_covers_its_corner_and_shines_through_where_it_is_faint() -> None:
    x = torch.rand(2, 64, generator=derive(0, "rows"))

    marked = adaptive.mark(x).view(len(adaptive.SIDES), len(adaptive.STRENGTHS), 2, 8, 8)

    for number, side in enumerate(adaptive.SIDES):
        outside = torch.ones(8, 8, dtype=torch.bool)
        outside[-side:, -side:] = False
        assert torch.equal(marked[number, ..., outside], x.view(2, 8, 8)[:, outside].expand(3, -1, -1))
    faint, opaque = marked[-1, 0].flatten(1), marked[-1, -1].flatten(1)
    torch.testing.assert_close(faint, 0.7 * x + 0.3 * opaque)
    assert set(opaque.unique().tolist()) == {0.0, 1.0}
