"""The three phases of anti-backdoor learning, and what becomes of the images it sets aside."""

import pytest
import torch
from core_helpers import digits, network
from torch import Tensor
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.defenses.abl import ABLConfig, AntiBackdoorLearning
from poisonlab.defenses.base import ISOLATED
from poisonlab.measure.detection import isolation_metrics
from poisonlab.spec.config import TrainingConfig
from poisonlab.training.loop import train_network

DATA = digits().train[:20]
QUICK = ABLConfig(isolation_epochs=1, unlearning_epochs=1, isolation_rate=0.1, gamma=0.5)


def begun(config: ABLConfig = QUICK, epochs: int = 3) -> AntiBackdoorLearning:
    hook = AntiBackdoorLearning(config, torch.Generator())
    hook.begin(network(DATA), DATA, steps_an_epoch=2, epochs=epochs)
    return hook


def step(
    hook: AntiBackdoorLearning, rows: Tensor, logits_of_true: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """One step on these rows: images, labels, and the gradient of the loss by the logits of the true labels."""
    x, y = hook.batch(DATA[rows].x.float() / 255, DATA.y[rows], rows)
    logits = (F.one_hot(y, 10) * logits_of_true).requires_grad_()
    (gradient,) = torch.autograd.grad(hook.loss(logits, y, 0.0), logits)
    return x, y, gradient.gather(1, y[:, None])[:, 0]


def through_the_first_phase() -> AntiBackdoorLearning:
    """Rows 0 to 9 well learned, the others not; of the tenth to set aside (2 rows) these are the best."""
    hook = begun()
    step(hook, torch.arange(10, 20), 1.0)
    step(hook, torch.arange(10), 8.0)
    return hook


def test_early_batches_with_a_small_loss_ascend_and_others_descend() -> None:
    hook = begun()

    assert bool((step(hook, torch.arange(10), 0.0)[2] < 0).all())  # descent raises the true logit
    assert bool((step(hook, torch.arange(10), 8.0)[2] > 0).all())


def test_the_rows_with_the_smallest_losses_are_set_aside_and_leave_the_batches() -> None:
    hook = through_the_first_phase()
    assert len(hook.isolated) == 0

    x, y, gradient = step(hook, torch.arange(20))

    assert len(hook.isolated) == 2 and int(hook.isolated.max()) < 10
    assert len(x) == len(y) == 18 and bool((gradient < 0).all())


def test_in_the_last_phase_the_rest_descends_and_what_was_set_aside_ascends() -> None:
    hook = through_the_first_phase()
    for _ in range(2):
        step(hook, torch.arange(20))

    x, y, gradient = step(hook, torch.arange(20), 1.0)

    assert len(x) == 18 + 20 and bool((gradient[:18] < 0).all()) and bool((gradient[18:] > 0).all())
    allowed = DATA[hook.isolated]
    assert set(y[18:].tolist()) <= set(allowed.y.tolist())
    assert all(any(torch.equal(image, a.float() / 255) for a in allowed.x) for image in x[18:])


def test_an_image_ascends_to_the_limit_only() -> None:
    hook = begun(QUICK.model_copy(update={"ascent_limit": 1.0}))
    step(hook, torch.arange(10, 20), 1.0)
    step(hook, torch.arange(10), 8.0)
    for _ in range(2):
        step(hook, torch.arange(20))

    assert bool((step(hook, torch.arange(20), -1.0)[2][18:] == 0).all())
    assert bool((step(hook, torch.arange(20), 1.0)[2][18:] > 0).all())


def test_phases_that_do_not_fit_are_refused_with_the_numbers() -> None:
    with pytest.raises(
        ValueError, match="isolation_epochs=1 and unlearning_epochs=1 do not fit into the 1 epochs"
    ):
        begun(epochs=1)


def test_a_training_reports_what_was_set_aside() -> None:
    recipe = TrainingConfig(epochs=3, batch_size=10, crop_padding=0, flip=False)
    hook = AntiBackdoorLearning(QUICK, Context().generator("abl"))
    train_network(network(DATA), DATA, recipe, Context(), hook)

    rows = hook.learned()[ISOLATED]
    assert len(rows) == 2 and hook.losses.shape == (20,)
    assert float(hook.losses[rows].max()) <= float(hook.losses.sort().values[1])


def test_a_second_training_with_the_same_hook_starts_anew() -> None:
    hook = through_the_first_phase()
    step(hook, torch.arange(20))
    hook.begin(network(DATA), DATA, 2, 3)

    assert len(hook.isolated) == 0 and bool(hook.losses.isinf().all())


def test_isolation_is_measured_by_hand() -> None:
    poisoned = torch.zeros(10, dtype=torch.bool)
    poisoned[:5] = True

    measured = isolation_metrics(torch.tensor([0, 1, 2, 9]), poisoned)

    assert measured == {"isolation_precision": 0.75, "isolation_recall": 0.6}
