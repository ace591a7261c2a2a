"""What passes between the program and its workers, as plain as it is sent. Nothing is imported: it is everywhere."""

from collections import defaultdict
from typing import Any

# what a job can be told
GO_ON = ""
CANCEL = "cancel"
LATE = "late"  # its time is over
STOP = "stop"

Row = list[Any]  # an event: its class's name and its fields


class Post:
    """An actor: keeps what jobs said until the program asks, and what they are told."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Row]] = defaultdict(list)
        self._told: dict[str, str] = {}

    def post(self, key: str, rows: list[Row]) -> str:
        """Said by an attempt; what it is told."""
        self._rows[key] += rows
        return self._told.get(key, GO_ON)

    def take(self, key: str) -> list[Row]:
        """What an attempt said since last asked."""
        return self._rows.pop(key, [])

    def tell(self, key: str, word: str) -> None:
        self._told[key] = word
