"""What is special about TrojanNN: which units, which pixels, and that the patch excites them."""

import pytest
import torch
from core_helpers import attackers_view, listening

from poisonlab.attacks.trojannn import TrojanNN, TrojanNNConfig, disc, strongest_units
from poisonlab.context import Context
from poisonlab.events import Metric
from poisonlab.models.base import Classifier


def test_the_mask_covers_the_asked_share_in_the_lower_right() -> None:
    mask = disc(32, 32, 0.07)
    rows, columns = mask.nonzero().T

    assert len(rows) == round(0.07 * 32 * 32)
    assert int(rows.min()) >= 16 and int(columns.min()) >= 16


def test_a_mask_without_pixels_is_an_error() -> None:
    with pytest.raises(ValueError, match="area=0.001 of 8x8 images is 0 pixels"):
        disc(8, 8, 0.001)


def test_the_units_have_the_largest_absolute_weights() -> None:
    model = Classifier(torch.nn.Flatten(), 4, 2, torch.zeros(1), torch.ones(1))
    model.head.weight.data = torch.tensor([[1.0, -5.0, 0.0, 2.0], [1.0, -1.0, 4.0, 3.0]])

    assert strongest_units(model, 2).tolist() == [1, 3]
    with pytest.raises(ValueError, match="units=5 asks for more than the 4"):
        strongest_units(model, 5)


def test_optimizing_the_patch_excites_the_units() -> None:
    ctx, heard = listening()
    TrojanNN(TrojanNNConfig(steps=60)).learn(attackers_view(), ctx)
    reached = [e.value for e in heard if isinstance(e, Metric) and e.name == "mean_activation"]

    assert reached[-1] > 1.2 * reached[0]


def test_the_trigger_is_the_learned_patch_and_leaves_the_rest() -> None:
    attack, x = TrojanNN(TrojanNNConfig(steps=2)), attackers_view().train.x[:5]
    state = attack.learn(attackers_view(), Context())
    stamped = attack.trigger(x, state)

    assert torch.equal(stamped[..., state["mask"]], state["pattern"][:, state["mask"]].expand(5, -1, -1))
    assert torch.equal(stamped[..., ~state["mask"]], x[..., ~state["mask"]])
