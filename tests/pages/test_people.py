"""Who is taken for whom at the dashboard."""

import pytest
import streamlit as st

from poisonlab.runner.parts import OWNER
from poisonlab.ui import people


def test_without_a_sign_in_whoever_is_here_is_the_owner() -> None:
    assert people.name() == "" and people.person() == OWNER and people.may_enter()


def test_whom_a_proxy_does_not_name_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes round the proxy would be the administrator otherwise."""
    monkeypatch.setattr(st, "get_option", lambda option: {"X-Forwarded-Email": "email"})
    monkeypatch.setattr(st, "user", {})

    assert not people.person().administrator and not people.may_enter()
