"""``zoo``: networks that come with the program."""

import argparse

from poisonlab import zoo
from poisonlab.cli.terminal import OK, UsageError, check_target, table
from poisonlab.records.record import write_atomically


def list_(options: argparse.Namespace) -> int:
    """What there is."""
    del options
    rows = []
    for name in zoo.names():
        told = zoo.about(name)
        rows.append((name, told["model"], told["clean_accuracy"], told["asr"]))
    print(table(("network", "model", "clean accuracy", "success of the attack"), rows))
    return OK


def load(options: argparse.Namespace) -> int:
    """Put a network's file where somebody wants it."""
    check_target("--to", options.to)
    try:
        told = zoo.about(options.name)
    except zoo.NotInZoo as error:
        raise UsageError(str(error)) from None
    raw = zoo.path_of(options.name).read_bytes()
    write_atomically(options.to, raw)
    what = f"{told['architecture']} of {told['dataset']}, {told['clean_accuracy']:.4f} right"
    print(f"{options.to}: {what}, {len(raw):,} bytes")
    return OK
