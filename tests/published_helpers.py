"""A published table of digits that is measured in seconds."""

from pathlib import Path

TOY = """
id = "toy"
title = "Two defenses on digits"
paper = "Nobody: a table for tests, arXiv:2401.00001"
place = "Table 7"
read_in = "a test"
provenance = "read"
unit = "percent"
notes = ["Made up."]

[setting]
dataset = "digits"
victim = "a small network"
poison_rate = "20 %"
clean_images = "20"
epochs = "2"

[reproduce]
dataset = "digits"
victim = "resnet8"
deviations = ["Everything is made up."]
faster = { "training.epochs" = 1 }
published = { "training.epochs" = 2 }

[reproduce.settings]
clean_images = 20
"attack.poison_rate" = 0.2
"dataset.train_images" = 120
"dataset.test_images" = 60
"dataset.reserve_images" = 30
"victim.width" = 8
"training.crop_padding" = 0

[attacks]
badnets = { label = "BadNets", name = "badnets" }
other = { label = "An attack of the future", name = "not_here_yet" }

[defenses]
none = { label = "No defense", name = "none" }
tuned = { label = "Fine-tuning", name = "ft", settings = { "defense.epochs" = 1 } }
cut = { label = "Pruning", name = "clp" }
theirs = { label = "Theirs" }

[values]
badnets = { none = [97.5, 80.0], tuned = { accuracy = 96.0, success = 12.5, success_sd = 3.0 }, theirs = [90.0, 1.0] }
other = { none = { success = 99.0, provenance = "recalled" } }
"""


# two target classes a cell
OVER = {
    'name = "badnets" }': 'name = "badnets", over = { "attack.target_class" = [0, 7] } }',
    "success = 12.5, success_sd = 3.0": "success = 12.5, success_sd = 3.0, success_max = 20.0",
}


def toy_folder(folder: Path, **replaced: str) -> Path:
    """A folder with the toy table, pieces of its text replaced (``old="new"`` by ``**{"old": "new"}``)."""
    text = TOY
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy.toml").write_text(text)
    return folder
