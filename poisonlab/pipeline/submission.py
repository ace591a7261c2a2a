"""A finished run as the members of a submission, and back: its record, its settings, its networks."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes

from poisonlab import registry
from poisonlab.measure.recorded import check_ranges
from poisonlab.models.shared.weights_file import WeightsError
from poisonlab.pipeline.reopen import Opened
from poisonlab.pipeline.weights import load_victims
from poisonlab.records.record import RECORD, ModelName, RecordError, RunRecord, parse_record
from poisonlab.records.recorded_spec import NotRunnable
from poisonlab.records.submission import MODELS, SETTINGS, SubmissionError, weights_member
from poisonlab.spec.config import ExperimentSpec, explain
from poisonlab.training.victims import Victims

LEFT_OUT: dict[str, list[Any]] = {"artifacts": [], "logs": []}  # pictures, and lines that may name a machine
Side = Annotated[int, Field(ge=1, le=4096)]


class Networks(BaseModel):
    """Where the weights of the victims lie, and how many trials each of them serves."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    weights: ModelName
    shared_by: Annotated[int, Field(ge=1, le=10_000)] = 1


class Settings(BaseModel):
    """What the networks need beside the record: ``image`` is ``(c, h, w)``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image: Annotated[list[Side], Field(min_length=3, max_length=3)]
    classes: Annotated[int, Field(ge=2, le=10_000)]
    control: Networks
    undefended: Networks
    defended: Networks


@dataclass(frozen=True)
class Submitted:
    """What a submission claims, checked but not measured.

    Attributes:
        spec: of the record, as an experiment of today.
        victims: ``control``, ``undefended`` and ``defended``, on the CPU; one object for two that are the same.
    """

    record: RunRecord
    spec: ExperimentSpec
    settings: Settings
    victims: dict[str, Victims]


def members_of(values: dict[str, Any], opened: Opened) -> dict[str, bytes]:
    """The members of a submission.

    Args:
        values: the record as it was written.
    """
    members = {RECORD: _json(values | LEFT_OUT)}
    train = opened.attacked.splits.train
    settings: dict[str, Any] = {"image": list(train.shape), "classes": len(train.classes)}
    written: dict[
        int, str
    ] = {}  # by the object: where a defense changes no model, the defended are the undefended
    for model, victims in opened.victims.items():
        if id(victims) not in written:
            written[id(victims)] = model
            members[weights_member(model)] = _weights(victims)
        settings[model] = {"weights": written[id(victims)], "shared_by": victims.shared_by}
    members[SETTINGS] = _json(Settings.model_validate(settings).model_dump())
    return members


def submitted(members: dict[str, bytes]) -> Submitted:
    """What the members of a submission claim.

    Raises:
        SubmissionError: a member does not hold what it must, or networks are not those of the spec; names it. A dataset
            by its path.
    """
    record = _record(members[RECORD])
    if record.state != "done":
        raise SubmissionError(
            f"{RECORD} is that of a run that {record.state}; only finished ones are submitted"
        )
    _refuse_paths(record)
    try:
        spec = record.spec.experiment()
    except NotRunnable as error:
        raise SubmissionError(f"{RECORD} cannot be measured here: {error}") from None
    try:
        settings = Settings.model_validate_json(members[SETTINGS])
    except ValidationError as error:
        raise SubmissionError(f"{SETTINGS} is not valid: {explain(error)[:300]}") from None
    _refuse_contradictions(record, spec, settings)
    return Submitted(record, spec, settings, _victims(members, spec, settings))


def _refuse_paths(record: RunRecord) -> None:
    """Before anything looks at the spec: a dataset that is a folder would be any folder of this machine."""
    name = record.spec.dataset.name
    if name in registry.dataset and getattr(registry.dataset[name], "by_path", False):
        raise SubmissionError(
            f"{RECORD} names a folder of another machine as its dataset ({name}); only datasets that have a name can "
            "be measured again"
        )


def _refuse_contradictions(record: RunRecord, spec: ExperimentSpec, settings: Settings) -> None:
    """What the methods themselves rule out: another kind of threat, and a network that nothing could have changed."""
    attack = registry.attack[spec.attack.name]
    if record.threat != attack.threat_kind():
        raise SubmissionError(
            f"{RECORD}: the threat of {spec.attack.name!r} is not {record.threat or 'none'!r}"
        )
    if not attack.poisons and settings.undefended != settings.control:
        raise SubmissionError(
            f"{SETTINGS}: attack {spec.attack.name!r} poisons nothing, so the undefended victims are the control"
        )
    if not registry.defense[spec.defense.name].changes_victims() and settings.defended != settings.undefended:
        raise SubmissionError(
            f"{SETTINGS}: defense {spec.defense.name!r} changes no victim, so the defended are the undefended"
        )


def _record(raw: bytes) -> RunRecord:
    try:
        values = json.loads(raw)
        if not isinstance(values, dict):
            raise RecordError("it must be an object")
        record = parse_record(values, RECORD)
        check_ranges(record)
    except RecursionError:
        raise SubmissionError(f"{RECORD} is nested too deeply") from None
    except ValueError as error:
        raise SubmissionError(f"{RECORD} is not a valid record: {str(error)[:300]}") from None
    return record


def _victims(members: dict[str, bytes], spec: ExperimentSpec, settings: Settings) -> dict[str, Victims]:
    networks = {"control": settings.control, "undefended": settings.undefended, "defended": settings.defended}
    used = {weights_member(network.weights) for network in networks.values()}
    idle = [weights_member(model) for model in MODELS if weights_member(model) in members.keys() - used]
    if idle:
        raise SubmissionError(f"{idle[0]} is not used by {SETTINGS}")
    loaded: dict[Networks, Victims] = {}
    for network in networks.values():
        if network not in loaded:
            victims = _load(weights_member(network.weights), members, spec, settings)
            loaded[network] = victims.serving(victims.members * network.shared_by)
    return {model: loaded[network] for model, network in networks.items()}


def _load(name: str, members: dict[str, bytes], spec: ExperimentSpec, settings: Settings) -> Victims:
    if name not in members:
        raise SubmissionError(f"{name} is missing; {SETTINGS} names it")
    c, h, w = settings.image
    try:
        return load_victims(spec.victim, (c, h, w), settings.classes, load_bytes(members[name]))
    except WeightsError as error:
        raise SubmissionError(f"{name}: {error}") from None
    except (SafetensorError, ValueError, KeyError, OverflowError, TypeError) as error:
        raise SubmissionError(f"{name} is no safetensors file: {str(error)[:200]}") from None


def _weights(victims: Victims) -> bytes:
    return save_bytes({name: t.detach().cpu().contiguous() for name, t in victims.tensors().items()})


def _json(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
