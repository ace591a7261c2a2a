"""Results of methods on their way through the stage cache: what is packed comes back whole."""

import json
from typing import Any

import torch

from poisonlab.cache.packing import pack, unpack
from poisonlab.types import (
    Bundle,
    ChannelScores,
    Detection,
    Findings,
    Flags,
    RecoveredTrigger,
    SettingSweep,
)


def through_json(bundle: Bundle) -> Bundle:
    return Bundle(bundle.tensors, json.loads(json.dumps(bundle.data)))


def same(a: Any, b: Any) -> bool:
    """Whether two results hold the same."""
    first, second = pack(a), pack(b)
    return first.data == second.data and all(
        torch.equal(value, second.tensors[name]) for name, value in first.tensors.items()
    )


def everything() -> Findings:
    return Findings(
        trigger=RecoveredTrigger(torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(1))),
        channels=ChannelScores("mask", True, ("body.1", "body.2.bn"), (2, 1), torch.tensor([0.5, 0.1, 1.0])),
        flags=Flags(torch.zeros(4), torch.tensor([3]), torch.tensor([1]), torch.tensor([7])),
    )


def test_nested_results_come_back_with_their_parts_and_what_is_missing() -> None:
    found = everything()

    again = unpack(Findings, through_json(pack(found)))

    assert same(again, found) and again.trigger is not None and again.trigger.masks is None
    assert again.channels is not None and again.channels.modules == ("body.1", "body.2.bn")
    assert unpack(Findings, through_json(pack(Findings()))) == Findings()


def test_a_sweep_keeps_the_tensors_of_its_settings_under_their_names_in_one_order() -> None:
    variants = {"body.2.weight": torch.ones(2, 3), "body.1.weight": torch.zeros(2, 3)}
    sweep = SettingSweep("channels pruned", torch.tensor([0.0, 1.0]), torch.tensor([0.9, 0.8]), 1, variants)

    again = unpack(SettingSweep, through_json(pack(sweep)))

    assert same(again, sweep) and list(again.variants) == ["body.1.weight", "body.2.weight"]


def test_a_bundle_may_hold_more_than_the_result() -> None:
    found = Detection(True, 3, "index", torch.tensor([0.0, 2.5]), 2.0)
    bundle = pack(found)

    again = unpack(Detection, Bundle(bundle.tensors | {"other": torch.zeros(1)}, bundle.data | {"more": 1}))

    assert same(again, found) and again.flagged is None
