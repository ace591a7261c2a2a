"""The one training loop. Data lies on the device; a batch is gathered and augmented there.

A network trained from scratch or fine-tuned, a stack of linear heads on frozen features and a
fine-tuning defense all run through :func:`fit`; what differs comes in as a :class:`TrainingHook`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonlab.context import Context
from poisonlab.spec.config import FineTuneConfig, HeadConfig, TrainingConfig
from poisonlab.training.augmentation import Views
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.lookahead import Lookahead
from poisonlab.training.optimizers import falling, learning_rate, parameter_groups
from poisonlab.types import ImageSet

LEARNING = "learning"  # the phase in which a victim is trained
EVALUATIONS = 10  # at most, of the model on the way through one phase of a repair

Loss = Callable[[Tensor, Tensor], Tensor]  # logits, labels -> the scalar that is minimised


class Diverged(RuntimeError):
    """The loss is not a finite number any more."""


class TrainingHook:
    """What an attack or a defense may change in training; each method is the identity here."""

    def begin(self, model: nn.Module, data: ImageSet, steps_an_epoch: int, epochs: int) -> None:
        """Before the first step. A hook serves one training at a time: resets its state."""

    def epoch(self, number: int, data: ImageSet) -> ImageSet:
        """The set that epoch ``number``, from 1 on, draws its batches from, before any is drawn.

        The model is in the mode it is trained in, which under frozen batch norm is eval mode. It is to be left
        unchanged; a changed mode is reset before the next batch.

        Args:
            data: the whole training set, not to be changed; the returned set is no longer than it.
        """
        return data

    def drawn(self, data: ImageSet) -> ImageSet:
        """The set of the present epoch once more, nothing changed: an interrupted training goes on in its midst."""
        return data

    def checkpoint(self) -> Checkpoint | None:
        """After :meth:`begin`: all that it holds besides the model; ``None`` if its training cannot be interrupted."""
        return None

    def batch(self, x: Tensor, y: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Change a batch: float ``x`` in [0, 1] after augmentation, ``y``, and their rows in the epoch's set."""
        return x, y

    def loss(self, logits: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
        """The scalar that is minimised."""
        return F.cross_entropy(logits, y, label_smoothing=label_smoothing)

    def backward(self, model: nn.Module, forward: Callable[[], Tensor]) -> Tensor:
        """Leave the gradient to step along in the parameters, which hold none; returns the loss.

        Args:
            forward: runs the model on the batch and returns its loss; may be called again.
        """
        return backward(forward)

    def stepped(self, forward: Callable[[], Tensor]) -> None:
        """After a step: the batch may be shown to the changed model once more.

        Args:
            forward: runs the model on the batch and returns its loss.
        """

    def learned(self) -> dict[str, Tensor]:
        """After the last step: what the hook's owner needs later, by name; kept beside the trained network."""
        return {}

    def end(self, ctx: Context) -> None:
        """After the last step: results may be reported."""


def nothing_more(forward: Callable[[], Tensor]) -> None:
    """What most trainings do with a batch after its step."""


def backward(forward: Callable[[], Tensor]) -> Tensor:
    """The plain gradient, by one pass."""
    value = forward()
    value.backward()
    return value.detach()


def batches(n: int, size: int, epochs: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row indices of each step: every row once an epoch, batches of nearly equal length."""
    for _ in range(epochs):
        order = torch.randperm(n, generator=generator, device=generator.device)
        yield from order.tensor_split(steps_in_epoch(n, size))


def steps_in_epoch(n: int, size: int) -> int:
    """Batches of at most ``size`` rows; of two and three where pairs would leave one row alone, of which batch norm
    has no variance."""
    return n // 2 if size == 2 and n > 1 else math.ceil(n / size)


def evaluation_is_due(epoch: int, epochs: int) -> bool:
    """Whether the model is evaluated after this epoch: evenly spread, ``EVALUATIONS`` times at most, and at the end."""
    return epoch == epochs or epoch % math.ceil(epochs / EVALUATIONS) == 0


class Minimizer:
    """Steps of an optimizer under its schedule; reports the mean loss a hundred times, and progress.

    Args:
        total: steps in all, those without a batch included.
        gradient: computes what a step follows, for methods that need more than one pass.
        stepped: what is done with the batch after its step.
        draws: all that batches are drawn from; given, an interrupted stage that is nothing but this training continues
            where it was, after the ``done`` steps that :meth:`go_on` finds taken.
        beside: what the caller wants to have kept and brought back with the rest.
        lookahead: draws the weights back to their average.

    Raises:
        Diverged: by :meth:`step` and :meth:`pass_over`, when the mean loss since the last report is not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        total: int,
        ctx: Context,
        gradient: Callable[[Callable[[], Tensor]], Tensor] = backward,
        stepped: Callable[[Callable[[], Tensor]], None] = nothing_more,
        draws: Sequence[torch.Generator] | None = None,
        beside: Checkpoint | None = None,
        lookahead: Lookahead | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.lookahead = lookahead
        self.schedule = schedule
        self.total = total
        self.ctx = ctx
        self.gradient = gradient
        self.stepped = stepped
        self.resumable = draws is not None
        self.done = 0  # steps of the schedule
        self.loss_sum = torch.zeros((), device=ctx.device)  # since the last report
        self.loss_count = 0
        tensors = {**model.state_dict(), "loss": self.loss_sum}
        if lookahead:
            tensors |= {f"slow.{name}": value for name, value in lookahead.slow.items()}
        self.checkpoint = Checkpoint(tensors, optimizer, draws or (), schedule, beside)
        self.taken_before = 0  # steps of an interrupted attempt
        kept = ctx.resume() if self.resumable else None
        if kept:
            counts = self.checkpoint.load(kept)
            self.taken_before = counts["step"]
            self.loss_count = counts["taken"]

    def go_on(self) -> None:
        """The steps of an interrupted attempt count as taken: the caller itself begins after them."""
        self.done = self.taken_before

    def step(self, forward: Callable[[], Tensor]) -> None:
        """One step.

        Args:
            forward: runs the model on a batch and returns its loss; may be called again.
        """
        self.optimizer.zero_grad(set_to_none=True)
        run = partial(self._autocast, forward)
        self.loss_sum += self.gradient(run)
        self.optimizer.step()
        if self.lookahead:
            self.lookahead.after(self.done + 1)
        self.stepped(run)
        self.loss_count += 1
        self._advance()
        if self.resumable and self.done < self.total:
            self.ctx.keep(partial(self.checkpoint.bundle, step=self.done, taken=self.loss_count))

    def pass_over(self, steps: int) -> None:
        """Let ``steps`` steps pass for which there is no batch, as in a shorter epoch: the rate follows the epochs."""
        for _ in range(steps):
            self._advance()

    def _autocast(self, forward: Callable[[], Tensor]) -> Tensor:
        with self.ctx.autocast():
            return forward()

    def _advance(self) -> None:
        self.done += 1
        self.schedule.step()
        report_every = max(1, self.total // 100)
        if self.done % report_every == 0 or self.done == self.total:
            self._report_loss()
        self.ctx.progress(self.done, self.total)

    def _report_loss(self) -> None:
        if not self.loss_count:
            return
        mean = float(self.loss_sum) / self.loss_count
        if not math.isfinite(mean):
            raise Diverged(
                f"the training loss became {mean} at step {self.done} of {self.total}; lower the learning rate"
            )
        self.ctx.metric("loss", self.done, mean)
        self.loss_sum.zero_()
        self.loss_count = 0


def fit(
    model: nn.Module,
    prepare: Callable[[Tensor], tuple[Tensor, Tensor]],
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    steps: Iterable[Tensor],
    total: int,
    ctx: Context,
    gradient: Callable[[Callable[[], Tensor]], Tensor] = backward,
) -> None:
    """Minimize ``loss(model(x), y)`` over ``total`` batches; changes ``model`` in place.

    Args:
        prepare: row indices of a batch -> ``(x, y)`` on the device.
        steps: row indices of each step.
        gradient: leaves a step's gradient in the weights, for methods that need more than one pass.

    Raises:
        Diverged: the mean loss of a stretch of steps is not finite.
    """
    minimizer = Minimizer(model, optimizer, schedule, total, ctx, gradient)
    for index in steps:
        x, y = prepare(index)
        minimizer.step(partial(_loss_of, model, loss, x, y))


def _loss_of(model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> Tensor:
    return loss(model(x), y)


def train_network(
    model: nn.Module,
    data: ImageSet,
    config: TrainingConfig,
    ctx: Context,
    hook: TrainingHook | None = None,
    phase: str = "",
    whole_stage: bool = False,
) -> None:
    """Train ``model`` on ``data`` in place: SGD with momentum, crops and flips on the device.

    A factor on the rate of the norms' biases, Lookahead, a triangular rate and alternating flips are those of
    airbench94 (K. Jordan, arXiv:2404.00498). A loss is the mean over a batch, not the sum.

    Args:
        phase: the model may be evaluated after epochs, under this name; empty for not at all.
        whole_stage: the stage is nothing but this training, so that it continues after an interruption unless its hook
            cannot.
    """
    total = config.epochs * steps_in_epoch(len(data), config.batch_size)
    optimizer = torch.optim.SGD(
        parameter_groups(model, config),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov and config.momentum > 0,
        fused=True,
    )
    schedule = learning_rate(optimizer, config, total)
    model.to(memory_format=torch.channels_last).train()
    _learn(
        model,
        data,
        config,
        optimizer,
        schedule,
        ctx,
        hook,
        phase=phase,
        label_smoothing=config.label_smoothing,
        lookahead=Lookahead(model, total, config.lookahead) if config.lookahead else None,
        whole_stage=whole_stage,
    )


def fine_tune(
    model: nn.Module, data: ImageSet, config: FineTuneConfig, ctx: Context, hook: TrainingHook | None = None
) -> None:
    """Train a pretrained ``model`` on ``data`` in place, all layers at once: Adam, in falling steps."""
    total = config.epochs * steps_in_epoch(len(data), config.batch_size)
    model.to(memory_format=torch.channels_last).train(not config.frozen_norm)
    for module in model.modules():
        if config.frozen_norm and isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=config.lr, weight_decay=config.weight_decay)
    schedule = falling(optimizer, config.drops, total)
    _learn(model, data, config, optimizer, schedule, ctx, hook)


def train_head(
    model: nn.Module,
    head: nn.Module,
    data: ImageSet,
    config: HeadConfig,
    ctx: Context,
    hook: TrainingHook | None = None,
) -> None:
    """Train ``head``, the last part of ``model``, in place, all below it frozen; a hook may change the images.

    Where none does, :func:`train_heads` gets the same from features computed once.
    """
    model.to(memory_format=torch.channels_last).eval().requires_grad_(False)
    head.requires_grad_(True)
    total = config.epochs * steps_in_epoch(len(data), config.batch_size)
    optimizer, schedule = _of_heads(list(head.parameters()), config, total)
    _learn(model, data, config, optimizer, schedule, ctx, hook)


def _of_heads(
    parameters: list[nn.Parameter], config: HeadConfig, total: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.Adam(parameters, lr=config.lr, weight_decay=config.weight_decay)
    return optimizer, falling(optimizer, config.drops, total)


def _learn(
    model: nn.Module,
    data: ImageSet,
    config: TrainingConfig | FineTuneConfig | HeadConfig,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    ctx: Context,
    given: TrainingHook | None,
    *,
    phase: str = "",
    label_smoothing: float = 0.0,
    lookahead: Lookahead | None = None,
    whole_stage: bool = False,
) -> None:
    """Epochs over augmented batches of ``data``, with a hook in all its places; leaves the model in eval mode."""
    hook = given or TrainingHook()
    steps_an_epoch = steps_in_epoch(len(data), config.batch_size)
    mode = model.training
    augmentation = ctx.generator("augmentation")
    order = ctx.generator("batches")
    order_then = order.get_state()  # before the first batch of the epoch
    position = torch.tensor([1, 0])  # the epoch, and how many of its steps are done

    loss = partial(_loss_of_hook, hook, label_smoothing)
    hook.begin(model, data, steps_an_epoch, config.epochs)
    of_hook = hook.checkpoint()
    resumable = whole_stage and (given is None or of_hook is not None)
    minimizer = Minimizer(
        model,
        optimizer,
        schedule,
        config.epochs * steps_an_epoch,
        ctx,
        gradient=partial(hook.backward, model),
        stepped=hook.stepped,
        draws=[augmentation] if resumable else None,
        beside=Checkpoint({"position": position, "order": order_then}, beside=of_hook),
        lookahead=lookahead,
    )
    minimizer.go_on()
    order.set_state(order_then)
    first, done = position.tolist()
    look = Views(config, len(data), augmentation, ctx)
    for epoch in range(first, config.epochs + 1):
        drawn = hook.drawn(data) if done else hook.epoch(epoch, data)
        order_then.copy_(order.get_state())
        for number, index in enumerate(batches(len(drawn), config.batch_size, 1, order), 1):
            if number <= done:
                continue
            position.copy_(torch.tensor([epoch, number]))
            model.train(mode)  # a hook may have evaluated it in another
            x = look.at(drawn.x[index], index, epoch).to(torch.float32, memory_format=torch.channels_last)
            x, y = hook.batch(x.div_(255), drawn.y[index], index)
            minimizer.step(partial(_loss_of, model, loss, x, y))
        done = 0
        minimizer.pass_over(steps_an_epoch - steps_in_epoch(len(drawn), config.batch_size))
        if phase and evaluation_is_due(epoch, config.epochs):
            ctx.observe(phase, epoch, model)
    hook.end(ctx)
    model.eval()


def _loss_of_hook(hook: TrainingHook, label_smoothing: float, logits: Tensor, y: Tensor) -> Tensor:
    return hook.loss(logits.float(), y, label_smoothing)


class HeadStack(nn.Module):
    """Linear heads of independent trials, trained as one batch: ``(b, t, d)`` -> ``(b, t, classes)``."""

    def __init__(self, trials: int, features: int, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = features**-0.5
        weight = torch.empty(trials, classes, features, device=generator.device)
        self.weight = nn.Parameter(weight.uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.zeros(trials, classes, device=generator.device))

    def forward(self, features: Tensor) -> Tensor:
        return torch.einsum("btd,tcd->btc", features, self.weight) + self.bias


def train_heads(features: Tensor, y: Tensor, classes: int, config: HeadConfig, ctx: Context) -> HeadStack:
    """Train one linear head a trial on frozen features, all trials together.

    Args:
        features: float ``(trials, n, d)``.
        y: int64 ``(trials, n)``.
    """
    trials, n, d = features.shape
    heads = HeadStack(trials, d, classes, ctx.generator("heads"))
    by_row = features.transpose(0, 1).contiguous()  # (n, trials, d)
    labels = y.T.contiguous()  # (n, trials)
    total = config.epochs * steps_in_epoch(n, config.batch_size)
    optimizer, schedule = _of_heads(list(heads.parameters()), config, total)

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        each = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum")
        return each / len(target)  # a sum over trials: their gradients do not mix

    steps = batches(n, config.batch_size, config.epochs, ctx.generator("batches"))
    fit(heads, lambda i: (by_row[i], labels[i]), loss, optimizer, schedule, steps, total, ctx)
    return heads.requires_grad_(False)
