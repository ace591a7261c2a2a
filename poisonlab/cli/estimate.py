"""What a command will take, said before it begins."""

import logging
from collections.abc import Sequence
from pathlib import Path

from poisonlab import machine
from poisonlab.cli.terminal import say
from poisonlab.spec.config import ExperimentSpec

log = logging.getLogger(__name__)


def say_estimate(specs: Sequence[ExperimentSpec], results: Path, device: str, *, cache: bool) -> None:
    """A line such as ``about 12 min 5 s: Undefended victim 4 min 2 s, ...``; none where the database is out of reach.

    Args:
        cache: whether the runs use the cache of stages.
    """
    try:
        said = _estimate(specs, results, machine.resolve_device(device).type, cache)
    except ImportError:  # a bare GPU node has no database
        return
    except (
        Exception
    ) as error:  # the dashboard holds the database, most likely; no run is lost over an estimate
        log.debug("no estimate: %s", error)
        return
    say(said)


def _estimate(specs: Sequence[ExperimentSpec], results: Path, device_type: str, cache: bool) -> str:
    from poisonlab.runner import cost  # noqa: PLC0415 - brings pandas and a database
    from poisonlab.store import Store  # noqa: PLC0415 - the same

    store = Store(results)
    try:
        expected = cost.of(store, specs, device_type, cache=cache)
    finally:
        store.close()
    parts = cost.longest(expected)
    about = "about " if expected.seconds >= 1 else "time "
    time = f"{about}{cost.time(expected)}"
    return " ".join([f"{time}: {parts}." if parts else f"{time}.", *cost.origin(expected)])
