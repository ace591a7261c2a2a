"""``results pack``: many run folders become a few files, such as those that come with the program."""

import argparse

from poisonlab.cli.terminal import FAILED, OK, one_line, say
from poisonlab.records.record import RecordError


def pack(options: argparse.Namespace) -> int:
    from poisonlab.store.pack import pack as pack_runs  # noqa: PLC0415 - the core works without a database

    without = set(options.without.read_text(encoding="utf-8").split()) if options.without else set()
    packed = pack_runs(options.source, options.target, options.more, without)
    for folder, reason in packed.refused.items():
        say(f"{folder} left out: {one_line(RecordError(reason))}")
    size = sum(file.stat().st_size for file in options.target.rglob("*") if file.is_file())
    print(
        f"{packed.runs} runs in {options.target}, {len(packed.showcase)} of them with their pictures, "
        f"{size / 1e6:.1f} MB; {len(packed.refused)} left out"
    )
    return FAILED if packed.refused else OK
