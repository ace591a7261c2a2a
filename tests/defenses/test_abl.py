"""The three phases of anti-backdoor learning, and what becomes of the images it sets aside."""

import pytest
import torch
from core_helpers import digits, network, noise_images, normed_net
from torch import Tensor, nn
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


FEW = noise_images(8, (1, 6, 6), classes=3)


def stepped(hook: AntiBackdoorLearning, model: nn.Module, lr: float) -> None:
    """Two steps of four images each: the repository's optimizer, double precision."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4, nesterov=True)
    hook.losses = hook.losses.double()
    for rows in torch.arange(8).split(4):
        x, y = hook.batch(FEW.x[rows].double() / 255, FEW.y[rows], rows)
        optimizer.zero_grad()
        hook.loss(model(x), y, 0.0).backward()
        optimizer.step()


def before_isolation(gamma: float = 0.5, rate: float = 0.4) -> AntiBackdoorLearning:
    hook = AntiBackdoorLearning(
        ABLConfig(isolation_epochs=1, unlearning_epochs=1, isolation_rate=rate, gamma=gamma),
        torch.Generator(),
    )
    hook.begin(normed_net(), FEW, steps_an_epoch=2, epochs=2)
    return hook


# Numbers from bboylyg/ABL 3fd736c: biases of the head after two steps of ``train_step`` in backdoor_isolation.py. Its
# default, flooding at gamma, gives the same: both have the gradient sign(L - gamma) dL.
@pytest.mark.parametrize(
    ("gamma", "biases"),
    [
        (0.05, [-0.969816258853, 0.184473958375, 0.398477917894]),  # both batches descend
        (5.0, [-0.791662374868, -0.0876909781535, 0.492488970438]),  # both ascend
    ],
)
def test_early_steps_are_those_of_the_repository(gamma: float, biases: list[float]) -> None:
    model = normed_net().train()
    stepped(before_isolation(gamma), model, lr=0.1)

    assert model.head.bias.tolist() == pytest.approx(biases, abs=1e-10)


def test_of_the_same_losses_the_same_rows_are_set_aside() -> None:
    """Rows from ``compute_loss_value`` and ``isolate_data`` of bboylyg/ABL 3fd736c, 0.4 of eight images."""
    hook = before_isolation()
    logits = normed_net()(FEW.x.double() / 255)
    hook.losses = F.cross_entropy(logits, FEW.y, reduction="none").detach()
    hook._isolate()

    assert hook.isolated.tolist() == [3, 0, 6]


def test_the_ascent_is_that_of_the_repository() -> None:
    """Numbers from ``train_step_unlearning`` of bboylyg/ABL 3fd736c, where nothing descends beside it."""
    hook = before_isolation()
    hook.isolated = torch.arange(8)
    model = normed_net().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=5e-4, momentum=0.9, weight_decay=1e-4, nesterov=True)
    for rows in torch.arange(8).split(4):
        hook.descending = 4
        logits = model(FEW.x[rows].double() / 255)
        optimizer.zero_grad()
        hook.loss(torch.cat([logits.detach(), logits]), FEW.y[rows].repeat(2), 0.0).backward()
        optimizer.step()

    expected = [-0.89406517604, 0.0573578894937, 0.449825158008]
    assert model.head.bias.tolist() == pytest.approx(expected, abs=1e-10)


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
