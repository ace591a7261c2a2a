"""What decides a result, written down once: parameters with bounds, presets, the experiment.

The form in the browser, the command line, the JSON schema and the database row are all derived
from these classes; nothing is declared a second time.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo

from poisonlab import registry
from poisonlab.spec.shares import Shares
from poisonlab.spec.suited import presets_of

Preset = Literal["quick", "full", "paper"]
Protocol = Literal["from_scratch", "linear_transfer", "fine_tune_transfer"]
PRESETS: tuple[Preset, ...] = ("quick", "full", "paper")

MOST = 1_000_000  # of a number that states no bound of its own: no dataset here has as many images
MOST_SHOWN = 80  # characters of a refused value in a message

_UNSET: Any = object()


class Config(BaseModel):
    """Base of every configuration: immutable, no unknown fields, defaults checked like any value."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
    neutral: ClassVar[
        dict[str, Any]
    ] = {}  # parameters that came later -> the value as if they were not there

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.neutral = {
            name: field.json_schema_extra["neutral"]
            for name, field in cls.model_fields.items()
            if isinstance(field.json_schema_extra, dict) and "neutral" in field.json_schema_extra
        }

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """``true`` is 1 to Python; whoever writes it where a number belongs meant another parameter."""
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and field.annotation in (int, float):
            raise ValueError(f"must be a number, not {str(value).lower()}")
        return value

    def check_classes(self, count: int) -> None:
        """Compare the classes that parameters name with those that a dataset has.

        Args:
            count: how many classes there are, numbered from 0.

        Raises:
            ValueError: a parameter asks for another class; names the parameter by its short name.
        """
        for name in ("target_class", "source_class"):
            asked = getattr(self, name, None)
            if isinstance(asked, int) and asked >= count:
                raise ValueError(f"{name}={asked} is not among the {count} classes 0 to {count - 1}")

    @model_serializer(mode="wrap")
    def _without_what_is_neutral(self, write: SerializerFunctionWrapHandler, info: SerializationInfo) -> Any:
        """In JSON, a parameter that is not made use of is left out: the experiment is that of older records."""
        values = write(self)
        if info.mode == "json" and self.neutral:
            return {
                name: value
                for name, value in values.items()
                if name not in self.neutral or value != self.neutral[name]
            }
        return values

    @classmethod
    def for_preset(cls, preset: Preset, dataset: str) -> Self:
        """The published values for ``dataset``; under ``quick`` and ``full`` with the replacements of that preset."""
        values: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            extra = field.json_schema_extra
            if not isinstance(extra, dict):
                continue
            published: Any = extra.get("elsewhere", {})
            if dataset in published:
                values[name] = published[dataset]
            elif "published" in extra:
                values[name] = extra["published"]
            if preset in extra:
                own: Any = extra[preset]
                values[name] = own.get(dataset, own["*"]) if isinstance(own, Mapping) else own
        return cls(**values)

    def canonical(self) -> str:
        """The same JSON text for equal configurations, whatever the order they were written in."""
        return canonical_json(self.model_dump(mode="json"))


def canonical_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def digest(value: Any, length: int = 16) -> str:
    """A short hash of JSON-able ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def param(
    paper: Any,
    description: str,
    *,
    quick: Any = _UNSET,
    full: Any = _UNSET,
    elsewhere: Mapping[str, Any] | None = None,
    unit: str = "",
    source: str = "",
    neutral: Any = _UNSET,
    **bounds: Any,
) -> Any:
    """A parameter of a method: the published value, what smaller presets use instead, and why.

    Args:
        paper: the published value, used by the preset ``paper``.
        description: what the number means, in one line.
        quick: the value of the preset ``quick`` where it differs; a mapping from dataset name to
            value gives each dataset its own and needs a ``"*"`` entry for all others.
        full: the same for the preset ``full``, whose networks and images have the published sizes.
        elsewhere: dataset name -> the published value there, where it differs.
        unit: ``"1/255"``, ``"pixels"``, ``"images"``; empty for plain numbers.
        source: where the published value stands.
        neutral: of a parameter that came later: the value that stands for what was before it, and so for its absence;
            the default, whatever the published value.
        bounds: pydantic's ``ge``, ``gt``, ``le``, ``lt``. A number without an upper one is at most ``MOST``.
    """
    if isinstance(paper, int | float) and not isinstance(paper, bool) and not {"le", "lt"} & bounds.keys():
        bounds["le"] = MOST
    extra: dict[str, Any] = {"unit": unit, "source": source}
    if elsewhere:
        extra["elsewhere"] = dict(elsewhere)
    if quick is not _UNSET:
        extra["quick"] = quick
    if full is not _UNSET:
        extra["full"] = full
    if neutral is _UNSET:
        return Field(paper, description=description, json_schema_extra=extra, **bounds)
    extra |= {"neutral": neutral, "published": paper}
    return Field(neutral, description=description, json_schema_extra=extra, **bounds)


def published_value(field: FieldInfo) -> Any:
    """What the preset ``paper`` takes, on datasets for which nothing else is published."""
    extra = field.json_schema_extra
    return extra.get("published", field.default) if isinstance(extra, dict) else field.default


class Part(Config):
    """A registered class chosen by name, with its parameters."""

    kind: ClassVar[str]

    name: str = Field(description="Registered name")
    params: SerializeAsAny[Config] = Field(description="Its parameters")

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, value: Any) -> Any:
        """Turn ``{"name": ..., "params": {...}}`` into the parameter class that the name stands for."""
        if not isinstance(value, dict) or "name" not in value:
            return value
        try:
            config_class = registry.KINDS[cls.kind][value["name"]].Config
        except registry.UnknownName as error:
            raise ValueError(str(error)) from None
        params = value.get("params", {})
        if isinstance(params, BaseModel):
            params = params.model_dump()
        return {**value, "params": config_class.model_validate(params)}

    def build(self) -> Any:
        """The method itself, holding its parameters."""
        return registry.KINDS[self.kind][self.name](self.params)


class DatasetPart(Part):
    kind = "dataset"


class VictimPart(Part):
    kind = "victim"


class AttackPart(Part):
    kind = "attack"


class DefensePart(Part):
    kind = "defense"


class TrainingConfig(Config):
    """How a network is trained from a random start."""

    epochs: int = param(100, "Passes over the training set", ge=1, le=1000, source="BackdoorBench recipe")
    batch_size: int = param(128, "Images in a step", ge=2, le=4096, unit="images")
    lr: float = param(0.1, "Peak learning rate", gt=0, le=10)
    momentum: float = param(0.9, "Momentum of SGD", ge=0, lt=1)
    nesterov: bool = param(
        True, "The momentum is Nesterov's", neutral=True, source="PureGen's victims from scratch: no"
    )
    weight_decay: float = param(5e-4, "L2 weight decay on all parameters", ge=0, le=0.1)
    schedule: Literal["cosine", "one_cycle", "constant", "triangle", "steps"] = param(
        "cosine", "Learning rate over the steps"
    )
    drops: Shares = param(
        "0.5, 0.75",
        "Where a rate that falls in steps is multiplied by 0.1, as shares of the epochs",
        neutral="0.5, 0.75",
        source="PureGen, 200 epochs: at 100 and 150",
    )
    peak_at: float = param(
        0.23,
        "Share of the steps in which a triangular rate rises, from 0.2 of the peak; it falls to 0.07 of it",
        gt=0,
        lt=1,
        neutral=0.23,
        source="airbench94",
    )
    norm_bias_factor: float = param(
        1.0,
        "Learning rate of the batch norms' biases, times the others'; what decays in a step is the same",
        gt=0,
        le=1000,
        neutral=1.0,
        source="airbench94: 64",
    )
    lookahead: float = param(
        0.0,
        "Weights are drawn back to their running average, in the end with this to the fifth power; 0 for not at all",
        ge=0,
        lt=1,
        neutral=0.0,
        source="airbench94: 0.95",
    )
    label_smoothing: float = param(0.0, "Probability mass spread over all classes", ge=0, lt=1)
    crop_padding: int = param(
        4, "Random crop after padding by this much; 0 for none", ge=0, le=16, unit="pixels"
    )
    crop_fill: Literal["zeros", "reflect"] = param(
        "zeros", "What the padding before a crop holds", neutral="zeros", source="airbench94: reflect"
    )
    flip: bool = param(True, "Mirror images left to right half of the time")
    alternate_flip: bool = param(
        False,
        "An image is drawn as mirrored or not once, and is then the other in every second epoch",
        neutral=False,
        source="airbench94",
    )


class HeadConfig(Config):
    """How a linear head is trained on frozen features (protocol ``linear_transfer`` only)."""

    epochs: int = param(
        60,
        "Passes over the fine-tuning set",
        ge=1,
        le=1000,
        source="Bullseye Polytope repository, linear transfer",
    )
    batch_size: int = param(64, "Images in a step", ge=2, le=4096, unit="images")
    lr: float = param(0.1, "Adam learning rate in the first epochs", gt=0, le=10)
    drops: Shares = param(
        "0.5, 0.75",
        "Where the learning rate is multiplied by 0.1, as shares of the epochs",
        neutral="0.5, 0.75",
    )
    weight_decay: float = param(0.0, "L2 weight decay", ge=0, le=0.1)


class FineTuneConfig(Config):
    """How a whole pretrained network is trained on, under a fresh head (protocol ``fine_tune_transfer`` only)."""

    epochs: int = param(
        60, "Passes over the fine-tuning set", quick=15, ge=1, le=1000, source="PureGen, table of D.2"
    )
    batch_size: int = param(128, "Images in a step", quick=50, ge=2, le=4096, unit="images", source="PureGen")
    lr: float = param(
        1e-4,
        "Adam learning rate in the first epochs",
        quick=2e-3,
        gt=0,
        le=1,
        source="PureGen",
    )
    drops: Shares = param(
        "0.25, 0.5, 0.75",
        "Where the learning rate is multiplied by 0.1, as shares of the epochs",
        neutral="0.25, 0.5, 0.75",
        source="PureGen",
    )
    weight_decay: float = param(5e-4, "L2 weight decay on all parameters", ge=0, le=0.1, source="PureGen")
    crop_padding: int = param(
        0, "Random crop after padding by this much; 0 for none", ge=0, le=16, unit="pixels"
    )
    flip: bool = param(False, "Mirror images left to right half of the time")
    frozen_norm: bool = param(
        True,
        "Batch norm keeps the extractor's statistics, scales and shifts",
        source="Bullseye Polytope repository",
    )


class ExperimentSpec(Config):
    """Everything that decides a result. Equal specs on the same device give equal numbers."""

    dataset: DatasetPart
    victim: VictimPart
    protocol: Protocol = Field("from_scratch", description="How the victim comes to its weights")
    weights: str = Field(
        "",
        pattern="^([0-9a-f]{24})?$",
        description="Hash of weights of your own that training starts from, see --weights; empty: drawn from the seed",
        json_schema_extra={"neutral": ""},
    )
    training: TrainingConfig = TrainingConfig()
    head: HeadConfig = HeadConfig()
    fine_tune: FineTuneConfig = FineTuneConfig()
    attack: AttackPart
    defense: DefensePart
    clean_images: int = Field(
        500,
        ge=0,
        le=100_000,
        description="Trusted labeled images the defender holds; never part of the training set",
    )
    public_poison: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Stress test: share of the public images that carry the attacker's trigger, too",
    )
    seed: int = Field(
        0, ge=0, le=2**31 - 1, description="Seed of every random draw but the dataset's division"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Autocast type of training, on GPUs and on processors with instructions for it",
    )
    preset: Preset = Field("quick", description="Where the values started from; changes nothing by itself")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        protocols = registry.attack[self.attack.name].protocols
        if self.protocol not in protocols:
            raise ValueError(
                f"attack {self.attack.name!r} runs under {', '.join(protocols)}, not {self.protocol!r}"
            )
        defense = registry.defense[self.defense.name]
        uses_model = defense.repairs() or defense.overrides("detect") or defense.overrides("screen")
        if uses_model and defense.needs_clean_images and self.clean_images == 0:
            raise ValueError(
                f"defense {self.defense.name!r} learns from clean images; set clean_images to 1 or more"
            )
        if uses_model:  # whoever looks at a model is handed the trusted images, needed or not
            self._refuse_more_than_the_reserve()
        self._refuse_what_the_dataset_lacks()
        if getattr(self.defense.params, "source", "") == self.dataset.name:
            raise ValueError(
                f"source {self.dataset.name!r} is the attacked dataset, poisons included; public names its other part"
            )
        source = getattr(self.defense.params, "source", "public")
        if self.public_poison and source != "public":
            raise ValueError(
                f"public_poison={self.public_poison} puts the trigger into public images, of which source "
                f"{source!r} makes no use; set one of them"
            )
        return self

    def _refuse_more_than_the_reserve(self) -> None:
        held = getattr(self.dataset.params, "reserve_images", None)
        if held is not None and self.clean_images > held:
            raise ValueError(
                f"clean_images={self.clean_images} asks for more than the {held} images in reserve; "
                "lower clean_images or raise dataset.reserve_images"
            )

    def _refuse_what_the_dataset_lacks(self) -> None:
        """Classes and images that are not there, which a run would find out only once all are loaded."""
        chosen = self.dataset.build()
        all_classes = getattr(chosen, "class_count", None)
        if all_classes is None:
            return
        some = getattr(self.dataset.params, "classes", None)
        classes = some if isinstance(some, int) else all_classes
        try:
            self.attack.params.check_classes(classes)
        except ValueError as error:
            raise ValueError(f"attack.{error} of {self.dataset.name}") from None
        counts = getattr(chosen, "image_counts", None)
        if counts is not None:
            held = [count * classes // all_classes for count in counts]
            division: Any = self.dataset.params
            division.check_images(*held, self.protocol)

    def group(self) -> str:
        """Hash of everything but the seed: runs with the same group are repeats of one experiment."""
        return group_of(self.model_dump(mode="json"))

    def idle(self) -> set[str]:
        """Parts that this experiment makes no use of, whatever they say; older records lack them."""
        return idle_parts(self.model_dump(mode="json"))


def idle_parts(spec: Mapping[str, Any]) -> set[str]:
    """Parts of a spec in JSON form that its experiment makes no use of, whatever they say."""
    unused = {
        "fine_tune": spec.get("protocol") != "fine_tune_transfer",
        "public_poison": not spec.get("public_poison"),
    }
    return {part for part, idle in unused.items() if idle}


def _check_given(preset: object, victim: object, overrides: object) -> None:
    """Raises:
    SpecError: an argument of another type than :func:`make_spec` takes, as a program may hand over.
    """
    if preset not in PRESETS:
        raise SpecError(f"preset: {shortened(str(preset))} is not one of {', '.join(PRESETS)}")
    if not isinstance(victim, str | None):
        raise SpecError(f"victim: takes a name, not {type(victim).__name__}")
    if not isinstance(overrides, Mapping) or not all(isinstance(key, str) for key in overrides):
        raise SpecError("overrides: takes values by dotted names, such as {'attack.poison_rate': 0.05}")


def group_of(spec: Mapping[str, Any]) -> str:
    """Hash of a spec in JSON form without its seed: runs with the same group are repeats of one experiment."""
    left_out = {"seed", "preset"} | idle_parts(spec)
    return digest({name: value for name, value in spec.items() if name not in left_out})


def make_spec(
    dataset: str,
    attack: str,
    defense: str,
    *,
    preset: Preset = "quick",
    seed: int = 0,
    victim: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> ExperimentSpec:
    """The spec of a preset, with single values replaced.

    Args:
        victim: its name; ``timm:NAME`` and ``torchvision:NAME`` name a network of that library.
        overrides: dotted name -> value, such as ``{"attack.poison_rate": 0.05, "training.epochs": 3}``.
            ``attack``, ``defense``, ``dataset`` and ``victim`` name the method's own parameters.

    Raises:
        UnknownName: a method that is not registered.
        SpecError: a parameter that does not exist or a value out of range; says what is allowed.
    """
    overrides = overrides or {}
    _check_given(preset, victim, overrides)
    attack_class = registry.attack[attack]

    def part(kind: str, name: str) -> dict[str, Any]:
        config = registry.KINDS[kind][name].Config.for_preset(preset, dataset)
        return {"name": name, "params": config.model_dump()}

    pictures, defaults = _dataset(part("dataset", dataset), preset, overrides)
    kind, _, model = (victim or str(defaults["victim"])).partition(":")
    if model:
        overrides = {"victim.model": model, **overrides}
    protocol = overrides.get("protocol", attack_class.protocols[0])
    recipe = attack_class.recipe if protocol == "from_scratch" else "extractor"
    values: dict[str, Any] = {
        "dataset": pictures,
        "victim": part("victim", kind),
        "attack": part("attack", attack),
        "defense": part("defense", defense),
        "protocol": protocol,
        "training": TrainingConfig(**defaults.get(recipe, defaults["training"])).model_dump(),
        "head": HeadConfig(**defaults["head"]).model_dump(),
        "fine_tune": FineTuneConfig.for_preset(preset, dataset).model_dump(),
        "clean_images": defaults["clean_images"],
        "precision": defaults.get("precision", "float32"),
        "weights": "",
        "public_poison": 0.0,
        "preset": preset,
        "seed": seed,
    }
    for key, value in overrides.items():
        _replace(values, key, value)
    try:
        return ExperimentSpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(explain(error)) from None


_NEEDED = ("victim", "training", "head", "clean_images")  # of a preset


def preset_of(dataset_class: Any, preset: str) -> dict[str, Any]:
    """Victim and recipe of a preset of a dataset; what it does not say follows from its size."""
    own: dict[str, Any] | None = getattr(dataset_class, "presets", {}).get(preset)
    if own is not None and own.keys() >= set(_NEEDED):
        return own
    config = dataset_class.Config.for_preset(preset, dataset_class.name)
    suited = presets_of(getattr(config, "train_images", 1_000), getattr(config, "size", 32))[preset]
    return suited if own is None else {name: suited[name] for name in _NEEDED} | own


def usual_victim(dataset: str, preset: str) -> str:
    """The network that a preset takes on a dataset."""
    return str(preset_of(registry.dataset[dataset], preset)["victim"])


def _dataset(
    part: dict[str, Any], preset: Preset, overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The dataset's part of a spec, and its presets; one that has to be looked at first says what suits it."""
    dataset_class = registry.dataset[part["name"]]
    suited = getattr(dataset_class, "suited", None)
    if suited is None:
        return part, preset_of(dataset_class, preset)
    values = part["params"]
    given = {key.removeprefix("dataset."): v for key, v in overrides.items() if key.startswith("dataset.")}
    values |= {name: value for name, value in given.items() if name in values}
    try:
        dataset_class.Config.model_validate(values)
        defaults: dict[str, Any] = suited(values, set(given), preset)
    except ValidationError as error:
        raise SpecError(f"dataset.{explain(error)}") from None
    except RuntimeError as error:  # DataError, which this room does not know
        raise SpecError(f"dataset {part['name']}: {error}") from None
    return part, defaults


class SpecError(ValueError):
    """A spec that cannot be: the one-line message names the field and what is allowed."""


def _replace(values: dict[str, Any], key: str, value: Any) -> None:
    head, _, name = key.partition(".")
    if not name:
        allowed = [k for k, v in values.items() if not isinstance(v, dict)]
        if head not in allowed:
            raise SpecError(
                f"unknown parameter {shortened(key)}; choose one of: {', '.join(allowed)}, or part.param"
            )
        values[head] = value
        return
    parts = {k: v for k, v in values.items() if isinstance(v, dict)}
    if head not in parts:
        raise SpecError(
            f"unknown part {shortened(head)} in {shortened(key)}; choose one of: {', '.join(parts)}"
        )
    target = parts[head].get("params", parts[head])
    if name not in target:
        choices = ", ".join(f"{head}.{n}" for n in target) or f"none: {head} has no parameters"
        raise SpecError(f"unknown parameter {shortened(key)}; choose one of: {choices}")
    target[name] = value


def explain(error: ValidationError) -> str:
    """Pydantic's findings in one line: ``attack.poison_rate: Input should be ... (got 2)``."""
    findings = []
    for item in error.errors():
        place = ".".join(str(p) for p in item["loc"] if p != "params") or "spec"
        got = item["input"]
        shown = f" (got {shortened(got)})" if isinstance(got, str | int | float | bool | None) else ""
        findings.append(f"{place}: {item['msg'].removeprefix('Value error, ')}{shown}")
    return "; ".join(findings)


def shortened(value: Any) -> str:
    """A value as a message shows it: whole where that is short, else its beginning and its end."""
    text = repr(value)
    half = MOST_SHOWN // 2
    return text if len(text) <= MOST_SHOWN else f"{text[:half]}...{text[-half:]}"
