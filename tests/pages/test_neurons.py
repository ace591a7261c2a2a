"""The page of neurons with a run whose defense has a knob, and with one that only has masks."""

from pathlib import Path

from core_helpers import tiny_spec
from page_helpers import Open, words

from poisonlab.runner.recorder import run_and_record


def test_pruning_curve_names_the_rule_and_the_oracle(open_page: Open, tmp_path: Path) -> None:
    spec = tiny_spec("anp", defense__iterations=2)
    record = run_and_record(spec, tmp_path / "runs", device="cpu", cache_root=tmp_path / "cache")

    app = open_page(tmp_path, "neurons", run=record.run_id)

    assert {"How much to cut", "Scores by layer"} <= {heading.value for heading in app.subheader}
    assert "**rule** chose" in words(app) and "**oracle**" in words(app)
    assert app.code[-1].value.startswith(
        "python -m poisonlab run --dataset digits --attack badnets --defense anp"
    )


def test_masks_alone_are_shown_without_a_curve(open_page: Open, filled: Path) -> None:
    app = open_page(filled, "neurons")

    assert [heading.value for heading in app.subheader][:1] == ["Scores by layer"]
