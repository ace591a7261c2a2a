"""Train the networks of the zoo and put them into the repository:

    python -m poisonlab.zoo.ship --dataset digits

Stages that the results folder keeps are not computed again.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator

import poisonlab
from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context
from poisonlab.events import Event, StageFinished
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.pipeline.reopen import Opened, reopen
from poisonlab.pipeline.takeout import about_network, network_file
from poisonlab.records.record import write_atomically
from poisonlab.spec.config import ExperimentSpec, make_spec
from poisonlab.zoo import BETWEEN, FOLDER, SUFFIX, SUMS

ATTACKS = ("badnets", "blend", "sig", "wanet", "trojan_square")
REPAIRS = ("anp", "ft_sam")
CONTROLS = (0, 1, 2)  # seeds
SUFFIXES = {"control": "_control", "undefended": "_undefended", "defended": ""}  # of metrics


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True)
    dataset = parser.parse_args().dataset
    for spec, models in wanted(dataset):
        ship(spec, models)
    write_atomically(FOLDER / SUMS, sums().encode())


def wanted(dataset: str) -> Iterator[tuple[ExperimentSpec, tuple[str, ...]]]:
    """The experiments, and which of their networks are kept."""
    for seed in CONTROLS:
        yield make_spec(dataset, "badnets", "none", seed=seed), ("control",)
    for attack in ATTACKS:
        yield make_spec(dataset, attack, "none"), ("undefended",)
        for defense in REPAIRS:
            yield make_spec(dataset, attack, defense), ("defended",)


def ship(spec: ExperimentSpec, models: tuple[str, ...]) -> None:
    """Run an experiment and keep some of its networks."""
    cache = poisonlab.results_folder() / "cache"
    measured = run_experiment(spec, Context(cache=StageCache(cache), send=_print)).metrics
    opened = reopen(spec, cache)
    for model in models:
        rates = {key: measured.get(f"{key}{SUFFIXES[model]}") for key in ("clean_accuracy", "asr")}
        write_atomically(FOLDER / file_of(spec, model), told(opened, model, rates))
        print(file_of(spec, model), rates, flush=True)


def told(opened: Opened, model: str, rates: dict[str, float | None]) -> bytes:
    """One network of a run with all that is told about it."""
    network = opened.victims[model].member(0)
    spec = opened.spec
    about = about_network(opened, model, network, "") | {
        "attack": "none" if model == "control" else spec.attack.name,
        "defense": spec.defense.name if model == "defended" else "none",
        "spec": spec.model_dump_json(),
        "rates": json.dumps(rates | {"seed": spec.seed}),
    }
    return network_file(network, about)


def file_of(spec: ExperimentSpec, model: str) -> str:
    what = "control" if model == "control" else spec.attack.name
    repaired = f"-{spec.defense.name}" if model == "defended" else ""
    return BETWEEN.join((spec.dataset.name, spec.victim.name, f"{what}-{spec.seed}{repaired}{SUFFIX}"))


def sums() -> str:
    """What ``sha256sum`` writes of the networks in the folder."""
    files = sorted(FOLDER.glob(f"*{SUFFIX}"))
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)


def _print(event: Event) -> None:
    if isinstance(event, StageFinished) and not event.cached:
        print(f"  {event.stage}: {event.seconds:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
