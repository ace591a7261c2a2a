"""A run's screening: the inputs of the undefended victim, and of the control, judged one by one."""

from torch import Tensor

from poisonlab.context import Context
from poisonlab.measure import screening
from poisonlab.measure.galleries import show_screening
from poisonlab.models.base import Classifier, predict
from poisonlab.pipeline.defend import Defender
from poisonlab.pipeline.poison import Attacked
from poisonlab.spec.stages import Stage
from poisonlab.types import Backdoor


def measure_screening(attacked: Attacked, defender: Defender, ctx: Context) -> dict[str, float | None]:
    """What a screening is worth on the victim, and on the control, which is shown the same trigger in vain.

    Only backdoors have something that an input can carry.
    """
    threat = attacked.threat
    if not isinstance(threat, Backdoor) or not defender.overrides("screen"):
        return {}
    test = attacked.splits.test
    inputs = screening.Inputs.of(test, threat, ctx.generator("screening"))
    victim = attacked.undefended.member(0)
    found = defender.screen(Stage.SCREEN, victim, inputs.x)
    control = defender.screen(Stage.SCREEN_CONTROL, attacked.control.member(0), inputs.x)
    if found is None or control is None:
        return {}
    answers = _answers(victim, inputs.x, ctx)
    show_screening(found, control, inputs, answers, test.classes, ctx)
    return screening.screening_metrics(found, inputs, answers) | screening.control_metrics(control, inputs)


def _answers(model: Classifier, x: Tensor, ctx: Context) -> Tensor:
    with ctx.autocast():
        return predict(model, x)
