"""Fine-tuning without the flagged images: the plain way to forget harmful data."""

from poisonlab.context import Context
from poisonlab.defenses.base import Defense, Repair
from poisonlab.defenses.shared.ewc import HOLDS_SUSPECTS, flag, influence
from poisonlab.defenses.shared.suspects import SuspectsConfig, kept_out, tuned, without
from poisonlab.models.base import Classifier
from poisonlab.registry import Card, defense
from poisonlab.spec.config import param
from poisonlab.spec.papers import REPAIR
from poisonlab.types import Findings, ImageSet, joined


class FinetuneWithoutConfig(SuspectsConfig):
    with_clean: bool = param(False, "Fine-tune on the trusted images as well", source="ours")


@defense("finetune_without")
class FinetuneWithout(Defense):
    """Fine-tuning of the given weights on D minus C, C being the images with the highest EWC influence."""

    Config = FinetuneWithoutConfig
    card = Card(
        title="Fine-tuning without suspects",
        references=(REPAIR.cited("reference treatment of"),),
        summary="Flag the images that speak against trusted ones, leave them out, and train on. Good when the right "
        "ones were flagged; every wrongly flagged image is lost.",
        threat_model=HOLDS_SUSPECTS,
        deviations=("SGD by the recipe of the other repairs here; the paper uses Adam and stops early.",),
    )

    def repair_with_suspects(
        self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context
    ) -> Repair:
        scores = influence(model, clean, suspects, self.config, ctx)
        rows = flag(scores, self.config)
        flags = kept_out(scores, rows, ctx)
        kept = without(suspects, rows)
        if self.config.with_clean:
            kept = joined(kept, clean)
        return Repair(tuned(model, kept, self.config, ctx), Findings(flags=flags))
