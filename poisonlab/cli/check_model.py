"""``check-model``: a network that somebody brings, without any attack of ours."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from poisonlab.cli.terminal import OK, ProgressLine, UsageError, check_target, say, table
from poisonlab.records.record import write_atomically
from poisonlab.spec.overrides import parse_settings

if TYPE_CHECKING:
    from poisonlab.check.model import ModelCheck

CAUTION = (
    "A network that does not stand out may still hold a backdoor: the detectors find small triggers that many images "
    "share, and attacks made against them escape. The clean networks were trained here, on the images given; one "
    "trained on others may differ from them without any backdoor."
)


def check_model(options: argparse.Namespace) -> int:
    from poisonlab.check import model  # noqa: PLC0415 - brings torch
    from poisonlab.models.shared.weights_file import WeightsError  # noqa: PLC0415 - the same
    from poisonlab.runner.recorder import context_at  # noqa: PLC0415 - the same

    if bool(options.repair) != bool(options.to):
        raise UsageError("--repair DEFENSE and --to FILE go together")
    if options.to:
        check_target("--to", options.to)
    spec = model.spec_of(
        options.victim,
        images=options.images,
        dataset=options.dataset,
        size=options.size,
        preset=options.preset,
        repair=options.repair,
        overrides=parse_settings(options.set),
    )
    if options.repair:
        model.refuse_no_repair(spec)
    ctx = context_at(options.results, options.device, send=ProgressLine())
    weights = options.weights.expanduser()
    try:
        checked, splits = model.check_file(spec, weights, ctx, options.normalization, options.clean_networks)
    except WeightsError as error:
        raise UsageError(str(error)) from None
    print(json.dumps(_plain(checked)) if options.json else _told(checked))
    if options.repair:
        try:
            network = model.repaired(spec, checked.brought, splits, ctx)
        except ValueError as error:  # the defense cannot do with this network
            raise UsageError(f"--repair: {error}") from None
        write_atomically(options.to, model.as_file(network, spec, splits.test))
        say(f"repaired by {options.repair}: {model.right(network, splits.test):.4f} right, in {options.to}")
    return OK


def _told(checked: "ModelCheck") -> str:
    brought = checked.brought
    tried = ", ".join(f"{name} {rate:.4f}" for name, rate in brought.accuracies.items())
    clean = checked.clean_accuracies
    lines = [
        f"layers found by {brought.by}; normalization {brought.normalization} (right on trusted images: {tried})",
        f"accuracy {checked.accuracy:.4f}; {len(clean)} clean networks trained here "
        + (f"{min(clean):.4f} to {max(clean):.4f}" if clean else ""),
        "",
        table(
            ("detector", "suspected class", "score", "clean, least", "clean, median", "clean, most"),
            [_row(finding, checked.classes) for finding in checked.findings],
        ),
        "",
        checked.verdict,
        CAUTION,
    ]
    return "\n".join(lines)


def _row(finding: Any, classes: tuple[str, ...]) -> list[Any]:
    clean = sorted(finding.clean)
    spread = [clean[0], clean[len(clean) // 2], clean[-1]] if clean else [None, None, None]
    return [finding.detector, classes[finding.suspect], finding.value, *spread]


def _plain(checked: "ModelCheck") -> dict[str, Any]:
    """What ``--json`` prints."""
    place = checked.calibration
    return {
        "accuracy": checked.accuracy,
        "normalization": checked.brought.normalization,
        "layers_by": checked.brought.by,
        "clean_accuracies": checked.clean_accuracies,
        "detectors": {
            finding.detector: {
                "suspected_class": finding.suspect,
                "score": finding.value,
                "class_scores": finding.found.class_scores.tolist(),
                "clean": finding.clean,
            }
            for finding in checked.findings
        },
        "stands_out": place.stands_out if place.can_accuse else None,
        "false_alarm_rate": place.false_alarm_rate,
        "most": place.most,
        "verdict": checked.verdict,
    }
