"""No attack: the cost of a defense on a model without a backdoor."""

import torch

from poisonlab.attacks.badnets import BadNets, BadNetsConfig
from poisonlab.attacks.base import Attack, AttackerView, check_target
from poisonlab.context import Context
from poisonlab.registry import Card, attack
from poisonlab.spec.config import Config, param
from poisonlab.types import Backdoor, Poison


class NoAttackConfig(Config):
    target_class: int = param(0, "Class whose share among the answers to stamped images is measured", ge=0)


@attack("none")
class NoAttack(Attack):
    """The clean model through the same protocol. Its ASR is measured with BadNets' patch, unseen in training."""

    Config = NoAttackConfig
    recipe = BadNets.recipe  # the clean model beside the backdoored ones
    poisons = False
    card = Card(
        title="No attack",
        summary="Nothing is poisoned. What a defense costs here it costs everybody who defends a model that was "
        "never attacked; a detector that speaks up here is wrong.",
        threat_model="Nobody attacks.",
    )

    def poison(self, view: AttackerView, ctx: Context) -> Poison:
        check_target(self.config.target_class, len(view.train.classes))
        nothing = torch.zeros(0, dtype=torch.int64, device=view.train.y.device)
        chosen = view.train[nothing]
        return Poison(nothing[None], chosen.x[None], chosen.y[None])

    def threat(self, poison: Poison, classes: int) -> Backdoor:
        return BadNets(BadNetsConfig(target_class=self.config.target_class)).threat(poison, classes)
