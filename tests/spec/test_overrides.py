"""Settings read back what was written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poisonlab.spec.config import SpecError
from poisonlab.spec.overrides import parse_settings, write_setting

VALUES = st.one_of(
    st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(), st.none()
)


@given(VALUES)
def test_what_is_written_is_read_back(value: object) -> None:
    assert parse_settings([write_setting("attack.x", value)]) == {"attack.x": value}


@pytest.mark.parametrize("value", ["12", "true", "null", '"quoted"'])
def test_text_that_looks_like_a_value_stays_text(value: str) -> None:
    assert parse_settings([write_setting("attack.x", value)]) == {"attack.x": value}


@pytest.mark.parametrize("setting", ["attack.x", "=1", ""])
def test_what_is_no_setting_is_refused_with_an_example(setting: str) -> None:
    with pytest.raises(SpecError, match="such as attack.poison_rate=0.05"):
        parse_settings([setting])
