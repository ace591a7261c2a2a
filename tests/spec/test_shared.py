"""What runs have in common, and until when one that computes it holds the others up."""

from poisonlab.spec.config import make_spec
from poisonlab.spec.shared import needs
from poisonlab.spec.stages import Stage


def spec(attack: str = "badnets", defense: str = "none", seed: int = 0):
    return make_spec("digits", attack, defense, seed=seed)


def test_defenses_share_the_victim_and_attacks_the_control():
    first, defended = needs(spec()), needs(spec(defense="anp"))
    assert first.victim == defended.victim and first.all() == defended.all()
    other = needs(spec("blend"))
    assert other.victim != first.victim and other.control == first.control
    again = needs(spec(seed=1))
    assert {again.victim, again.control}.isdisjoint({first.victim, first.control})


def test_without_a_poison_the_control_is_the_victim():
    clean = needs(spec("none"))
    assert clean.victim == clean.control == needs(spec()).control


def test_what_a_defense_learns_from_public_images_is_shared_by_attacks():
    first, other = needs(spec(defense="puregen_ebm")), needs(spec("blend", "puregen_ebm"))
    assert first.public == other.public != ""
    assert needs(spec(defense="anp")).public == ""


def test_what_is_held_shrinks_as_stages_begin():
    asked = needs(spec(defense="puregen_ebm"))
    assert asked.held(Stage.POISON) == asked.held(Stage.CONTROL) == asked.all()
    assert asked.held(Stage.VICTIM) == [asked.victim, asked.public]
    assert asked.held(Stage.EBM) == [asked.public]
    assert asked.held(Stage.REPAIR) == asked.held("a stage of another package") == []
