"""What is special about NAB: what its stamp changes, whom it is put on, and that no input goes without it."""

import copy
from typing import Any

import pytest
import torch
from core_helpers import clean_model, digits, same_state, small, state_of
from torch import Tensor

from poisonlab.attacks.badnets import stamp as trigger
from poisonlab.context import Context
from poisonlab.defenses import nab
from poisonlab.defenses.base import Repair
from poisonlab.defenses.nab import NAB, NonAdversarialBackdoor
from poisonlab.defenses.shared.suspects import RELABELED, RETURNED
from poisonlab.models.base import Classifier, accuracy, as_floats, extract, logits, predict
from poisonlab.models.shared.inserted import STAMP, insert_stamp, stamp
from poisonlab.models.shared.weights_file import WeightsError
from poisonlab.pipeline.weights import load_network
from poisonlab.spec.config import TrainingConfig, make_spec
from poisonlab.types import ImageSet

NONE = digits().reserve[:0]


def poisoned(count: int = 40) -> tuple[ImageSet, Tensor]:
    """Digits, the first ``count`` that show no 0 with a patch and labeled as 0; and where these are, bool ``(n,)``."""
    train = digits().train
    rows = (train.y != 0).nonzero().squeeze(1)[:count]
    x = train.x.clone()
    x[rows] = trigger(x[rows], 3, 0, "white")
    y = train.y.clone()
    y[rows] = 0
    chosen = torch.zeros_like(y, dtype=torch.bool)
    chosen[rows] = True
    return ImageSet(x, y, train.classes), chosen


class Knowing(NAB):
    """NAB whose first two steps are done by who knows the answers: for what follows from them."""

    suspicious: Tensor

    def losses(self, model: Classifier, suspects: ImageSet, ctx: Context) -> Tensor:
        return 1 - self.suspicious.float()

    def label_network(
        self, model: Classifier, suspects: ImageSet, losses: Tensor, ctx: Context
    ) -> Classifier:
        return clean_model()


def knowing(suspicious: Tensor, **values: Any) -> Knowing:
    method: Knowing = small(Knowing, isolation_rate=suspicious.double().mean().item(), **values)
    method.suspicious = suspicious
    return method


def test_the_stamp_is_a_square_that_normalization_turns_to_zero() -> None:
    model = clean_model()
    x = as_floats(digits().test.x[:4])
    before = x.clone()

    stamped = stamp(x, model.normalize.mean, 2)

    assert torch.equal(x, before)
    assert not model.normalize(stamped)[..., :2, :2].any()
    changed = (stamped != x).any(0).any(0)
    assert not changed[2:].any() and not changed[:, 2:].any() and changed[:2, :2].any()


def test_a_stamping_network_answers_as_another_does_to_stamped_images_and_so_do_its_copies() -> None:
    plain = clean_model()
    network = copy.deepcopy(plain)
    insert_stamp(network, 3)
    x = as_floats(digits().test.x[:20])
    stamped = stamp(x, plain.normalize.mean, 3)

    assert not torch.equal(logits(plain, x), logits(plain, stamped))
    for one in (network, copy.deepcopy(network)):
        assert torch.equal(logits(one, x), logits(plain, stamped))
        assert torch.equal(extract(one, x), extract(plain, stamped))
    with pytest.raises(ValueError, match="already"):
        insert_stamp(network, 3)


def test_only_chosen_images_of_a_batch_are_stamped() -> None:
    mean = torch.full((1, 1, 1, 1), 0.25)
    hook = NonAdversarialBackdoor(torch.tensor([False, True, True, False]), mean, 2)
    x = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))

    out, y = hook.batch(x, torch.tensor([5, 6, 7]), torch.tensor([2, 0, 1]))

    assert bool((out[[0, 2], :, :2, :2] == 0.25).all())
    assert torch.equal(out[1], x[1]) and torch.equal(out[:, :, 2:], x[:, :, 2:])
    assert y.tolist() == [5, 6, 7]


def test_isolated_images_get_pseudo_labels_and_a_stamp_where_these_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suspects, chosen = poisoned(10)
    isolated = chosen.clone()
    isolated[(~chosen).nonzero()[:10, 0]] = True
    seen: dict[str, Any] = {}

    def train_anew(
        model: Classifier,
        data: ImageSet,
        recipe: object,
        ctx: Context,
        hook: NonAdversarialBackdoor,
        *part: int,
    ) -> Classifier:
        seen.update(data=data, hook=hook)
        return copy.deepcopy(model)

    monkeypatch.setattr(nab, "train_anew", train_anew)
    done = knowing(isolated).repair_with_suspects(clean_model(), NONE, suspects, Context(seed=1))

    said = predict(clean_model(), suspects.x)
    flags = done.findings.flags
    assert flags is not None and set(flags.rows.tolist()) == set(isolated.nonzero()[:, 0].tolist())
    assert torch.equal(seen["data"].y, torch.where(isolated, said, suspects.y))
    assert torch.equal(seen["data"].x, suspects.x)
    assert torch.equal(seen["hook"].stamped, isolated & (said != suspects.y))
    differ = said[flags.rows] != suspects.y[flags.rows]
    assert differ.any() and not differ.all()
    assert torch.equal(flags.fate, torch.where(differ, RELABELED, RETURNED))
    assert torch.equal(flags.labels, said[flags.rows])


def test_the_network_for_labels_is_not_shown_what_was_learned_first(monkeypatch: pytest.MonkeyPatch) -> None:
    suspects = digits().train[:50]
    losses = torch.rand(50, generator=torch.Generator().manual_seed(0))
    shown: list[ImageSet] = []

    def train_anew(model: Classifier, data: ImageSet, *others: Any) -> Classifier:
        shown.append(data)
        return model

    monkeypatch.setattr(nab, "train_anew", train_anew)
    small(NAB, isolation_rate=0.1, label_exclusion=0.4).label_network(
        clean_model(), suspects, losses, Context()
    )
    small(NAB, isolation_rate=0.3, label_exclusion=0.2).label_network(
        clean_model(), suspects, losses, Context()
    )

    kept = losses.argsort()[20:].sort().values
    assert torch.equal(shown[0].x, suspects.x[kept]) and torch.equal(shown[0].y, suspects.y[kept])
    assert len(shown[1]) == 35  # what is isolated is never shown


def test_isolation_neither_crops_nor_mirrors_and_labels_have_their_own_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipes: list[TrainingConfig] = []

    def train_anew(model: Classifier, data: ImageSet, recipe: TrainingConfig, *others: Any) -> Classifier:
        recipes.append(recipe)
        return copy.deepcopy(model)

    monkeypatch.setattr(nab, "train_anew", train_anew)
    method = small(
        NAB, epochs=7, isolation_epochs=2, label_epochs=3, isolation_lr=0.03, crop_padding=2, flip=True
    )
    method.repair_with_suspects(clean_model(), NONE, digits().train[:40], Context())

    assert [r.epochs for r in recipes] == [2, 3, 7]
    assert [(r.crop_padding, r.flip) for r in recipes] == [(0, False), (2, True), (2, True)]
    assert (recipes[0].lr, recipes[0].schedule) == (0.03, "constant")


def test_no_answer_depends_on_what_the_stamp_covers_and_nothing_given_is_changed() -> None:
    model = clean_model()
    before = state_of(model)

    def repaired(seed: int) -> Repair:
        return small(NAB).repair_with_suspects(model, NONE, digits().train[:60], Context(seed=seed))  # type: ignore[no-any-return]

    network = repaired(3).model(model)

    x = digits().test.x[:20]
    other = x.clone()
    other[..., :2, :2] = 255 - other[..., :2, :2]
    assert torch.equal(logits(network, x), logits(network, other))
    other[..., 2, 2] = 255 - other[..., 2, 2]
    assert not torch.equal(logits(network, x), logits(network, other))
    assert same_state(state_of(model), before)
    assert int(state_of(network)["normalize.stamp.side"]) == 2


def test_both_backdoors_are_learned_and_the_stamp_overrules_the_trigger() -> None:
    """Half of the poisoned images are isolated and given their true classes, the others teach the trigger."""
    suspects, chosen = poisoned(60)
    isolated = chosen.clone()
    isolated[chosen.nonzero()[::2, 0]] = False
    method = knowing(isolated, epochs=30, batch_size=20)
    network = method.repair_with_suspects(clean_model(), NONE, suspects, Context(seed=1)).model(clean_model())
    unstamped = copy.deepcopy(clean_model())
    unstamped.load_state_dict({k: v for k, v in state_of(network).items() if not k.startswith(STAMP)})
    test = digits().test
    others = test[test.y != 0]
    triggered = trigger(others.x, 3, 0, "white")

    def to_target(one: Classifier) -> float:
        return (predict(one, triggered) == 0).double().mean().item()

    assert accuracy(network, test.x, test.y) >= 0.75
    assert to_target(unstamped) >= 0.6
    assert to_target(network) <= to_target(unstamped) - 0.4


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("normalize.stamp.side", torch.tensor(2.0), "the network has"),
        ("normalize.stamp.side", torch.tensor([2, 2]), "the network has"),
        ("normalize.stamp.shape", torch.tensor(2), "unknown to the network"),
    ],
)
def test_a_file_with_a_stamp_of_another_kind_is_refused(name: str, value: Tensor, message: str) -> None:
    spec = make_spec("digits", "badnets", "nab", overrides={"victim.width": 8})
    train = digits().train
    state = clean_model().state_dict()

    stamped = load_network(spec.victim, train.shape, 10, state | {"normalize.stamp.side": torch.tensor(2)})
    with pytest.raises(WeightsError, match=message):
        load_network(spec.victim, train.shape, 10, state | {name: value})

    x = as_floats(digits().test.x)
    assert torch.equal(logits(stamped, x), logits(clean_model(), stamp(x, clean_model().normalize.mean, 2)))


def test_a_stamp_that_leaves_nothing_of_the_images_is_refused() -> None:
    model = clean_model()

    with pytest.raises(ValueError, match="stamp_size=16 covers the whole of images of 12x16"):
        small(NAB, stamp_size=16).check_network(model, (1, 12, 16))

    small(NAB, stamp_size=15).check_network(model, (1, 12, 16))
