"""Who sits at the dashboard: whoever signed in, or the owner of the machine where nobody has to.

Signing in is Streamlit's own: a section ``[auth]`` of ``.streamlit/secrets.toml``, or a header that a proxy sets
(``server.trustedUserHeaders``).
"""

import os
from pathlib import Path

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from poisonlab.runner.parts import OWNER, RULES, Person


def signs_in() -> bool:
    """Whether this server is set up for people to sign in; so is one whose secrets nobody can read."""
    try:
        return "auth" in st.secrets
    except StreamlitSecretNotFoundError:
        return any(Path(file).exists() for file in st.get_option("secrets.files"))


def told_apart() -> bool:
    """Whether this server is to know people, by its own sign-in or by what a proxy says; rules are for people."""
    return signs_in() or bool(st.get_option("server.trustedUserHeaders")) or bool(os.environ.get(RULES))


def name() -> str:
    """Who signed in, by what nobody can choose for themselves; empty where nobody did.

    That is the e-mail address unless its issuer says that it is not verified, or what a proxy vouches for; else the
    issuer's own number of the account, never the name to be shown, which its owner may change into another's address.
    """
    if not told_apart():
        return ""
    vouched = set((st.get_option("server.trustedUserHeaders") or {}).values())
    verified = str(st.user.get("email_verified", True)).lower() != "false"
    trusted = {"email": verified or "email" in vouched, "name": "name" in vouched, "sub": True}
    found = (st.user.get(field) for field, is_trusted in trusted.items() if is_trusted)
    return str(next((value for value in found if value), ""))


def may_enter() -> bool:
    """Whether the pages are shown; otherwise the page says what is missing, or has a button to sign in."""
    if not told_apart() or name():
        return True
    st.title("PoisonLab")
    st.markdown("This server is shared: jobs belong to people, so it asks who you are.")
    if signs_in():
        st.button("Sign in", on_click=st.login, icon=":material/login:")
    elif not st.get_option("server.trustedUserHeaders"):
        st.markdown(f"It has rules ({RULES}), but nobody can sign in: its administrator has to set that up.")
    else:
        st.markdown("The proxy in front of it did not say; come in through the proxy.")
    return False


def person() -> Person:
    """Who is here."""
    found = name()
    if not found:
        return Person("", False) if told_apart() else OWNER
    from poisonlab.runner import runtime  # noqa: PLC0415 - the first page does without

    return runtime.get().runner.rules.person(found)


def account() -> None:
    """In the sidebar: who is signed in, and a button to leave."""
    found = name()
    if found:
        st.sidebar.text(found)
        if signs_in():
            st.sidebar.button("Sign out", on_click=st.logout, icon=":material/logout:")


def log() -> None:
    """For administrators of a shared server: who did what."""
    if not name() or not person().administrator:
        return
    from poisonlab.runner import runtime  # noqa: PLC0415 - the first page does without

    with st.expander("Who did what"):
        st.dataframe(
            runtime.get().store.audit.last(),
            column_config={
                "time": st.column_config.DatetimeColumn("time (UTC)", format="D MMM YYYY, HH:mm:ss")
            },
            hide_index=True,
            placeholder="–",
            alt="Who queued, cancelled and resumed jobs, the newest first",
        )
