"""Metrics come from what methods return: without any artifact, from the cache as well, and trial by trial."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from core_helpers import listening, tiny_spec

from poisonlab import registry
from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.defenses.base import Repair
from poisonlab.events import ArtifactReady, Event
from poisonlab.pipeline.defend import Defender, repair
from poisonlab.pipeline.evaluate import measure_flags
from poisonlab.pipeline.experiment import defend, load, run_experiment
from poisonlab.pipeline.poison import Attacked, carry_out
from poisonlab.records.artifacts import PredictionHistogram
from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.training.protocols import Trainer
from poisonlab.types import Detection, Findings, Flags

FEW = {"training.epochs": 1, "dataset.train_images": 100, "dataset.test_images": 60, "clean_images": 20}
SHORT: dict[str, dict[str, Any]] = {
    "awm": {"rounds": 1, "inner_epochs": 1},
    "rnp": {
        "unlearn_epochs": 1,
        "recover_epochs": 1,
        "repeats": 1,
        "rounds": 1,
        "search_batch": 4,
    },
    "jpeg": {},
    "abl": {"isolation_epochs": 1, "unlearning_epochs": 1, "isolation_rate": 0.1},
    "finetune_without": {"epochs": 1, "adapt_epochs": 1},
    "spectral_signatures": {},
}


def short(defense: str) -> ExperimentSpec:
    """A tiny run of one defense of each kind."""
    epochs = {"training__epochs": 3} if defense == "abl" else {}
    settings = {f"defense__{name}": value for name, value in SHORT[defense].items()}
    return tiny_spec(defense, clean_images=20, victim__width=8, **epochs, **settings)


def without_artifacts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Context, "artifact", lambda self, name, value: None)


@pytest.mark.parametrize("defense", list(SHORT))
def test_metrics_are_the_same_without_artifacts_and_from_the_cache(
    defense: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = StageCache(tmp_path)
    cold = run_experiment(short(defense), Context(cache=cache)).metrics
    warm = run_experiment(short(defense), Context(cache=cache)).metrics
    without_artifacts(monkeypatch)

    silent = run_experiment(short(defense), Context()).metrics

    assert cold == warm == silent


def three_trials(defense: str, **settings: Any) -> ExperimentSpec:
    few = FEW | {"attack.targets": 3, "attack.poisons": 3, "attack.steps": 2, "victim.width": 8}
    return make_spec("digits", "gradient_matching", defense, overrides=few | settings)


def attacked_by(spec: ExperimentSpec, ctx: Context) -> tuple[Attacked, Defender, Trainer]:
    splits = load(spec, ctx.device)
    trainer = Trainer(spec, splits, ctx)
    return carry_out(spec, splits, trainer, ctx), Defender(spec, splits.reserve, ctx), trainer


def shown(events: list[Event], kind: type) -> list[tuple[int, Any]]:
    """Trial and value of every artifact of a kind."""
    return [(e.trial, e.value) for e in events if isinstance(e, ArtifactReady) and isinstance(e.value, kind)]


def test_each_trial_has_its_findings_and_its_artifacts_cold_and_warm(tmp_path: Path) -> None:
    spec = three_trials("rnp", **{f"defense.{name}": value for name, value in SHORT["rnp"].items()})
    ctx, cold = listening(cache=StageCache(tmp_path))
    first = run_experiment(spec, ctx).metrics
    ctx, warm = listening(cache=StageCache(tmp_path))
    again = run_experiment(spec, ctx).metrics

    assert first == again
    for events in (cold, warm):
        assert [trial for trial, _ in shown(events, PredictionHistogram)] == [0, 1, 2]
    pairs = zip(shown(cold, PredictionHistogram), shown(warm, PredictionHistogram), strict=True)
    assert all(torch.equal(a.before, b.before) and torch.equal(a.after, b.after) for (_, a), (_, b) in pairs)


def test_flags_of_each_trial_are_measured_against_its_own_poison() -> None:
    spec = three_trials("finetune_without", **{"defense.epochs": 1, "defense.adapt_epochs": 1})
    ctx = Context(seed=spec.seed)
    attacked, _, _ = attacked_by(spec, ctx)
    n = len(attacked.splits.train)

    def exact(trial: int) -> Findings:
        rows = attacked.poison.index[trial]
        scores = attacked.poisoned_rows(trial).float()
        return Findings(flags=Flags(scores, rows, torch.zeros_like(rows), torch.full_like(rows, -1)))

    findings = tuple(exact(trial) for trial in range(3))
    recording, heard = listening()
    each = [measure_flags(attacked, findings, trial, recording.of_trial(trial)) for trial in range(3)]
    swapped = measure_flags(attacked, findings[::-1], 0, Context())

    assert all(found["flag_precision"] == found["flag_recall"] == 1 for found in each)
    assert all(found["flagged"] == 3 / n for found in each) and swapped["flag_recall"] < 1
    assert [event.trial for event in heard if isinstance(event, ArtifactReady)] == [0, 1, 2]


def test_every_trial_reports_the_rows_that_its_training_set_aside(tmp_path: Path) -> None:
    spec = three_trials("epic", **{"training.epochs": 3, "defense.drop_after": 1, "defense.every": 1})
    found = []
    for _ in range(2):
        ctx = Context(seed=spec.seed, cache=StageCache(tmp_path))
        attacked, defender, trainer = attacked_by(spec, ctx)
        found.append(defend(attacked, defender, trainer, ctx).isolated)

    cold, warm = found
    assert len(cold) == len(warm) == 3 and all(torch.equal(a, b) for a, b in zip(cold, warm, strict=True))


def test_a_repair_gives_the_findings_of_every_victim() -> None:
    spec = three_trials("awm", **{"defense.rounds": 1, "defense.inner_epochs": 1})
    ctx = dataclasses.replace(Context(), seed=spec.seed)
    attacked, defender, _ = attacked_by(spec, ctx)

    done = repair(defender, attacked.undefended, attacked.sets, attacked.splits.test, attacked.threat)

    patterns = [found.trigger.patterns for found in done.findings if found.trigger]
    assert len(patterns) == done.victims.members == 3 and not torch.equal(patterns[0], patterns[1])


@pytest.mark.parametrize(
    ("defense", "moment", "judged"),
    [
        ("spectral_signatures", "class_scores", "10 of 10 classes"),
        ("spectral_signatures", "sample_scores", "100 of 100 training images"),
        ("finetune_without", "flags", "100 of 100 training images"),
    ],
)
def test_verdicts_that_are_no_numbers_are_one_line(
    defense: str, moment: str, judged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    undefined = torch.full((10 if moment == "class_scores" else 100,), torch.nan)
    kind = registry.defense[defense]

    def detect(self: Any, *args: Any) -> Detection:
        found = Detection(False, None, "", torch.zeros(10), 1.0, torch.zeros(100))
        return dataclasses.replace(found, **{moment: undefined})

    def repaired(self: Any, model: Any, *args: Any) -> Repair:
        none = torch.zeros(0, dtype=torch.long)
        return Repair(model, Findings(flags=Flags(undefined, none, none, none)))

    if moment == "flags":
        monkeypatch.setattr(kind, "repair_with_suspects", repaired)
    else:
        monkeypatch.setattr(kind, "detect", detect)

    with pytest.raises(ValueError, match=f"the scores that {defense} gives {judged} are no finite numbers"):
        run_experiment(short(defense), Context())
