"""Spectral signatures: the scores are those of Algorithm 1, and a planted direction is found."""

import torch
from torch import Tensor, nn

from poisonlab.context import Context, derive
from poisonlab.defenses.spectral_signatures import SpectralConfig, SpectralSignatures, spectral_scores
from poisonlab.models.base import Classifier
from poisonlab.types import Detection, ImageSet

N, POISONED = 100, 10


def pixels() -> Classifier:
    """A network whose features are the 16 pixels."""
    return Classifier(nn.Flatten(), 16, 3, torch.zeros(1), torch.ones(1)).eval().requires_grad_(False)


def planted() -> ImageSet:
    """Noise of three classes; the first images of class 1 have four bright pixels."""
    x = torch.randint(80, 120, (3 * N, 1, 4, 4), generator=derive(0, "images")).to(torch.uint8)
    y = torch.arange(3 * N) // N
    x[N : N + POISONED, :, 0] = 250
    return ImageSet(x, y, ("a", "b", "c"))


def judged(data: ImageSet, epsilon: float = 0.1) -> Detection:
    return SpectralSignatures(SpectralConfig(epsilon=epsilon)).detect(pixels(), data, data, Context())


def test_scores_are_the_squared_projections_on_the_top_singular_vector() -> None:
    features = torch.randn(30, 6, generator=derive(0, "features"), dtype=torch.float64) + 5
    centerd = features - features.mean(0)
    _, s, v = torch.linalg.svd(centerd)

    scores, singular_value = spectral_scores(features)

    assert torch.allclose(scores, (centerd @ v[0]).square()) and abs(singular_value - float(s[0])) < 1e-9


def test_more_features_than_images_and_equal_images_are_no_trouble() -> None:
    assert bool(spectral_scores(torch.randn(3, 50, generator=derive(0, "few")))[0].isfinite().all())
    assert float(spectral_scores(torch.ones(5, 4))[0].max()) == 0.0


def test_a_planted_direction_is_found_and_its_class_named() -> None:
    found = judged(planted())

    assert found.flagged is not None and bool(found.flagged[N : N + POISONED].all())
    assert found.backdoored and found.target == 1


def test_each_class_loses_one_and_a_half_times_epsilon_of_its_images() -> None:
    found = judged(planted(), epsilon=0.04)

    assert found.flagged is not None
    assert found.flagged.view(3, N).sum(1).tolist() == [6, 6, 6]


def test_scores_move_with_the_images() -> None:
    data, order = planted(), torch.randperm(3 * N, generator=derive(1, "order"))
    first, moved = judged(data), judged(data[order])
    scores: tuple[Tensor, Tensor] = (first.sample_scores, moved.sample_scores)  # type: ignore[assignment]

    assert torch.allclose(scores[0][order], scores[1], rtol=1e-4, atol=1e-7)
    assert first.flagged is not None and torch.equal(
        first.flagged[order][data.y[order] == 1], moved.flagged[data.y[order] == 1]
    )  # type: ignore[index]


def test_a_class_is_compared_with_those_that_are_judged_and_not_with_those_of_hardly_any_image() -> None:
    data = planted()
    clean = data[data.x[:, 0, 0, 0] < 250]
    few = torch.arange(16) // 2 + 3  # two images each of eight more classes
    several = ImageSet(torch.cat([clean.x, clean.x[:16]]), torch.cat([clean.y, few]), tuple("abcdefghijk"))

    found = judged(several)

    assert not found.backdoored
    assert found.threshold == judged(ImageSet(clean.x, clean.y, data.classes)).threshold
