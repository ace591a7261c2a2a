"""EWC influence as a detector: which training images speak against trusted ones."""

import torch

from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.defenses.shared.ewc import HOLDS_SUSPECTS, InfluenceConfig, flag, influence
from poisonlab.defenses.shared.sample_scores import anomaly_index, flagged_shares
from poisonlab.models.base import Classifier
from poisonlab.registry import Card, defense
from poisonlab.spec.config import param
from poisonlab.spec.papers import REPAIR
from poisonlab.types import Detection, ImageSet


class EWCInfluenceConfig(InfluenceConfig):
    anomaly: float = param(
        3.0,
        "Anomaly index of a class's share of flagged images above which it is named",
        ge=0,
        le=100,
        source="ours",
    )
    least_spread: float = param(
        0.1, "The shares are taken to be spread by this much at least", ge=0, le=1, source="ours"
    )


@defense("ewc_influence")
class EWCInfluence(Defense):
    """Scores r_S of all training images; flagged are those with the highest.

    A class is named when far more of the images labeled so are flagged than of other classes: with a dirty-label
    backdoor that is the target.
    """

    Config = EWCInfluenceConfig
    card = Card(
        title="EWC influence",
        references=(REPAIR,),
        summary="Let the model learn a little from trusted images, tied to its old weights. Training images that it "
        "then understands less are at odds with what is known to be right.",
        threat_model=HOLDS_SUSPECTS,
        deviations=(
            "The trusted images take the place of the paper's failures of the model.",
            "The paper scores images only; naming a class is ours.",
            "Batch norm stays as it is. The preset quick averages the Fisher information over 1,000 images.",
        ),
    )

    def detect(self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context) -> Detection:
        cfg = self.config
        scores = influence(model, clean, suspects, cfg, ctx)
        flagged = torch.zeros_like(suspects.y, dtype=torch.bool)
        flagged[flag(scores, cfg)] = True
        index = anomaly_index(-flagged_shares(flagged, suspects), cfg.least_spread)
        target = int(index.argmax()) if bool((index > cfg.anomaly).any()) else None
        return Detection(
            target is not None,
            target,
            "anomaly index of the share flagged",
            index,
            cfg.anomaly,
            scores,
            flagged,
        )
