"""What can be said about an engine, each value checked before anything is started."""

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from poisonlab.runner.parts import EngineError

# variables that name the dashboard's engine, and its options, each ``name=value``, separated by spaces
ENGINE = "POISONLAB_ENGINE"
ENGINE_OPTIONS = "POISONLAB_ENGINE_OPTIONS"

EngineName = Literal["local", "ray", "slurm"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    workers: int = Field(0, ge=0, le=4096, description="jobs at once; 0 for as many as there is room for")


class LocalOptions(_Options):
    """This machine. One worker a device runs in the program itself, more in processes of their own."""


class RayOptions(_Options):
    """A Ray cluster, by default one that is started on this machine for this program alone."""

    address: str = Field("", max_length=200, description="of a cluster, such as 10.0.0.1:6379 or auto")
    cpus: float = Field(1.0, ge=0, le=1024, description="processor cores of one job")
    gpus: float = Field(
        1.0, ge=0, le=64, description="GPUs of one job where there are any; .5 lets two share one"
    )


class SlurmOptions(_Options):
    """Jobs of Slurm, each of which carries out many runs."""

    workers: int = Field(4, ge=1, le=4096, description="jobs of Slurm at once")
    cluster: Literal["", "slurm", "local"] = Field("", description="local tries it without Slurm")
    partition: str = Field("", max_length=100, pattern=r"^[\w.,-]*$")
    account: str = Field("", max_length=100, pattern=r"^[\w.-]*$")
    minutes: int = Field(240, ge=1, le=100_000, description="after which Slurm ends a worker")
    cpus: int = Field(4, ge=1, le=1024, description="processor cores of a worker")
    gpus: int = Field(1, ge=0, le=1, description="GPUs of a worker")
    memory_gb: int = Field(0, ge=0, le=100_000, description="memory of a worker; 0 for the site's own value")


OPTIONS: dict[EngineName, type[_Options]] = {"local": LocalOptions, "ray": RayOptions, "slurm": SlurmOptions}


def parse_options(engine: str, settings: list[str]) -> _Options:
    """The options of an engine from ``name=value`` each.

    Raises:
        EngineError: another engine, an option that it has not, or a value out of range.
    """
    if engine not in OPTIONS:
        raise EngineError(f"unknown engine {engine!r}; choose one of: {', '.join(ENGINES)}")
    kind = OPTIONS[engine]
    given: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in kind.model_fields:
            raise EngineError(
                f"engine {engine} has no option {setting!r}; it takes {', '.join(kind.model_fields)}, each as "
                "name=value"
            )
        given[name] = value
    try:
        return kind(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise EngineError(
            f"option {name} of engine {engine}: {first['msg']} (got {first['input']!r})"
        ) from None
