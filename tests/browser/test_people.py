"""Two people in two browsers of one server, and a proxy in front of it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_helpers import click_button, expect_title, open_link

from tests.browser.conftest import FLAGS, ROOT, free_port, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.slow]
HEADER = "X-Test-Person"
RULES = 'waiting = 2\nteaching = true\nadministrators = ["root@example.org"]\n'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with rules, which learns from a header who somebody is, as from a proxy."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "rules.toml").write_text(RULES)
    port = free_port()
    environment = os.environ | {
        "POISONLAB_RESULTS": str(folder / "results"),
        "POISONLAB_RULES": str(folder / "rules.toml"),
        "POISONLAB_HOSTS": "lab.test",
        "STREAMLIT_SERVER_PORT": str(port),
        "STREAMLIT_SERVER_HEADLESS": "true",
        "STREAMLIT_SERVER_TRUSTED_USER_HEADERS": json.dumps({HEADER: "email"}),
        "OMP_NUM_THREADS": "1",
    }
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    wait_for(f"http://127.0.0.1:{port}/_stcore/health", server, folder / "server.log")
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(30)


@pytest.fixture
def browser(page: Any) -> Any:
    return page.context.browser


def page_of(browser: Any, person: str) -> Any:
    opened = browser.new_context(extra_http_headers={HEADER: person}, viewport={"width": 1280, "height": 900})
    page = opened.new_page()
    page.set_default_timeout(30_000)
    return page


def test_neither_cancels_the_others_job_and_limits_answer_in_words(shared: str, browser: Any) -> None:
    ada, bob, root = (page_of(browser, f"{name}@example.org") for name in ("ada", "bob", "root"))
    link = f"{shared}/experiment?new_defense=none"
    open_link(ada, link, "Experiment")
    assert ada.get_by_text("ada@example.org").count() == 1
    click_button(ada, "Launch")
    expect_title(ada, "Jobs")

    open_link(bob, f"{shared}/jobs", "Jobs")
    bob.get_by_role("button", name="Cancel").first.click()
    bob.get_by_text("this job is ada@example.org's").wait_for()

    open_link(bob, f"{shared}/experiment?new_dataset=cifar10&new_defense=none", "Experiment")
    click_button(bob, "Launch")

    bob.get_by_text("on this server you may use dataset digits, not cifar10").wait_for()

    ada.get_by_role("button", name="Cancel").first.click()
    ada.get_by_text("cancelled").first.wait_for(state="attached")  # a table draws its words on a canvas
    open_link(root, f"{shared}/jobs", "Jobs")
    root.get_by_text("Who did what").wait_for()
    assert bob.get_by_text("Who did what").count() == 0


def status(url: str, host: str) -> int:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers={"Host": host}), timeout=10
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return int(error.code)


def test_a_forged_name_is_refused(shared: str) -> None:
    assert status(shared, "lab.test") == 200
    assert status(shared, "evil.example") == 403


def test_the_example_of_a_proxy_serves_the_app(shared: str, browser: Any, tmp_path: Path) -> None:
    caddy = shutil.which("caddy")
    if caddy is None:
        pytest.skip("Caddy is not installed: apt-get install caddy")
    port = free_port()
    environment = os.environ | {
        "POISONLAB_SITE": f"http://lab.test:{port}",
        "POISONLAB_APP": shared.removeprefix("http://"),
        "HOME": str(tmp_path),
    }
    command = [caddy, "run", "--config", str(ROOT / "docs/server/Caddyfile"), "--adapter", "caddyfile"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as proxy:
        try:
            wait_until_open(port)
            assert status(f"http://127.0.0.1:{port}", "lab.test") == 200
            chromium = browser.browser_type.launch(
                executable_path=shutil.which("chromium"),
                args=[*FLAGS, "--host-resolver-rules=MAP lab.test 127.0.0.1"],
            )
            opened = chromium.new_page(extra_http_headers={HEADER: "ada@example.org"})
            open_link(opened, f"http://lab.test:{port}/leaderboard", "Leaderboard")
            chromium.close()
        finally:
            proxy.terminate()


def wait_until_open(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the proxy does not listen")
