"""The command line of an experiment."""

import shlex

from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.spec.overrides import changed, write_setting

PROGRAM = "python -m poisonlab"


def run_command(spec: ExperimentSpec) -> str:
    """``python -m poisonlab run ...`` with only those ``--set`` that matter."""
    parts = [PROGRAM, "run"]
    for kind in ("dataset", "attack", "defense"):
        parts += [f"--{kind}", shlex.quote(getattr(spec, kind).name)]
    parts += ["--preset", spec.preset, "--seed", str(spec.seed)]
    usual = make_spec(spec.dataset.name, spec.attack.name, spec.defense.name, preset=spec.preset).victim.name
    if spec.victim.name != usual:
        parts += ["--victim", shlex.quote(spec.victim.name)]
    for name, value in changed(spec).items():
        parts += ["--set", shlex.quote(write_setting(name, value))]
    return " ".join(parts)
