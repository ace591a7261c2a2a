"""Artifacts from anybody: what does not fit its kind is refused in one line, before a page meets it."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from poisonlab.records import artifacts, record, shapes
from poisonlab.records.artifacts import (
    KINDS,
    Crafting,
    FlagReview,
    LangevinTrace,
    NeuronScores,
    PoisonGallery,
    RepairTrace,
    SampleSuspicion,
    TriggerReconstruction,
    TriggerTruth,
)


def gallery(**changed):
    x = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    labels = torch.tensor([0, 1, 2, 1])
    return dataclasses.replace(
        PoisonGallery(x, x.clone(), labels, labels.clone(), ["a", "b", "c"]), **changed
    )


def written(artifact, path):
    artifacts.save(artifact, path)
    return path


def test_what_fits_comes_back(tmp_path):
    loaded = artifacts.load(written(gallery(), tmp_path / "a.safetensors"))
    assert torch.equal(loaded.true_labels, gallery().true_labels) and loaded.classes == ["a", "b", "c"]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_field_of_every_kind_is_described(kind):
    assert list(shapes.SHAPES[kind]) == [field.name for field in dataclasses.fields(KINDS[kind])]


WRONG = {
    "labels_out_of_range": (
        {"true_labels": torch.tensor([0, 999, -999, 1])},
        "true_labels must be from 0 to 2",
    ),
    "counts_differ": ({"poisoned": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)}, "poisoned .* n = 4, not 2"),
    "sides_differ": ({"poisoned": torch.zeros(4, 3, 8, 9, dtype=torch.uint8)}, "w = 8, not 9"),
    "label_counts_differ": (
        {"given_labels": torch.zeros(9, dtype=torch.int64)},
        "given_labels .* n = 4, not 9",
    ),
    "floats": ({"clean": torch.full((4, 3, 8, 8), float("nan"))}, "clean must be uint8 n c h w, not float32"),
    "no_dimensions": (
        {"clean": torch.tensor(1, dtype=torch.uint8)},
        "clean must be uint8 n c h w, not uint8",
    ),
    "two_channels": ({"clean": torch.zeros(4, 2, 8, 8, dtype=torch.uint8)}, "1 or 3 color channels, not 2"),
    "classes_a_number": ({"classes": 5}, "classes must be a list of names, not int '5'"),
    "classes_a_text": ({"classes": "abcdefghij"}, "classes must be a list of names, not str"),
    "no_classes": ({"classes": []}, "classes .* is empty"),
    "a_text_for_a_tensor": ({"clean": "hello"}, "clean must be uint8 n c h w, not str 'hello'"),
    "null_for_a_tensor": ({"poisoned": None}, "poisoned must be uint8 n c h w, not NoneType"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_by_name(case, tmp_path):
    change, said = WRONG[case]
    path = written(gallery(**change), tmp_path / "a.safetensors")
    with pytest.raises(
        artifacts.ArtifactError, match=f"a.safetensors does not hold what a PoisonGallery must: .*{said}"
    ):
        artifacts.load(path)


def test_an_empty_gallery_is_refused(tmp_path):
    none = gallery()
    empty = PoisonGallery(
        none.clean[:0], none.poisoned[:0], none.true_labels[:0], none.given_labels[:0], ["a"]
    )
    with pytest.raises(artifacts.ArtifactError, match="clean .* is empty"):
        artifacts.load(written(empty, tmp_path / "a.safetensors"))


def test_a_walk_without_steps_is_refused(tmp_path):
    frames = torch.zeros(0, 1, 3, 8, 8, dtype=torch.uint8)
    walk = LangevinTrace(
        torch.zeros(0, dtype=torch.int64), frames, frames, *[torch.zeros(0, 1)] * 4, same_noise="maybe"
    )
    with pytest.raises(artifacts.ArtifactError, match="steps .* is empty"):
        artifacts.load(written(walk, tmp_path / "a.safetensors"))


def floats(*sizes):
    return torch.zeros(sizes)


def whole(*values):
    return torch.tensor(values)


def walk(**changed):
    frames = torch.zeros(3, 1, 3, 8, 8, dtype=torch.uint8)
    usual = LangevinTrace(
        whole(0, 10, 20), frames, frames.clone(), *[floats(3, 1) for _ in range(4)], 20, ["a", "b", "c"]
    )
    return dataclasses.replace(usual, **changed)


def truth(**changed):
    x = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    labels = [whole(0, 1) for _ in range(4)]
    return dataclasses.replace(TriggerTruth(x, x.clone(), 1, ["a", "b"], *labels), **changed)


def review(**changed):
    curve = [whole(1, 2), floats(2), floats(2)]
    picture = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    rows = [whole(1), floats(1), whole(0), whole(0), whole(1), whole(-1), torch.tensor([True])]
    usual = FlagReview(
        floats(3), floats(2), *curve, 2, torch.zeros(3, 2, dtype=torch.int64), picture, *rows, ["a", "b"]
    )
    return dataclasses.replace(usual, **changed)


def recovered(**changed):
    usual = TriggerReconstruction(floats(2, 3, 8, 8), torch.zeros(2, 2).long(), floats(2), ["a", "b"])
    return dataclasses.replace(usual, **changed)


def repaired(**changed):
    usual = RepairTrace(["unlearn", "recover"], whole(0, 0, 1), whole(0, 1, 1), floats(3), floats(3), 100)
    return dataclasses.replace(usual, **changed)


def crafted(**changed):
    picture = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    curves = [whole(0, 1), floats(2), floats(2), whole(0), floats(1), floats(1)]
    plane = [floats(2, 3, 2), floats(2), floats(2, 3), floats(2, 3)]
    pictures = [picture, picture.clone(), picture.clone()]
    usual = Crafting(*curves, *plane, *pictures, whole(1, 2), floats(0), 8.0, 0.04)
    return dataclasses.replace(usual, **changed)


def neurons(**changed):
    usual = NeuronScores(["a", "b"], torch.ones(2, 10).long(), "score", True, floats(4), ["m", "n"])
    return dataclasses.replace(usual, **changed)


DISAGREEING = {
    "a_name_for_one_of_three_steps": (walk, {"moments": ["start"]}, "moments must name each of the 3 steps"),
    "steps_that_fall": (walk, {"steps": whole(5, 4, 3)}, "steps must rise"),
    "a_step_below_0": (walk, {"steps": whole(-5, 0, 5)}, "steps must be from 0"),
    "a_step_beyond_figures": (
        walk,
        {"steps": whole(0, 1, 2**62)},
        "steps must be from 0 to 9007199254740992",
    ),
    "used_beyond_figures": (walk, {"used": 2**60}, "used must be a whole"),
    "a_picture_of_one_pixel": (
        walk,
        {"clean_images": torch.zeros(3, 1, 1, 1, 1, dtype=torch.uint8)},
        "2 to 4096 pixels",
    ),
    "answers_of_one_model_alone": (truth, {"triggered_defended": whole()}, "must all be told, or none"),
    "null_for_labels": (truth, {"true_labels": None}, "true_labels must be int64"),
    "more_flagged_than_scored": (review, {"chosen": 6}, "at most the 5 images"),
    "fewer_flagged_than_none": (review, {"chosen": -1}, "chosen must be from 0"),
    "nothing_scored": (review, {"clean": floats(0), "bad": floats(0), "chosen": 0}, "at most the 0 images"),
    "a_precision_above_1": (review, {"precision": floats(2) + 1e38}, "precision must be from 0 to 1"),
    "a_rank_of_0": (review, {"rank": whole(0)}, "rank must be from 1"),
    "a_count_below_0": (recovered, {"class_histogram": whole(-1, 0, 0, 0).view(2, 2)}, "from 0"),
    "an_infinite_mask": (
        recovered,
        {"masks": floats(2, 1, 8, 8) + float("inf")},
        "masks must be from 0 to 1",
    ),
    "masks_of_no_round": (recovered, {"masks": floats(0)}, "masks must be float"),
    "a_phase_without_a_look": (repaired, {"phase": whole(0, 0, 0)}, "each of the 2 phases"),
    "an_accuracy_below_0": (repaired, {"accuracy": floats(3) - 5}, "accuracy must be from 0 to 1"),
    "an_undefined_bound": (crafted, {"eps": float("nan")}, "eps must be a number, not NoneType"),
    "a_bound_beyond_pixels": (crafted, {"eps": 1e308}, "eps must be from 0 to 255"),
    "modules_of_other_layers": (neurons, {"modules": ["m"]}, "each of the 2 layers"),
}


@pytest.mark.parametrize("case", DISAGREEING)
def test_fields_that_do_not_agree_or_leave_their_range_are_refused(case, tmp_path):
    make, change, said = DISAGREEING[case]
    artifacts.load(written(make(), tmp_path / "sound.safetensors"))
    with pytest.raises(artifacts.ArtifactError, match=said):
        artifacts.load(written(make(**change), tmp_path / "a.safetensors"))


def test_a_share_may_be_undefined_and_off_by_a_rounding(tmp_path):
    asr = torch.tensor([float("nan"), 1.000001, -1e-7])
    assert artifacts.load(written(repaired(asr=asr), tmp_path / "a.safetensors")).asr.isnan().any()


def test_what_may_be_absent_may_be_absent(tmp_path):
    found = TriggerReconstruction(
        torch.zeros(2, 3, 8, 8), torch.zeros(2, 10, dtype=torch.int64), torch.zeros(2), list("abcdefghij")
    )
    assert artifacts.load(written(found, tmp_path / "a.safetensors")).masks is None


def test_a_number_that_is_undefined_stays_undefined(tmp_path):
    suspicion = SampleSuspicion(torch.zeros(3), torch.ones(2), torch.zeros(3), 0.1, float("nan"), 0.2)
    loaded = artifacts.load(written(suspicion, tmp_path / "a.safetensors"))
    assert (loaded.flagged_clean, loaded.flagged_poisoned) == (0.1, None)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"kind": "Nothing", "fields": {}},
        {"kind": "PoisonGallery", "fields": {}},
        {"kind": "PoisonGallery", "fields": {"wavelength": 3}},
        {"kind": "ModelHealth", "fields": {"values": {"auroc": "high"}, "verdict": "fine"}},
        {"kind": "ModelHealth", "fields": {"values": {"auroc": 0.9}, "verdict": 5}},
        {"kind": "ModelHealth", "fields": [], "schema": "two"},
        {"kind": "ModelHealth", "fields": {"values": None, "verdict": "fine"}},
    ],
)
def test_headers_that_fit_no_kind_are_refused(header, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"_": torch.zeros(1)}, path, metadata={"poisonlab.artifact": json.dumps(header)})
    with pytest.raises(artifacts.ArtifactError, match="a.safetensors"):
        artifacts.load(path)


@pytest.mark.parametrize("raw", [b"", b"x" * 7, b"\\xff" * 100, (2**62).to_bytes(8, "little") + b"{}"])
def test_other_bytes_are_refused(raw):
    with pytest.raises(artifacts.ArtifactError, match="a is not an artifact"):
        artifacts.parse(raw, "a")


def test_a_damaged_artifact_is_named_with_its_run(tmp_path):
    kept = record.save_artifact(gallery(), "poisons", "poison", tmp_path)
    path = tmp_path / kept.file
    assert isinstance(record.load_artifact(path, kept.sha256), PoisonGallery)
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1  # still a valid file, with another picture
    path.write_bytes(raw)
    with pytest.raises(record.RecordError, match=f"{tmp_path.name}/poisons.safetensors is damaged"):
        record.load_artifact(path, kept.sha256)
