"""Brings records and artifacts of older schemas up to today's, one small function a step.

All functions are pure over JSON values. A step renames; it never adds a value that the record does not hold, and what
it does not know stays as it is. To rename something that records hold, add it to the tables of a new step below and
raise ``SCHEMA``: a step that has been released is not changed any more.
"""

from collections.abc import Callable, Mapping
from typing import Any

HEADER = "poisonlab.artifact"  # entry of an artifact's file that says, as JSON, what its fields are

SCHEMA = 2  # 1: records without a field ``schema``

Json = dict[str, Any]

# -- helpers for steps ----------------------------------------------------------------------------


def rename_keys(values: Mapping[str, Any], new_names: Mapping[str, str]) -> Json:
    """``values`` under new names, in their order; a new name that is there already keeps its own value."""
    renamed: Json = {}
    for name, value in values.items():
        new = new_names.get(name, name)
        if new != name and new in values:
            continue
        renamed[new] = value
    return renamed


def rename_parameters(spec: Json, kind: str, method: str, new_names: Mapping[str, str]) -> Json:
    """A spec whose ``kind`` (``attack`` ...) has other names of parameters, where it is ``method``."""
    part = spec.get(kind)
    if not isinstance(part, dict) or part.get("name") != method or not isinstance(part.get("params"), dict):
        return spec
    return spec | {kind: part | {"params": rename_keys(part["params"], new_names)}}


def rename_metrics(record: Json, new_names: Mapping[str, str]) -> Json:
    """A record whose metrics have other names, the same in its curves."""
    changed = dict(record)
    if isinstance(record.get("metrics"), dict):
        changed["metrics"] = rename_keys(record["metrics"], new_names)
    points = record.get("points")
    if isinstance(points, list) and new_names:
        changed["points"] = [_renamed_point(point, new_names) for point in points]
    return changed


def _renamed_point(point: Any, new_names: Mapping[str, str]) -> Any:
    """A point is ``[stage, name, step, value]``."""
    if isinstance(point, list) and len(point) == 4 and isinstance(point[1], str) and point[1] in new_names:
        return [point[0], new_names[point[1]], *point[2:]]
    return point


def rename_kinds(record: Json, new_names: Mapping[str, str]) -> Json:
    """A record whose artifacts are of kinds that have another name."""
    items = record.get("artifacts")
    if not isinstance(items, list) or not new_names:
        return record
    return record | {"artifacts": [_renamed_item(item, new_names) for item in items]}


def _renamed_item(item: Any, new_names: Mapping[str, str]) -> Any:
    if isinstance(item, dict) and isinstance(item.get("kind"), str):
        return item | {"kind": new_names.get(item["kind"], item["kind"])}
    return item


def drop_kinds(record: Json, gone: frozenset[str]) -> Json:
    """A record without its artifacts of kinds that do not exist any more; their files stay where they lie."""
    items = record.get("artifacts")
    if not isinstance(items, list):
        return record
    kept = [item for item in items if not (isinstance(item, dict) and item.get("kind") in gone)]
    return record | {"artifacts": kept}


# -- from schema 1 to 2: one spelling, and the field's words --------------------------------------

PARAMETERS_1 = {
    ("attack", "metapoison"): {"colour": "color", "normalise": "normalize"},
}
METRICS_1 = {
    "samples_accused": "samples_flagged",
    "samples_accused_control": "samples_flagged_control",
    "relabelled_right": "relabeled_right",
}
# The kind of threat was told by the metric of its success.
THREATS_1 = {"asr": "backdoor", "poison_success": "targeted", "accuracy_loss": "corruption"}
KINDS_1: dict[str, str] = {}
GONE_1 = frozenset({"FlaggedRows", "IsolatedRows"})  # no page showed them
FIELDS_1 = {
    "TargetGallery": {"wished": "adversarial_probability"},
    "SampleSuspicion": {
        "accused_clean": "flagged_clean",
        "accused_poisoned": "flagged_poisoned",
        "accused_control": "flagged_control",
    },
    "SettingsCurve": {"knob": "setting_name"},
    "Crafting": {"colour": "color"},
}


def spec_from_1(spec: Json) -> Json:
    for (kind, method), new_names in PARAMETERS_1.items():
        spec = rename_parameters(spec, kind, method, new_names)
    return spec


def record_from_1(record: Json) -> Json:
    if isinstance(record.get("spec"), dict):
        record = record | {"spec": spec_from_1(record["spec"])}
    record = rename_metrics(record, METRICS_1)
    record = drop_kinds(rename_kinds(record, KINDS_1), GONE_1)
    return record if "threat" in record else record | {"threat": _threat_from_1(record.get("metrics"))}


def _threat_from_1(metrics: Any) -> str | None:
    """The kind of threat that a run measured; ``None`` of a run that ended before it measured any."""
    measured = metrics if isinstance(metrics, dict) else {}
    return next((threat for name, threat in THREATS_1.items() if name in measured), None)


def artifact_from_1(kind: str, fields: Json) -> tuple[str, Json]:
    return KINDS_1.get(kind, kind), rename_keys(fields, FIELDS_1.get(kind, {}))


# step ``n`` (from 0) leads from schema ``n + 1`` to the next
RECORD_STEPS: tuple[Callable[[Json], Json], ...] = (record_from_1,)
SPEC_STEPS: tuple[Callable[[Json], Json], ...] = (spec_from_1,)
ARTIFACT_STEPS: tuple[Callable[[str, Json], tuple[str, Json]], ...] = (artifact_from_1,)

# -- asking ---------------------------------------------------------------------------------------


def migrate_record(record: Json) -> Json:
    """The values of a record under today's schema; the argument is not changed.

    A record of a newer schema comes back as it is: what of it is known here is read, the rest is left.

    Raises:
        ValueError: its schema is no whole number from 1.
    """
    schema = schema_of(record)
    for step in RECORD_STEPS[schema - 1 :]:
        record = step(record)
    return record | {"schema": max(schema, SCHEMA)}


def migrate_spec(spec: Json, schema: int = 1) -> Json:
    """The values of a spec that was kept outside a record, under today's names."""
    for step in SPEC_STEPS[schema - 1 :]:
        spec = step(spec)
    return spec


def migrate_artifact(kind: str, fields: Json, schema: int) -> tuple[str, Json]:
    """The kind and the fields (tensors among them) of an artifact, under today's names."""
    for step in ARTIFACT_STEPS[schema - 1 :]:
        kind, fields = step(kind, fields)
    return kind, fields


def schema_of(values: Mapping[str, Any]) -> int:
    """The schema that a record or the header of an artifact names; 1 where it names none.

    Raises:
        ValueError: it is no whole number from 1.
    """
    schema = values.get("schema", 1)
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise ValueError(f"schema must be a whole number from 1, not {str(schema)[:40]!r}")
    return schema
