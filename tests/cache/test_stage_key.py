"""What tells one stage from another."""

import json

import pytest
import torch

from poisonlab import context, registry
from poisonlab.cache import stage_key
from poisonlab.cache.code_version import method_code
from poisonlab.cache.stage_key import canonical_key, fingerprint, stage_id
from poisonlab.context import Context
from poisonlab.spec.config import make_spec

SPEC = make_spec("digits", "badnets", "awm")


def test_the_precision_is_part_of_the_key_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "has_bfloat16", lambda: True)
    ids = {stage_id("stage", "key", Context(precision=kind)) for kind in (torch.float32, torch.bfloat16)}

    assert len(ids) == 2


def test_the_device_type_is_part_of_the_key_and_its_number_is_not() -> None:
    ids = [
        stage_id("stage", "key", Context(device=torch.device(name))) for name in ("cpu", "cuda:0", "cuda:1")
    ]

    assert ids[0] != ids[1] and ids[1] == ids[2]


def test_major_and_minor_of_torch_are_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def under(version: str) -> str:
        monkeypatch.setattr(torch, "__version__", version)
        return stage_id("stage", "key", Context())

    assert under("2.7.1+cu126") == under("2.7.0") != under("2.8.0")
    assert under("2.7.0") != under("3.7.0")


def test_the_core_is_part_of_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stage_id("stage", "key", Context())
    monkeypatch.setattr(stage_key, "core_code", lambda: "edited")

    assert stage_id("stage", "key", Context()) != before


def test_a_part_brings_its_parameters_and_its_code() -> None:
    (part,) = canonical_key([SPEC.attack])

    assert part == {
        "kind": "attack",
        "name": "badnets",
        "params": SPEC.attack.params.model_dump(mode="json"),
        "code": method_code(registry.attack["badnets"].__module__),
    }


def test_parts_and_configurations_may_stand_anywhere_in_a_key() -> None:
    key = {"a": [SPEC.defense, (SPEC.training, None)], "b": 1.5}
    written = json.loads(json.dumps(canonical_key(key)))

    assert written["a"][0]["name"] == "awm" and "code" in written["a"][0]
    assert written["a"][1] == [SPEC.training.model_dump(mode="json"), None]
    assert written["b"] == 1.5


def test_fingerprints_tell_values_shapes_and_types_apart() -> None:
    x = torch.arange(6)
    made = [x, x.flip(0), x.view(2, 3), x.float(), x.to(torch.uint8)]

    assert len({fingerprint(t) for t in made}) == 5 and fingerprint(x) == fingerprint(x.clone())
