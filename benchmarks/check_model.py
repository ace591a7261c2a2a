"""How often a check of a network is right: attacked networks and clean ones, none of which it has seen.

    python benchmarks/check_model.py --dataset digits --attacks badnets,blend,wanet --seeds 0,1,2 --clean 10

Prints a row for each network: whether it stands out among the nineteen clean networks that are trained for the
comparison, by which detector, and whether the most suspected class is the attacker's. Stages are kept in the results
folder.
"""

import argparse
import time
from collections.abc import Iterator

import poisonlab
from poisonlab.cache.stage_cache import StageCache
from poisonlab.check import model
from poisonlab.context import Context
from poisonlab.models.base import Classifier
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.pipeline.reopen import reopen
from poisonlab.spec.config import make_spec
from poisonlab.types import Backdoor


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--attacks", default="badnets,blend,wanet,sig,trojan_square")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--target", type=int, help="the attacker's class; the preset's own by default")
    parser.add_argument("--clean", type=int, default=10, help="clean networks under suspicion")
    options = parser.parse_args()

    ctx = Context(cache=StageCache(poisonlab.results_folder() / "cache"))
    spec = make_spec(options.dataset, "none", "none")
    splits = model.opened(spec, ctx)
    accused: dict[str, list[bool]] = {}
    print("attack\tseed\taccuracy\tasr\tstands out\texceeds\tby\ttarget\tsuspects\tseconds")
    for attack, seed, network, asr, target in _suspects(options, ctx):
        begun = time.perf_counter()
        brought = model.bring(spec, network.state_dict(), splits, ctx)
        found = model.check_model(spec, brought, splits, ctx)
        place = found.calibration
        accused.setdefault(attack, []).append(place.stands_out)
        suspects = {finding.detector: finding.suspect for finding in found.findings}
        row = (
            attack,
            seed,
            f"{found.accuracy:.3f}",
            asr,
            place.stands_out,
            place.exceeds,
            place.most,
            target,
        )
        print(*row, suspects, round(time.perf_counter() - begun), sep="\t", flush=True)
    for attack, each in accused.items():
        print(f"{attack}: {sum(each)} of {len(each)} stand out")


def _suspects(
    options: argparse.Namespace, ctx: Context
) -> Iterator[tuple[str, int, Classifier, str, int | None]]:
    """Attack, seed, network, success of the attack, its class."""
    values = {} if options.target is None else {"attack.target_class": options.target}
    runs = [(attack, int(seed)) for attack in options.attacks.split(",") for seed in options.seeds.split(",")]
    for attack, seed in runs:
        spec = make_spec(options.dataset, attack, "none", seed=seed, overrides=values)
        rates = run_experiment(spec, ctx).metrics
        opened = reopen(spec, poisonlab.results_folder() / "cache")
        threat = opened.attacked.threat
        target = threat.target_class if isinstance(threat, Backdoor) else None
        yield attack, seed, opened.attacked.undefended.member(0), f"{rates['asr_undefended']:.3f}", target
    for seed in range(100, 100 + options.clean):
        spec = make_spec(options.dataset, "none", "none", seed=seed)
        run_experiment(spec, ctx)
        opened = reopen(spec, poisonlab.results_folder() / "cache")
        yield "none", seed, opened.attacked.control.member(0), "-", None


if __name__ == "__main__":
    main()
