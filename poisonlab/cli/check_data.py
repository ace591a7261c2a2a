"""``check-data``: a training set that somebody brings, looked at by every detector."""

import argparse
from typing import Any

from poisonlab.cli.terminal import OK, ProgressLine, UsageError, check_target, say, table

SHOWN = 20  # images of the list
SIDES = (8, 256)


def check_data(options: argparse.Namespace) -> int:
    """Look, say what was found, write what was asked for."""
    from poisonlab.check.data import check_data as check  # noqa: PLC0415 - brings torch
    from poisonlab.check.recipe import usual  # noqa: PLC0415
    from poisonlab.check.takeaway import refuse_no_energy  # noqa: PLC0415
    from poisonlab.runner.recorder import context_at  # noqa: PLC0415

    _refuse_what_cannot_be(options)
    ctx = context_at(options.results, options.device, options.seed, ProgressLine())
    suspects, trusted = _brought(options)
    recipe = usual(suspects.data, options.preset, options.dataset or options.like or "", _settings(options))
    if options.purified is not None:
        refuse_no_energy(recipe, trusted)
    say(f"{len(suspects)} images of {len(suspects.data.classes)} classes; victim {recipe.victim}")
    found = check(
        suspects,
        recipe,
        ctx,
        trusted,
        like=options.like or options.dataset or "",
        controls=options.controls,
        share=options.share,
    )
    _tell(found)
    _write(options, found, recipe, trusted, ctx)
    return OK


def _refuse_what_cannot_be(options: argparse.Namespace) -> None:
    """Raises:
    UsageError: before anything is read or trained.
    """
    from poisonlab.check.takeaway import refuse_filled  # noqa: PLC0415 - brings torch
    from poisonlab.data.base import DataError  # noqa: PLC0415

    if not SIDES[0] <= options.size <= SIDES[1]:
        raise UsageError(f"--size must be from {SIDES[0]} to {SIDES[1]} pixels, got {options.size}")
    if not 0 < options.share <= 0.5:
        raise UsageError(f"--share must be above 0 and at most 0.5, got {options.share:g}")
    if not 0 <= options.controls <= 1000:
        raise UsageError(f"--controls must be from 0 to 1000, got {options.controls}")
    if options.csv is not None:
        check_target("--csv", options.csv)
    given = {"--filtered": options.filtered, "--purified": options.purified}
    folders = {option: folder for option, folder in given.items() if folder is not None}
    if len({folder.absolute() for folder in folders.values()}) < len(folders):
        raise UsageError("--filtered and --purified need a folder each")
    for option, folder in folders.items():
        try:
            refuse_filled(folder)
        except DataError as error:
            raise UsageError(f"{option} {error}") from None
        looked_at = [path.resolve() for path in (options.images, options.clean) if path is not None]
        if any(folder.resolve().is_relative_to(path) for path in looked_at):
            raise UsageError(
                f"{option} {folder} lies among the pictures that are looked at: name another folder"
            )


def _brought(options: argparse.Namespace) -> tuple[Any, Any]:
    """The suspects, and the trusted images or ``None``."""
    from poisonlab.check import suspects  # noqa: PLC0415 - brings torch

    if options.images is not None:
        brought = suspects.of_folder(
            options.images, options.size, table=options.table, fit=options.fit, color=not options.gray
        )
    else:
        brought = suspects.of_dataset(options.dataset, options.preset)
    trusted = None
    if options.clean is not None:
        trusted = suspects.trusted_folder(options.clean, brought.data, options.fit)
    return brought, trusted


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    return {} if options.epochs is None else {"epochs": options.epochs}


def _tell(found: Any) -> None:
    """The verdict, what each detector says, what they agree on, the first of the list."""
    from poisonlab.check.takeaway import rows  # noqa: PLC0415 - brings torch

    print(f"{found.verdict}\n")
    classes = found.suspects.data.classes
    exceeded = found.calibration.by_detector if found.calibration else {}
    evidence = [
        (e.title, None if e.target is None else classes[e.target], e.statistic, exceeded.get(e.detector))
        for e in found.evidence
    ]
    print(table(["detector", "names the class", "its number", "clean sets below"], evidence))
    for name, why in found.left_out.items():
        print(f"{name}: left out, {why}")
    if found.target is not None:
        print(f"\nSuspected target: {classes[found.target]}, named by {found.named_by} detectors")
    pairs = [(a.first, a.second, a.correlation, a.overlap) for a in found.ranking.agreements]
    print(f"\n{table(['detector', 'and', 'rank correlation', 'top in common'], pairs)}\n")
    listed = list(rows(found))
    first = [(r["rank"], _plain(r["file"]), _plain(r["class"]), r["flagged_by"]) for r in listed[:SHOWN]]
    print(table(["rank", "file", "class", "flagged by"], first))
    flagged = int(found.ranking.flagged.sum())
    print(f"{flagged} of {len(listed)} images are in the top of {found.ranking.needed} detectors or more")


def _plain(name: str) -> str:
    """A name that cannot steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in name)


def _write(options: argparse.Namespace, found: Any, recipe: Any, trusted: Any, ctx: Any) -> None:
    from poisonlab.check import takeaway  # noqa: PLC0415 - brings torch

    if options.csv is not None:
        takeaway.write_csv(found, options.csv)
        say(f"{options.csv}: every image with its scores")
    if options.filtered is not None:
        kept = takeaway.write_filtered(found, options.filtered)
        say(f"{options.filtered}: the {kept} images that are not flagged")
    if options.purified is not None:
        takeaway.write_purified(found, options.purified, recipe, trusted, ctx)
        say(f"{options.purified}: all images, purified")
