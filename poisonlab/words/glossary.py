"""What every number means, shown wherever the number is."""

from poisonlab.measure import catalogue
from poisonlab.measure.metric import FAMILIES
from poisonlab.words.terms import CURVES, TERMS, Term

# A curve of a generative model's training is named after the model and the measure of its soundness.
_MODELS = {"ebm_": "Energy model", "ddpm_": "Diffusion model"}
_FAMILIES = {family.suffix.removeprefix("_"): family for family in FAMILIES.values()}


def define(name: str) -> Term:
    """What a metric, a curve or a word means; ``asr_control`` and the like are put together from their parts."""
    metric = catalogue.find(name)
    if metric is not None:
        return Term(metric.label, metric.text, metric.rate)
    if name in CURVES:
        return CURVES[name]
    if name in TERMS:
        return TERMS[name]
    if name in _FAMILIES:
        return Term(_FAMILIES[name].label, _FAMILIES[name].help, rate=True)
    return _of_generative_model(name) or _unknown(name)


def _of_generative_model(name: str) -> Term | None:
    for prefix, model in _MODELS.items():
        inner = TERMS.get(f"health_{name.removeprefix(prefix)}")
        if name.startswith(prefix) and inner is not None:
            return Term(f"{model}: {inner.label}", inner.text, inner.rate)
    return None


def _unknown(name: str) -> Term:
    return Term(name.replace("_", " "), "Reported by the method; see its file.")


def label(name: str) -> str:
    return define(name).label


def help_for(name: str) -> str:
    return define(name).text
