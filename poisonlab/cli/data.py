"""``data``: pictures of one's own, looked at, kept under a name, listed, removed."""

import argparse
from pathlib import Path

from poisonlab.cli.terminal import OK, UsageError, plain, say, table

SHOWN = 50  # classes


def look(options: argparse.Namespace) -> int:
    """What a folder holds, before anything is read."""
    from poisonlab.data.shared.own_folder import look as look_into  # noqa: PLC0415 - needs torch

    found = look_into(Path(options.folder).expanduser(), options.table)
    counts = found.counts()
    held = f"{len(found.train)} pictures for training, {len(found.test)} for tests"
    print(plain(f"{found.root}: {found.layout}, {held}"))
    print(table(["class", "training", "tests"], counts[:SHOWN]))
    if len(counts) > SHOWN:
        print(f"and {len(counts) - SHOWN} more classes")
    for why, number in sorted(found.skipped.items()):
        say(f"left out: {number} {why}")
    return OK


def add(options: argparse.Namespace) -> int:
    """Keep the pictures of a folder as a dataset."""
    from poisonlab.data import own  # noqa: PLC0415 - needs torch
    from poisonlab.data.shared.own_folder import look as look_into  # noqa: PLC0415 - needs torch

    if not 8 <= options.size <= 256:
        raise UsageError(f"--size must be from 8 to 256 pixels, got {options.size}")
    found = look_into(Path(options.folder).expanduser(), options.table)
    name = own.add(options.name, found, options.size, options.fit, not options.gray, options.replace)
    for why, number in sorted(found.skipped.items()):
        say(f"left out: {number} {why}")
    print(plain(f"{name}: {own.own_sets()[name].card.summary}"))
    return OK


def list_(options: argparse.Namespace) -> int:
    """The datasets of one's own."""
    from poisonlab.data import own  # noqa: PLC0415 - needs torch

    del options
    rows = [(name, made.card.summary) for name, made in own.own_sets().items()]
    print(table(["dataset", "what it holds"], rows) if rows else f"none in {own.own_folder()}")
    return OK


def remove(options: argparse.Namespace) -> int:
    """Forget a dataset of one's own."""
    from poisonlab.data import own  # noqa: PLC0415 - needs torch

    own.remove(options.name)
    return OK
