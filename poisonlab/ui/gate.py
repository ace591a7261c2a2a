"""What stands before every request: which names the server answers to, whose pages may send it something.

A page of somebody else can point a name of its own at this machine and then talk to whatever listens on it; the name is
in the header ``Host`` of what it sends. Streamlit itself looks at it for its websocket only.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HOSTS = "POISONLAB_HOSTS"  # more names, separated by commas; * for any
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_READS = ("GET", "HEAD", "OPTIONS")
_HEADERS = (
    (b"content-security-policy", b"frame-ancestors 'self'"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)


def hosts() -> tuple[str, ...]:
    """Names that the server answers to: those of this machine for itself, and those that its owner gave it."""
    given = os.environ.get(HOSTS, "").split(",")
    return (*LOOPBACK, *(name.strip().lower() for name in given if name.strip()))


class Gate:
    """An ASGI middleware that refuses foreign names and senders, and adds headers for the browser.

    Args:
        allowed: names; ``*.example.org`` stands for all below, ``*`` for any.
    """

    def __init__(self, app: App, allowed: Sequence[str]) -> None:
        self._app = app
        self._allowed = tuple(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        problem = self._problem(scope)
        if problem:
            await _refuse(scope["type"], problem, send)
            return
        await self._app(scope, receive, _with_headers(send))

    def _problem(self, scope: Scope) -> str:
        """Why a request is refused; empty where it is not."""
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if not self._knows(host):
            return (
                f"This server does not answer to the name in this request. Its owner can allow it: {HOSTS}, or "
                "poisonlab ui --host NAME."
            )
        writes = scope["type"] == "websocket" or scope["method"] not in _READS
        if not writes:
            return ""
        origin = headers.get(b"origin")
        if origin is None:
            return "A request that changes something has to say which page it comes from (Origin)."
        if _place(origin) != host:
            return "This request comes from a page of another server."
        return ""

    def _knows(self, host: str) -> bool:
        """Whether a ``name:port`` is one of ours."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        return any(_fits(name, pattern) for pattern in self._allowed)


def _place(origin: str) -> str:
    """``name:port`` of an ``Origin``; empty where it is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _fits(name: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return name.endswith(pattern[1:])
    return bool(name) and pattern in ("*", name)


async def _refuse(kind: str, problem: str, send: Send) -> None:
    if kind == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": problem[:120]})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_HEADERS]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": problem.encode()})


def _with_headers(send: Send) -> Send:
    """Answers get headers that browsers obey: no page of another server frames this one."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            named = {name.lower() for name, _ in message["headers"]}
            more = [header for header in _HEADERS if header[0] not in named]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return answer
