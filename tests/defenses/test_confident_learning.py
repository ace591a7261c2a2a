"""Confident learning: the counts by hand, the rule as cleanlab has it, and no network judges what it was trained on."""

from typing import Any

import pytest
import torch
from core_helpers import digits, listening, network
from torch import Tensor

from poisonlab.context import Context, derive
from poisonlab.defenses import confident_learning
from poisonlab.defenses.confident_learning import (
    ConfidentConfig,
    ConfidentLearning,
    balanced_folds,
    confident_joint,
    label_issues,
)
from poisonlab.defenses.shared.detector_training import train_anew
from poisonlab.events import Log
from poisonlab.measure import metrics
from poisonlab.types import Detection, ImageSet

RECIPE = {
    "epochs": 16,
    "batch_size": 20,
    "schedule": "one_cycle",
    "crop_padding": 0,
    "flip": False,
    "folds": 3,
}


def judged(data: ImageSet, ctx: Context | None = None, **params: Any) -> Detection:
    defense = ConfidentLearning(ConfidentConfig(**RECIPE | params))
    return defense.detect(network(data, width=8), data, data, ctx or Context())


def noisy(n: int = 300, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Probabilities that lean to the true class, and labels of which a fifth is wrong."""
    draws = derive(0, "noisy")
    true, drawn = (torch.randint(classes, (n,), generator=draws) for _ in range(2))
    y = torch.where(torch.rand(n, generator=draws) < 0.2, drawn, true)
    lean = torch.randn(n, classes, generator=draws, dtype=torch.float64)
    lean[torch.arange(n), true] += 2.5
    return lean.softmax(1), y


def test_counts_of_a_hand_example() -> None:
    p = torch.tensor(
        [[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7], [0.4, 0.6]], dtype=torch.float64
    )
    y = torch.tensor(
        [0, 0, 0, 1, 1, 1]
    )  # t_0 = 0.6, t_1 = 2.2 / 3: row 2 is confidently 1, rows 4 and 5 nothing

    assert torch.allclose(confident_joint(p, y), torch.tensor([[2.0, 1.0], [0.0, 3.0]], dtype=torch.float64))
    assert label_issues(p, y).nonzero().squeeze(1).tolist() == [2]


def test_the_rule_agrees_with_cleanlab() -> None:
    cleanlab = pytest.importorskip("cleanlab.filter")
    p, y = noisy()

    theirs = cleanlab.find_label_issues(y.numpy(), p.numpy(), n_jobs=1)

    # counts are rounded one by one here, and such that rows add up there
    assert int((label_issues(p, y) != torch.from_numpy(theirs)).sum()) <= 2 and int(theirs.sum()) > 20


def test_issues_move_with_the_images_and_a_class_without_images_disturbs_nobody() -> None:
    p, y = noisy()
    order = torch.randperm(len(y), generator=derive(1, "order"))
    wider = torch.cat([p, torch.zeros(len(p), 1, dtype=p.dtype)], 1)

    assert torch.equal(label_issues(p, y)[order], label_issues(p[order], y[order]))
    assert torch.equal(label_issues(p, y), label_issues(wider, y))


def test_folds_are_balanced_within_classes_and_over_rare_ones() -> None:
    y = torch.cat([torch.zeros(10), torch.ones(11), torch.arange(2, 8)]).long()
    fold = balanced_folds(y, 3, derive(0, "folds"))

    for label in (0, 1):
        counts = torch.bincount(fold[y == label], minlength=3)
        assert int(counts.max() - counts.min()) <= 1
    assert torch.bincount(fold[y > 1], minlength=3).tolist() == [2, 2, 2]


def test_no_network_judges_an_image_it_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    data, trained, judges = digits().train[:30], [], []

    def spy(model: Any, images: ImageSet, *more: Any, **kwargs: Any) -> Any:
        trained.append({image.numpy().tobytes() for image in images.x})
        return train_anew(model, images, *more, **kwargs)

    def look(judge: Any, x: Tensor) -> Tensor:
        judges.append({image.numpy().tobytes() for image in x})
        return torch.zeros(len(x), 10)

    monkeypatch.setattr(confident_learning, "train_anew", spy)
    monkeypatch.setattr(confident_learning, "logits", look)
    judged(data, epochs=1)

    assert len(trained) == 3 and set().union(*judges) == {image.numpy().tobytes() for image in data.x}
    assert not any(seen & asked for seen, asked in zip(trained, judges, strict=True))


def test_wrong_labels_come_first_and_are_flagged() -> None:
    train = digits().train
    wrong = torch.arange(len(train)) % 10 == 3
    found = judged(ImageSet(train.x, torch.where(wrong, (train.y + 1) % 10, train.y), train.classes))

    assert found.sample_scores is not None and found.flagged is not None
    assert metrics.auroc(found.sample_scores[~wrong], found.sample_scores[wrong]) > 0.75
    assert float(found.flagged[wrong].float().mean()) > 3 * float(found.flagged[~wrong].float().mean())


def test_classes_too_small_to_learn_are_named_and_not_flagged() -> None:
    ctx, heard = listening()
    data = digits().train[:30]  # three images of each class

    found = judged(data, ctx, epochs=1)

    assert found.flagged is not None and not bool(found.flagged.any())
    assert any("too few to learn from" in event.message for event in heard if isinstance(event, Log))
