"""Which requests reach the app: by the name they ask for, and by the page they come from."""

import asyncio

import pytest

from poisonlab.ui import gate
from poisonlab.ui.gate import Gate


def ask(kind: str, host: str, origin: str | None = None, method: str = "GET", allowed=gate.LOOPBACK):
    """Whether a request reached the app, and the messages that it was answered with."""
    reached = []
    sent = []

    async def app(scope, receive, send) -> None:
        reached.append(scope)
        if scope["type"] == "http":
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"x-frame-options", b"DENY")]}
            )

    async def receive():
        return {}

    async def send(message) -> None:
        sent.append(message)

    headers = [(b"host", host.encode())] + ([] if origin is None else [(b"origin", origin.encode())])
    scope = {"type": kind, "method": method, "headers": headers}
    asyncio.run(Gate(app, allowed)(scope, receive, send))
    return bool(reached), sent


@pytest.mark.parametrize("host", ("localhost:8501", "127.0.0.1", "[::1]:8600", "LOCALHOST.", "localhost"))
def test_a_server_answers_to_its_own_names(host):
    assert ask("http", host)[0]


@pytest.mark.parametrize(
    "host",
    ("evil.example", "localhost.evil.example:8501", "", "127.0.0.1.evil.example", "[", "a@evil.example"),
)
def test_a_foreign_name_is_refused(host):
    reached, sent = ask("http", host)
    assert not reached and sent[0]["status"] == 403 and b"--host NAME" in sent[1]["body"]
    assert b"evil" not in sent[1]["body"]
    reached, sent = ask("websocket", host, f"http://{host}")
    assert not reached and sent[0]["type"] == "websocket.close"


@pytest.mark.parametrize(
    ("pattern", "host", "reached"),
    (
        ("lab.example.org", "lab.example.org:443", True),
        ("*.example.org", "a.b.example.org", True),
        ("*.example.org", "example.org.evil", False),
        ("*", "anything", True),
    ),
)
def test_names_can_be_added(pattern, host, reached):
    assert ask("http", host, allowed=(*gate.LOOPBACK, pattern))[0] is reached


@pytest.mark.parametrize(
    ("origin", "reached"),
    (
        ("http://localhost:8501", True),
        ("http://localhost:9999", False),
        ("http://evil.example", False),
        ("null", False),
        ("http://[", False),
        (None, False),
    ),
)
def test_only_our_own_pages_send_something(origin, reached):
    assert ask("websocket", "localhost:8501", origin)[0] is reached
    assert ask("http", "localhost:8501", origin, "PUT")[0] is reached
    assert ask("http", "localhost:8501", origin, "GET")[0]


def test_answers_tell_the_browser_not_to_frame_them():
    _, sent = ask("http", "localhost")
    headers = dict(sent[0]["headers"])
    assert headers[b"content-security-policy"] == b"frame-ancestors 'self'"
    assert headers[b"x-frame-options"] == b"DENY" and headers[b"x-content-type-options"] == b"nosniff"


def test_names_come_from_the_environment(monkeypatch):
    monkeypatch.setenv(gate.HOSTS, "Lab.example.org, *.local,")
    assert gate.hosts() == (*gate.LOOPBACK, "lab.example.org", "*.local")
