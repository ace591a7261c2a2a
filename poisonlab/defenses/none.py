"""No defense: the row every other is compared with."""

from poisonlab.defenses.base import Defense
from poisonlab.registry import Card, defense
from poisonlab.spec.config import Config


class NoDefenseConfig(Config):
    pass


@defense("none")
class NoDefense(Defense):
    """The victim trains on the poisoned set and keeps what it got."""

    Config = NoDefenseConfig
    card = Card(
        title="No defense",
        summary="The poisoned model as it comes out of training: what an attack achieves when nobody looks.",
    )
