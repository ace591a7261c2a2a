"""``results pack``: many run folders become a few files, such as those that come with the program."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from poisonlab.cli.terminal import FAILED, OK, UsageError, one_line, say
from poisonlab.records.record import RecordError, check_run_id


def pack(options: argparse.Namespace) -> int:
    from poisonlab.store.pack import pack as pack_runs  # noqa: PLC0415 - the core works without a database

    without = _ids(options.without) if options.without else []
    openers = _openers(options.open)
    packed = pack_runs(options.source, options.target, options.more, without, openers)
    for run_id in packed.absent:
        say(f"{run_id} of {options.without} is in no source")
    for folder, reason in packed.refused.items():
        say(f"{folder} left out: {one_line(RecordError(reason))}")
    size = sum(file.stat().st_size for file in options.target.rglob("*") if file.is_file())
    print(
        f"{packed.runs} runs in {options.target}, {len(packed.showcase)} of them with their pictures, "
        f"{size / 1e6:.1f} MB; {len(packed.refused)} left out"
    )
    return FAILED if packed.refused else OK


def _openers(texts: Sequence[str]) -> dict[str, str]:
    """Each ``PAGE=RUN`` as its two parts, a page once."""
    found: dict[str, str] = {}
    for text in texts:
        page, _, run_id = text.partition("=")
        if page in found:
            raise UsageError(f"--open names the page {page} twice")
        try:
            found[page] = check_run_id(run_id)
        except RecordError as error:
            raise UsageError(f"--open takes PAGE=RUN, the full id of a run; {text}: {error}") from None
    return found


def _ids(file: Path) -> list[str]:
    """The run ids that a text file lists, each once."""
    try:
        return [check_run_id(word) for word in dict.fromkeys(file.read_text(encoding="utf-8").split())]
    except (UnicodeDecodeError, RecordError) as error:
        raise UsageError(
            f"--without takes a text file of run ids with space between; {file}: {error}"
        ) from None
