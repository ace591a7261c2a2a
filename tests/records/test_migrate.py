"""Records of older schemas under today's names: steps rename, and add nothing."""

import json

import pytest
import torch
from safetensors.torch import save_file
from store_helpers import record_of

import poisonlab
from poisonlab.records import artifacts, migrate
from poisonlab.records.record import RecordError, read_record, write_record
from poisonlab.spec.config import make_spec


def written_record(folder, change):
    """A run folder whose record was changed by ``change(values)``; the values before and after."""
    record = record_of(make_spec("digits", "badnets", "awm"))
    write_record(record, folder / record.run_id)
    path = folder / record.run_id / "run.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    return path, record


def as_schema_1(values):
    del values["schema"]


def test_a_record_says_its_schema(tmp_path):
    path, _ = written_record(tmp_path, lambda values: None)
    assert json.loads(path.read_text())["schema"] == migrate.SCHEMA == 2


def test_a_record_without_schema_is_of_the_first(tmp_path):
    path, record = written_record(tmp_path, as_schema_1)
    before = path.read_bytes()
    assert read_record(path.parent)[0] == record
    assert path.read_bytes() == before  # reading never changes the file


def test_parameters_of_metapoison_that_were_renamed_are_found_under_their_new_names(tmp_path):
    def change(values):
        as_schema_1(values)
        spec = make_spec("digits", "metapoison", "none").model_dump(mode="json")
        params = spec["attack"]["params"]
        params["colour"], params["normalise"] = params.pop("color"), params.pop("normalize")
        values["spec"] = spec

    path, _ = written_record(tmp_path, change)
    spec = read_record(path.parent)[0].spec
    assert spec.experiment() == make_spec("digits", "metapoison", "none")
    assert "colour" in path.read_text()


def test_a_parameter_that_was_removed_is_kept_and_named(tmp_path):
    def change(values):
        values["spec"]["defense"]["params"]["relative_threshold"] = 0.5

    path, record = written_record(tmp_path, change)
    found = read_record(path.parent)[0]
    assert found.metrics == record.metrics
    assert found.spec.defense.params.relative_threshold == 0.5
    assert found.spec.obstacle() == "parameter 'relative_threshold' of defense 'awm' is unknown here"


def test_a_bound_that_was_tightened_leaves_the_record_readable(tmp_path):
    def change(values):
        values["spec"]["training"]["epochs"] = 5000

    path, record = written_record(tmp_path, change)
    found = read_record(path.parent)[0]
    assert found.metrics == record.metrics
    assert found.spec.training.epochs == 5000
    assert found.spec.obstacle() == "training.epochs is 5000, at most 1000 today"


def test_a_field_that_was_added_since_is_not_filled_in(tmp_path):
    def change(values):
        as_schema_1(values)
        del values["spec"]["defense"]["params"]["rounds"], values["device"]

    path, _ = written_record(tmp_path, change)
    found = read_record(path.parent)[0]
    assert found.spec.defense.params.rounds is None
    assert found.device == ""


def test_a_field_of_a_newer_version_is_passed_over(tmp_path):
    def change(values):
        values["schema"] = 3
        values["energy_joule"] = 12.5

    path, record = written_record(tmp_path, change)
    assert read_record(path.parent)[0].metrics == record.metrics


@pytest.mark.parametrize("schema", [0, -1, "2", 1.5, True, None])
def test_a_schema_that_is_none_is_refused(tmp_path, schema):
    path, _ = written_record(tmp_path, lambda values: values.update(schema=schema))
    with pytest.raises(RecordError, match="schema must be a whole number"):
        read_record(path.parent)


def test_metrics_that_were_renamed_are_found_in_numbers_and_curves():
    old = {
        "metrics": {"accused": 0.5, "asr": 1.0},
        "points": [["detect", "accused", 1, 0.5], ["victim", "loss", 1, 2.0]],
    }
    new = migrate.rename_metrics(old, {"accused": "flagged"})
    assert new["metrics"] == {"flagged": 0.5, "asr": 1.0}
    assert new["points"] == [["detect", "flagged", 1, 0.5], ["victim", "loss", 1, 2.0]]
    assert "accused" in old["metrics"]


def test_kinds_of_artifacts_that_were_renamed_are_found():
    old = {"artifacts": [{"name": "a", "kind": "DialCurve"}, {"name": "b", "kind": "Curve"}]}
    new = migrate.rename_kinds(old, {"DialCurve": "SettingsCurve"})
    assert [item["kind"] for item in new["artifacts"]] == ["SettingsCurve", "Curve"]


def test_artifacts_of_kinds_that_are_gone_are_left_out():
    items = [{"name": "flagged", "kind": "FlaggedRows"}, {"name": "masks", "kind": "NeuronScores"}]
    old = {"schema": 1, "artifacts": items}

    assert migrate.migrate_record(old)["artifacts"] == items[1:]


def test_an_old_artifact_is_read_under_todays_names(tmp_path):
    scores = {name: torch.zeros(3) for name in ("clean", "poisoned", "control")}
    fields = {"accused_clean": 0.1, "accused_poisoned": 0.9, "accused_control": 0.2}
    header = json.dumps({"kind": "SampleSuspicion", "fields": fields})
    save_file(scores, tmp_path / "old.safetensors", metadata={"poisonlab.artifact": header})
    found = artifacts.load(tmp_path / "old.safetensors")
    assert (found.flagged_clean, found.flagged_poisoned, found.flagged_control) == (0.1, 0.9, 0.2)


def test_every_shipped_record_opens_and_its_artifacts_load():
    root = poisonlab.reference_folder()
    for path in sorted(root.glob("*/run.json")):
        record, _ = read_record(path.parent)
        assert record.metrics
    for path in sorted(root.glob("*/*.safetensors"))[::17]:
        artifacts.load(path)
