"""What runs have in common: the part of a spec that decides a stage, and with it who can share it."""

from dataclasses import dataclass

from poisonlab import registry
from poisonlab.spec import stages
from poisonlab.spec.config import ExperimentSpec, digest
from poisonlab.spec.stages import Scope, Stage

_CONTROL = ("dataset", "victim", "protocol", "training", "head", "fine_tune", "seed", "precision")
# what decides the poison and the undefended victim
_ATTACK_SIDE = (*_CONTROL, "attack", "public_poison")
_PUBLIC = ("dataset", "protocol", "precision", "defense")
PARTS = {
    Scope.ATTACK: _ATTACK_SIDE,
    Scope.ATTACK_AND_CLEAN: (*_ATTACK_SIDE, "clean_images"),
    Scope.PUBLIC: _PUBLIC,
    Scope.DEFENSE: (*_PUBLIC, "seed"),
    Scope.BOTH: (*_ATTACK_SIDE, "clean_images", "defense"),
}


def scope_of(name: str) -> Scope:
    """What decides a stage; of one that another package made up, all that may."""
    stage = stages.find(name)
    return stage.info.scope if stage and stage.info.scope in PARTS else Scope.BOTH


def decided_by(spec: ExperimentSpec, scope: Scope) -> str:
    """Hash of the part of a spec that decides the stages of a scope: specs with the same share these."""
    values = spec.model_dump(mode="json")
    return digest([scope, {name: values.get(name) for name in parts(spec, scope)}])


def parts(spec: ExperimentSpec, scope: Scope) -> tuple[str, ...]:
    """Names of these parts; what is said to be the defense's alone may be the attack's, too."""
    shown_poison = scope is Scope.DEFENSE and not registry.defense[spec.defense.name].per_image
    if scope in (Scope.PUBLIC, Scope.DEFENSE) and (shown_poison or spec.public_poison):
        return tuple(dict.fromkeys((*PARTS[scope], *_ATTACK_SIDE)))
    return PARTS[scope]


@dataclass(frozen=True)
class Needs:
    """What a run asks for that other runs may be computing: hashes, equal for what is shared.

    Attributes:
        victim: the undefended one, with poison and surrogates; without a poison the control is the victim.
        control: the network of clean data.
        public: what the defense learns from public images; empty where it learns nothing.
    """

    victim: str
    control: str
    public: str

    def all(self) -> list[str]:
        """Every one of them, the victim first."""
        return [self.victim, self.control, *self._public()]

    def held(self, stage: str) -> list[str]:
        """What the run may still be computing when a stage begins; what comes before it is whole by then."""
        if stage == Stage.VICTIM:
            return [self.victim, *self._public()]
        scope = scope_of(stage)
        if scope in (Scope.ATTACK, Scope.ATTACK_AND_CLEAN):
            return self.all()
        return self._public() if scope is Scope.PUBLIC else []

    def _public(self) -> list[str]:
        return [self.public] if self.public else []


def needs(spec: ExperimentSpec) -> Needs:
    """What a run asks for that other runs may be computing."""
    values = spec.model_dump(mode="json")
    control = digest(["control", {name: values.get(name) for name in _CONTROL}])
    poisons = registry.attack[spec.attack.name].poisons
    learns = registry.defense[spec.defense.name].overrides("prepare")
    return Needs(
        victim=decided_by(spec, Scope.ATTACK) if poisons else control,
        control=control,
        public=decided_by(spec, Scope.PUBLIC) if learns else "",
    )
