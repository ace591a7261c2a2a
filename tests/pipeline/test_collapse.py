"""A model that gives one answer to everything is named, in the record of a real run, too."""

import pytest
import torch
from core_helpers import tiny_spec

from poisonlab.measure.metrics import collapsed
from poisonlab.runner.recorder import run_and_record


def answers(*counts):
    """One trial that gives label ``i`` to ``counts[i]`` images."""
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))[None]


BALANCED = torch.arange(1000) % 10


@pytest.mark.parametrize(
    ("predicted", "y", "expected"),
    [
        (answers(1000), BALANCED, True),
        (answers(990, 10), BALANCED, True),
        (answers(980, 20), BALANCED, False),
        (BALANCED[None], BALANCED, False),
        (answers(1000), torch.zeros(1000, dtype=torch.long), False),  # the only class there is
        (answers(970, 30), answers(970, 30)[0], False),  # a good model of a lopsided set
        (answers(1000), answers(970, 30)[0], True),
        (answers(995, 5), torch.arange(1000) % 2, True),
        (answers(0)[:, :0], BALANCED[:0], False),
    ],
)
def test_one_answer_to_nearly_everything_is_a_collapse(predicted, y, expected):
    assert collapsed(predicted, y) is expected


def test_of_several_trials_half_must_collapse():
    one, good = answers(1000)[0], BALANCED
    assert collapsed(torch.stack([one, good]), BALANCED)
    assert not collapsed(torch.stack([one, good, good]), BALANCED)


def test_a_run_names_its_collapsed_models_and_its_data(tmp_path):
    too_fast = {"training__epochs": 1, "training__lr": 1.0, "training__schedule": "constant"}
    record = run_and_record(tiny_spec(**too_fast), tmp_path)
    assert record.state == "done", record.message
    assert record.data is not None and record.collapsed is not None
    said = [text for _, level, text in record.logs if level == "warning" and "collapsed" in text]
    assert len(said) == len(record.collapsed) > 0
