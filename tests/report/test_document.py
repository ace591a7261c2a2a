"""What holds for every report: nothing is asked of a server, nothing that a run brings along is run."""

import base64
import hashlib
from html.parser import HTMLParser

import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from store_helpers import record_of

from poisonlab.figures import document as figures
from poisonlab.records.artifacts import PoisonGallery
from poisonlab.report.board import board_document
from poisonlab.report.document import document
from poisonlab.report.parts import drawing
from poisonlab.report.recorded import sections
from poisonlab.report.run import Recorded, run_document
from poisonlab.store.ranking import Block, ranked

SCRIPT = "<script>alert(1)</script>"
HOSTILE = [
    SCRIPT,
    "</style><b>",
    "</script><img src=x onerror=alert(1)>",
    '" onload="alert(1)',
    "<!--",
]
MEGABYTE = 10**6


class Elements(HTMLParser):
    """The elements of a document with their attributes, and the text inside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self.inside = tag == "script" and not attrs
        if self.inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.scripts[-1] += data


def board_of(name: str) -> str:
    """A board on which everything that can be named bears ``name``."""
    block = Block(name, name, name)
    runs = pd.DataFrame(
        [("a", name, 0.1), ("a", "none", 1.0), (name, name, 0.3), (name, "none", 0.9)],
        columns=["attack", "defense", "success"],
    ).assign(seed=0, success_undefended=1.0, loss=0.01, seconds=2.0, clean_accuracy=0.9)
    board = ranked(runs, block, "defense", 0.05)
    runs = runs.assign(
        run_id=[f"{name}{place}" for place in range(len(runs))],
        victim=name,
        source=name,
        device=name,
        torch=name,
        revision=name,
    )
    return board_document(board, "defense", 0.05, runs)


def run_of(spec, name: str) -> str:
    """A run whose free texts and whose classes bear ``name``."""
    record = record_of(spec(), state="failed").model_copy(
        update={"device": name, "torch": name, "revision": name, "message": name, "version": name}
    )
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    gallery = PoisonGallery(
        images, images, torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long), [name]
    )
    points = pd.DataFrame(
        [(name, name, 1, 0.5), (name, name, 2, 0.4)], columns=["stage", "name", "step", "value"]
    )
    return run_document(record, points, Recorded(tuple(sections([gallery])), (name,)))


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", ["board", "run"])
def test_hostile_names_come_out_as_text(kind: str, name: str, spec) -> None:
    usual = board_of("usual") if kind == "board" else run_of(spec, "usual")
    text = board_of(name) if kind == "board" else run_of(spec, name)

    assert [tag for tag, _ in Elements(text).found] == [tag for tag, _ in Elements(usual).found]
    assert Elements(text).scripts == Elements(usual).scripts


@pytest.mark.parametrize("name", HOSTILE)
def test_a_figure_cannot_end_the_element_that_holds_its_data(name: str) -> None:
    data = drawing(go.Figure(go.Bar(x=[name], y=[1])), "").data

    assert "<" not in data and ">" not in data


def test_only_the_two_scripts_of_the_document_may_run(spec) -> None:
    elements = Elements(run_of(spec, "usual"))
    (policy,) = (
        a["content"] for tag, a in elements.found if a.get("http-equiv") == "Content-Security-Policy"
    )
    digests = [hashlib.sha256(text.encode()).digest() for text in elements.scripts]
    hashes = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]

    assert len(elements.scripts) == 2
    assert f"script-src {' '.join(hashes)};" in str(policy)
    assert "default-src 'none'" in str(policy) and "unsafe-eval" not in str(policy)


def test_no_element_names_anything_outside_the_file(spec) -> None:
    for text in (board_of("usual"), run_of(spec, "usual")):
        for tag, attributes in Elements(text).found:
            assert tag not in ("link", "iframe", "object", "embed", "base", "form")
            assert (attributes.get("src") or "data:").startswith(
                "data:image/png;base64,"
            ) or "src" not in attributes
            assert (attributes.get("href") or "#").startswith("#")
            assert not [name for name in attributes if name.startswith("on")]


def test_every_table_has_a_caption_every_head_a_scope_and_every_image_words(spec) -> None:
    for text in (board_of("usual"), run_of(spec, "usual")):
        found = Elements(text).found
        tables = [tag for tag, _ in found if tag in ("table", "caption")]
        assert tables == ["table", "caption"] * (len(tables) // 2)
        assert all("scope" in attributes for tag, attributes in found if tag == "th")
        assert all(attributes.get("alt") for tag, attributes in found if tag == "img")
        assert '<html lang="en">' in text and "<title>" in text


def test_an_id_stands_once_and_every_link_leads_somewhere(spec) -> None:
    for text in (board_of("usual"), run_of(spec, "usual")):
        found = Elements(text).found
        links = {str(attributes["href"])[1:] for _, attributes in found if "href" in attributes}
        ids = [attributes["id"] for _, attributes in found if "id" in attributes]

        assert len(set(ids)) == len(ids) and links <= set(ids)


def test_the_size_is_that_of_plotly_and_little_more(spec) -> None:
    assert len(figures.library()) < len(run_of(spec, "usual").encode()) < 6 * MEGABYTE


def test_a_template_that_names_what_is_not_given_fails() -> None:
    with pytest.raises(Exception, match="is undefined"):
        document("run.html", "a run")
