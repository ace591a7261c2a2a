"""Who is taken for whom at the dashboard."""

from pathlib import Path

import pytest
import streamlit as st
from streamlit import config
from streamlit.runtime.secrets import Secrets

from poisonlab.runner.parts import OWNER, RULES
from poisonlab.ui import people


def test_without_a_sign_in_whoever_is_here_is_the_owner() -> None:
    assert people.name() == "" and people.person() == OWNER and people.may_enter()


def test_rules_without_a_sign_in_make_nobody_the_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RULES, "rules.toml")

    assert not people.person().administrator and not people.may_enter()


@pytest.mark.parametrize("text", ("[auth", "[auth]\ncookie_secret = 'a'\ncookie_secret = 'b'"))
def test_a_mistake_in_the_secrets_makes_nobody_the_owner(
    text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "secrets.toml"
    file.write_text(text)
    options = {"secrets.files": [str(file)], "secrets": {}}
    monkeypatch.setattr(config, "get_option", options.get)
    monkeypatch.setattr(st, "get_option", options.get)
    monkeypatch.setattr(st, "secrets", Secrets())
    monkeypatch.setattr(st, "user", {})

    assert people.signs_in() and not people.person().administrator


@pytest.mark.parametrize(
    ("headers", "user", "name"),
    (
        ({}, {"email": "ada@example.org", "name": "Ada", "sub": "7"}, "ada@example.org"),
        ({}, {"email": "ada@example.org", "email_verified": True, "sub": "7"}, "ada@example.org"),
        ({}, {"name": "root@example.org", "sub": "7"}, "7"),
        ({}, {"email": "root@example.org", "email_verified": False, "sub": "7"}, "7"),
        ({}, {"is_logged_in": False}, ""),
        ({"X-Remote-User": "name"}, {"name": "ada"}, "ada"),
        ({"X-Remote-User": "email"}, {"email": "ada@example.org", "name": "root"}, "ada@example.org"),
    ),
)
def test_nobody_is_who_they_only_say_they_are(headers, user, name, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "signs_in", lambda: not headers)
    monkeypatch.setattr(st, "get_option", lambda option: headers)
    monkeypatch.setattr(st, "user", user)

    assert people.name() == name


def test_whom_a_proxy_does_not_name_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes round the proxy would be the administrator otherwise."""
    monkeypatch.setattr(st, "get_option", lambda option: {"X-Forwarded-Email": "email"})
    monkeypatch.setattr(st, "user", {})

    assert not people.person().administrator and not people.may_enter()
