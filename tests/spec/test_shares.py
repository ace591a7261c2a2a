"""Shares of a training as text."""

import pytest

from poisonlab.spec.config import SpecError, TrainingConfig, make_spec
from poisonlab.spec.overrides import parse_settings
from poisonlab.spec.shares import parse_shares


def test_shares_are_read_and_written_in_one_form() -> None:
    assert parse_shares("0.35,.6 , 0.875") == [0.35, 0.6, 0.875]
    assert TrainingConfig(drops="0.35,.6 , 0.875").drops == "0.35, 0.6, 0.875"


def test_the_command_line_takes_one_share_as_well_as_three() -> None:
    for text, meant in (("0.75", "0.75"), ("0.375,0.625,0.875", "0.375, 0.625, 0.875")):
        spec = make_spec("digits", "badnets", "none", overrides=parse_settings([f"training.drops={text}"]))
        assert spec.training.drops == meant


@pytest.mark.parametrize("text", ["", "half", "0.5, 0.5", "0.75, 0.5", "0, 0.5", "1.0", "nan", True])
def test_what_is_no_rising_list_between_0_and_1_is_refused(text: object) -> None:
    with pytest.raises(SpecError, match=r"training\.drops: shares"):
        make_spec("digits", "badnets", "none", overrides={"training.drops": text})


@pytest.mark.parametrize("part", ["training", "head", "fine_tune"])
def test_drops_that_say_what_was_so_before_are_left_out_of_records(part: str) -> None:
    spec = make_spec("digits", "badnets", "none")
    used = make_spec("digits", "badnets", "none", overrides={f"{part}.drops": "0.9"})

    assert "drops" not in spec.model_dump(mode="json")[part]
    assert used.model_dump(mode="json")[part]["drops"] == "0.9"
