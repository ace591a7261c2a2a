"""Long stages that are interrupted go on where they were kept, and end with the numbers of an uninterrupted one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from core_helpers import attackers_view, digits, rest_slow, small

from poisonlab import registry
from poisonlab.cache.stage_cache import StageCache, run_stage
from poisonlab.context import Context
from poisonlab.events import Cancelled, Event, Kept, Log, Metric, Progress
from poisonlab.generative import ebm
from poisonlab.generative.ddpm import DDPMConfig, train_ddpm
from poisonlab.generative.ebm import EBMConfig, train_ebm
from poisonlab.generative.langevin import LangevinConfig
from poisonlab.spec.config import TrainingConfig, make_spec
from poisonlab.training.victims import train_from_scratch
from poisonlab.types import Bundle

Work = Callable[[Context], Bundle]
SCHEDULES = ("triangle", "cosine", "one_cycle", "constant", "steps")


def diffusion(ctx: Context) -> Bundle:
    config = DDPMConfig(
        ddpm_network="tiny", ddpm_updates=5, ddpm_batch_size=20, ddpm_levels=20, ddpm_warmup=3
    )
    return Bundle(dict(train_ddpm(digits().public.x, config, ctx)[0].state_dict()))


def energy(ctx: Context) -> Bundle:
    config = EBMConfig(
        architecture="light",
        filters=4,
        updates=12,
        batch_size=8,
        bank_size=16,
        chain_steps=2,
        health_every=2,
        min_psnr=0,
        weight_averaging=0.5,
        gradient_clip=1.0,
    )
    network, health = train_ebm(
        digits().public.x, config, LangevinConfig(step_clamp=0.03, state_clamp=1.5), ctx
    )
    return Bundle(dict(network.state_dict()), vars(health))


def crafting(ctx: Context) -> Bundle:
    attack = small(registry.attack["gradient_matching"], targets=4, steps=2)
    return Bundle(attack.poison(attackers_view(), ctx).tensors())


def descent(ctx: Context) -> Bundle:
    attack = small(registry.attack["bullseye_polytope"], targets=2, steps=6, dropout=0.2, draws=2)
    return Bundle(attack.poison(attackers_view(), ctx).tensors())


def inward(ctx: Context) -> Bundle:
    attack = small(registry.attack["narcissus"], passes=4, batch_size=10, warmup_epochs=2)
    return Bundle(attack.poison(attackers_view(), ctx).tensors())


def purification(ctx: Context) -> Bundle:
    defense = small(registry.defense["puregen_ebm"], steps=2)
    defense.energy_model = ebm.energy_network(defense.config.ebm(), 1, ctx.generator("ebm"))
    return Bundle({"x": defense.purify(digits().train, ctx).x})


WORKS: dict[str, Work] = {
    "ddpm": diffusion,
    "ebm": energy,
    "crafting": crafting,
    "descent": descent,
    "trigger": inward,
    "purification": purification,
}


class Interruption:
    """Asks to stop at the n-th moment at which a stage was kept, and remembers what was said."""

    def __init__(self, after: float) -> None:
        self.left, self.heard = after, list[Event]()

    def __call__(self, event: Event) -> None:
        self.heard.append(event)
        if isinstance(event, Kept):
            self.left -= 1
        elif isinstance(event, Progress) and self.left < 0:  # some steps on, so that work is lost, too
            raise Cancelled


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poisonlab.cache.partial.EVERY", 0.0)
    monkeypatch.setattr("poisonlab.defenses.shared.puregen.BATCH", 60)
    real = Context.progress
    monkeypatch.setattr(Context, "progress", lambda self, step, total: real(self, step, total, every=0.0))


def said(heard: list[Event], stage: str = "work") -> list[tuple[str, int, float]]:
    """Points of the curves of a stage."""
    return [(e.name, e.step, e.value) for e in heard if isinstance(e, Metric) and e.stage == stage]


def in_pieces(run: Callable[[Interruption], Bundle]) -> tuple[Bundle, Interruption, int]:
    """Run again and again, each time a bit further."""
    for attempt in range(1, 40):
        listener = Interruption(after=1)  # the first moment is the start
        try:
            return run(listener), listener, attempt
        except Cancelled:
            pass
    raise AssertionError("never ended")


@pytest.mark.parametrize("name", rest_slow(WORKS))
def test_pieces_add_up_to_the_whole(name: str, tmp_path: Path) -> None:
    def run(listener: Callable[[Event], None], root: Path) -> Bundle:
        return run_stage(Context(seed=3, send=listener, cache=StageCache(root)), "work", "key", WORKS[name])

    straight = Interruption(after=float("inf"))
    whole = run(straight, tmp_path / "straight")
    pieces, last, attempts = in_pieces(lambda listener: run(listener, tmp_path / "pieces"))

    assert attempts > 2
    assert pieces.data == whole.data and pieces.tensors.keys() == whole.tensors.keys()
    assert all(torch.equal(pieces.tensors[k], v) for k, v in whole.tensors.items())
    assert said(last.heard) == said(straight.heard)
    assert any(isinstance(e, Log) and "goes on after" in e.message for e in last.heard)
    assert [entry[0].partition("-")[0] for entry in StageCache(tmp_path / "pieces").entries()] == ["work"]


@pytest.mark.parametrize("schedule", rest_slow(SCHEDULES))
def test_a_victim_goes_on_in_mid_training(schedule: Any, tmp_path: Path) -> None:
    fast: dict[str, Any] = {"lookahead": 0.95, "norm_bias_factor": 64.0, "alternate_flip": True}
    more = fast if schedule == "triangle" else {}
    recipe = TrainingConfig(epochs=2, batch_size=40, schedule=schedule, crop_padding=1, **more)
    spec = make_spec("digits", "badnets", "none", overrides={"victim.width": 8}).model_copy(
        update={"training": recipe}
    )

    def run(listener: Callable[[Event], None], root: Path) -> Bundle:
        ctx = Context(send=listener, cache=StageCache(root))
        return Bundle(train_from_scratch("victim", spec, [digits().train], ctx).tensors())

    whole = run(lambda event: None, tmp_path / "straight")
    pieces, _, attempts = in_pieces(lambda listener: run(listener, tmp_path / "pieces"))

    assert attempts > 2
    assert all(torch.equal(pieces.tensors[k], v) for k, v in whole.tensors.items())


def hooks(name: str) -> Callable[[Context], Any]:
    """What takes part in a training, by the name of its method."""
    if name in ("epic", "friends"):
        more = (
            {"drop_after": 0, "every": 1, "subset": 0.3} if name == "epic" else {"epoch": 0, "noise_steps": 2}
        )
        known = registry.defense[name].Config.model_fields
        return small(registry.defense[name], **{k: v for k, v in more.items() if k in known}).training_hook  # type: ignore[no-any-return]
    attack = small(registry.attack[name])
    poison = attack.poison(attackers_view(), Context())
    return lambda ctx: attack.training_hook(poison, ctx)


@pytest.mark.parametrize("name", ["epic", "friends", "wanet", "iab"])
def test_a_training_with_a_hook_goes_on_in_its_midst(name: str, tmp_path: Path) -> None:
    recipe = TrainingConfig(epochs=3, batch_size=40, crop_padding=1)
    spec = make_spec("digits", "badnets", "none", overrides={"victim.width": 8}).model_copy(
        update={"training": recipe}
    )
    make_hook = hooks(name)

    def run(listener: Callable[[Event], None], root: Path) -> tuple[Bundle, Any]:
        ctx = Context(send=listener, cache=StageCache(root))
        victims = train_from_scratch("victim", spec, [digits().train], ctx, make_hook, "hook")
        return Bundle(victims.tensors()), victims.learned[0]

    straight = Interruption(after=float("inf"))
    whole, learned = run(straight, tmp_path / "straight")
    found: list[Any] = []

    def piece(listener: Interruption) -> Bundle:
        bundle, at_last = run(listener, tmp_path / "pieces")
        found.append(at_last)
        return bundle

    pieces, last, attempts = in_pieces(piece)

    assert attempts > 2
    assert all(torch.equal(pieces.tensors[k], v) for k, v in whole.tensors.items())
    assert found[0].keys() == learned.keys() and all(torch.equal(found[0][k], v) for k, v in learned.items())
    assert said(last.heard, "victim") == said(straight.heard, "victim")


@pytest.mark.slow
def test_energy_training_rolls_back_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check after the sixth update fails once in a whole training: in the pieces, at the same update."""
    real, failed = ebm.check_health, set[Path]()

    def run(listener: Callable[[Event], None], root: Path) -> Bundle:
        def check(network: Any, held_out: Any, bank: Any, *rest: Any) -> ebm.Health:
            health = real(network, held_out, bank, *rest)
            if updates[0] == 6 and root not in failed:
                failed.add(root)
                return ebm.Health(float("nan"), 0, 0, 0)
            return health

        updates = [0]

        def hear(event: Event) -> None:
            if isinstance(event, Progress):
                updates[0] = event.step
            listener(event)

        monkeypatch.setattr(ebm, "check_health", check)
        return run_stage(Context(send=hear, cache=StageCache(root)), "work", "key", energy)

    whole = run(lambda event: None, tmp_path / "straight")
    pieces, last, _ = in_pieces(lambda listener: run(listener, tmp_path / "pieces"))

    assert failed == {tmp_path / "straight", tmp_path / "pieces"}
    assert all(torch.equal(pieces.tensors[k], v) for k, v in whole.tensors.items())
    assert sum(isinstance(e, Log) and "diverging" in e.message for e in last.heard) == 1


def test_damaged_remains_are_started_anew(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    with pytest.raises(Cancelled):
        run_stage(Context(send=Interruption(after=2), cache=cache), "work", "key", energy)
    (entry,) = cache.entries()
    assert entry[0].startswith("unfinished-work-")
    (tmp_path / entry[0] / "tensors.safetensors").write_bytes(b"")

    heard = Interruption(after=float("inf"))
    done = run_stage(Context(send=heard, cache=cache), "work", "key", energy)

    assert any(isinstance(e, Log) and "damaged" in e.message for e in heard.heard)
    assert torch.equal(next(iter(done.tensors.values())), next(iter(energy(Context()).tensors.values())))


def test_without_a_cache_nothing_is_kept() -> None:
    listener = Interruption(after=float("inf"))
    run_stage(Context(send=listener), "work", "key", energy)

    assert not any(isinstance(e, Kept) for e in listener.heard)
