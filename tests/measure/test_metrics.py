"""Numbers from papers and tables, and who is counted."""

import math

import pytest
import torch
from core_helpers import noise_images
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from poisonlab.measure import intervals, metrics
from poisonlab.types import Backdoor, ImageSet, Targeted


def marked() -> ImageSet:
    """Ten images, two of each of five classes; pixel 0 holds the class, pixel 1 tells a trigger."""
    x = torch.zeros(10, 1, 2, 2, dtype=torch.uint8)
    y = torch.arange(10) % 5
    x[:, 0, 0, 0] = y.to(torch.uint8)
    return ImageSet(x, y, tuple("abcde"), "test")


def trigger(x: Tensor) -> Tensor:
    out = x.clone()
    out[:, 0, 0, 1] = 1
    return out


def fooled(x: Tensor) -> Tensor:
    """Right on clean images; says 2 on every triggered one. One trial."""
    return torch.where(x[:, 0, 0, 1] == 1, 2, x[:, 0, 0, 0].long())[None]


ALL_TO_ONE = Backdoor(trigger, lambda y: torch.full_like(y, 2), 2)
ALL_TO_ALL = Backdoor(trigger, lambda y: (y + 1) % 5, None)
ONE_TO_ONE = Backdoor(trigger, lambda y: torch.full_like(y, 2), 2, source_class=4)


def test_clean_accuracy_counts_untouched_images() -> None:
    assert metrics.clean_accuracy(fooled, marked()) == 1.0


def test_clean_accuracy_is_the_mean_over_trials() -> None:
    data = marked()
    both = torch.stack([data.y, torch.zeros_like(data.y)])

    assert metrics.clean_accuracy(lambda x: both, data) == pytest.approx(0.6)


def test_asr_leaves_out_the_target_class() -> None:
    """A model that gives each image its true class has ASR 0, though two images are of the target class."""
    measured = metrics.backdoor_metrics(
        lambda x: x[:, 0, 0, 0].long()[None], metrics.Triggered.of(marked(), ALL_TO_ONE)
    )

    assert measured == {"asr": 0.0, "robust_accuracy": 1.0}


def test_a_fully_fooled_model_has_asr_one() -> None:
    assert metrics.backdoor_metrics(fooled, metrics.Triggered.of(marked(), ALL_TO_ONE)) == {
        "asr": 1.0,
        "robust_accuracy": 0.0,
    }


def test_with_a_source_class_its_images_alone_are_counted() -> None:
    def misled(x: Tensor) -> Tensor:
        """Says 2 on triggered images of class 4, the true class of all others."""
        label = x[:, 0, 0, 0].long()
        return torch.where((x[:, 0, 0, 1] == 1) & (label == 4), 2, label)[None]

    of_source = metrics.Triggered.of(marked(), ONE_TO_ONE)

    assert of_source.true.tolist() == [4, 4]
    assert metrics.backdoor_metrics(misled, of_source) == {"asr": 1.0, "robust_accuracy": 0.0}
    of_all = metrics.Triggered.of(marked(), ALL_TO_ONE)
    assert metrics.backdoor_metrics(misled, of_all)["asr"] == pytest.approx(0.25)


def test_all_to_all_counts_every_image() -> None:
    """Always saying 2 is what the attacker wants for class 1 only, and true for class 2 only."""
    measured = metrics.backdoor_metrics(fooled, metrics.Triggered.of(marked(), ALL_TO_ALL))

    assert measured == {"asr": pytest.approx(0.2), "robust_accuracy": pytest.approx(0.2)}


def targeted() -> Targeted:
    return Targeted(marked().x[:3], torch.tensor([0, 1, 2]), torch.tensor([4, 4, 0]))


def test_each_target_is_read_by_the_model_of_its_own_trial() -> None:
    said = torch.tensor([[4, 9, 9], [9, 1, 9], [9, 9, 0]])

    assert metrics.targeted_predictions(lambda x: said, targeted()).tolist() == [4, 1, 0]


def test_the_wished_class_is_asked_of_the_model_of_its_own_trial() -> None:
    """Trial t's model says the number t/10 + c/100 of its own target and class c, and 9 of all others."""
    own = torch.arange(3)[:, None] / 10 + torch.arange(5) / 100
    said = torch.where(torch.eye(3, dtype=torch.bool)[:, :, None], own[:, None], 9.0)

    found = metrics.adversarial_probabilities(lambda x: said, targeted())

    assert found.tolist() == pytest.approx([0.04, 0.14, 0.20])


def test_poison_success_is_the_share_of_adversarial_labels() -> None:
    assert metrics.poison_success(torch.tensor([4, 1, 0]), targeted()) == pytest.approx(2 / 3)


def test_der_of_a_published_row() -> None:
    """FT-SAM, table 1: (91.82, 93.79) -> (90.29, 1.70) has DER 95.28 percent."""
    assert metrics.der(0.9182, 0.9379, 0.9029, 0.0170) == pytest.approx(0.9528, abs=5e-5)


def test_der_without_effect_is_a_half() -> None:
    assert metrics.der(0.9, 0.8, 0.9, 0.8) == 0.5


def test_der_does_not_reward_a_gain_in_accuracy() -> None:
    assert metrics.der(0.9, 0.8, 0.95, 0.8) == 0.5


def test_wilson_interval_of_five_in_twenty() -> None:
    low, high = intervals.proportion_interval(5, 20)

    assert (low, high) == (pytest.approx(0.1119, abs=1e-4), pytest.approx(0.4687, abs=1e-4))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share_and_stays_in_bounds(counts: tuple[int, int]) -> None:
    successes, n = counts
    low, high = intervals.proportion_interval(successes, n)

    assert 0 <= low <= successes / n + 1e-9 and successes / n - 1e-9 <= high <= 1


def test_student_interval_of_three_seeds() -> None:
    low, high = intervals.mean_interval([0.1, 0.2, 0.3])

    assert (low, high) == (
        pytest.approx(0.2 - 4.3027 * 0.1 / math.sqrt(3), abs=1e-4),
        pytest.approx(0.4484, abs=1e-4),
    )


def test_a_single_seed_says_nothing_about_the_spread() -> None:
    assert intervals.mean_interval([0.5]) == (-math.inf, math.inf)


def test_psnr_of_a_known_difference() -> None:
    """A difference of 16 everywhere: 20 log10(255 / 16) dB."""
    a = torch.full((2, 1, 4, 4), 100, dtype=torch.uint8)

    assert metrics.psnr(a, a + 16).tolist() == pytest.approx([20 * math.log10(255 / 16)] * 2)


def test_psnr_of_equal_images_is_infinite() -> None:
    x = noise_images(3).x

    assert metrics.psnr(x, x).tolist() == [math.inf] * 3


def test_auroc_is_the_chance_that_a_positive_scores_higher() -> None:
    assert metrics.auroc(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 3.0])) == 0.75
