"""A data set of Hugging Face's library ``datasets``: from a folder, or by its name at the hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poisonlab.data.base import DataError
from poisonlab.data.shared.hf_files import fetched, from_folder
from poisonlab.data.shared.hf_table import Choice, Row, sorted_rows
from poisonlab.data.shared.own_dataset import AS_DECODED, OwnConfig, OwnDataset, decoder, kept
from poisonlab.data.shared.own_folder import Sorted
from poisonlab.data.shared.tensor_file import Tensors
from poisonlab.registry import Card, dataset
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import digest, param

COMMIT = "^([0-9a-f]{40})?$"
REPO = r"^([A-Za-z0-9_.-]{1,96}(/[A-Za-z0-9_.-]{1,96})?)?$"


class HfConfig(OwnConfig):
    path: str = param("", "Folder that save_to_disk wrote, or of Parquet or image files")
    repo: str = param("", "Name at the hub, OWNER/NAME, instead of a folder", pattern=REPO)
    revision: str = param("main", "Branch, tag or commit at the hub, where dataset.commit does not say")
    commit: str = param("", "The commit that was found, which the experiment keeps", pattern=COMMIT)
    subset: str = param("", "Which configuration, where there are several")
    image_column: str = param("", "Column of the pictures; empty: found")
    label_column: str = param("", "Column of the labels; empty: found")
    train_split: str = param("", "Split for training; empty: found")
    test_split: str = param("", "Split for tests; empty: found, unless the other one is named")


@dataclass(frozen=True)
class Table(Sorted[Row]):
    """What a data set holds.

    Attributes:
        state: changes whenever one of its files does.
    """

    state: str


@dataset("hf")
class HuggingFace(OwnDataset):
    """Pictures in a data set of Hugging Face's library, decoded once and kept as one tensor file."""

    Config = HfConfig
    card = Card(
        title="A data set of Hugging Face",
        references=(
            Reference(
                authors="Q. Lhoest et al.",
                title="Datasets: A Community Library for Natural Language Processing",
                venue="EMNLP: System Demonstrations",
                year=2021,
                arxiv="2109.02846",
            ),
        ),
        summary="A folder that save_to_disk wrote, or of Parquet, Arrow or image files, or a name at the hub. Columns, "
        "splits and classes are found or named; needs the package datasets.",
        deviations=(
            *AS_DECODED,
            "No code of a data set is run, and no other kind of file is read.",
            "Classes are called as ClassLabel says, in its order; those without a picture are left out.",
        ),
    )

    @classmethod
    def look_at(cls, values: dict[str, Any]) -> Table | None:
        path = values["path"]
        repo = values["repo"]
        if path and repo:
            raise DataError("name a folder (dataset.path) or a data set of the hub (dataset.repo), not both")
        if repo:
            folder = fetched(repo, values["commit"] or values["revision"])
            values["commit"] = folder.name
        elif path:
            folder = Path(path)
        else:
            return None
        opened = from_folder(folder, values["subset"])
        columns = Choice(
            *(values[name] for name in ("image_column", "label_column", "train_split", "test_split"))
        )
        found = sorted_rows(opened, columns)
        state = digest(
            [opened.state, values["subset"], list(vars(columns).values()), list(found.classes)], 64
        )
        return Table(found.root, found.classes, found.train, found.test, state)

    def decoded(self, found: Table) -> Tensors:  # type: ignore[override]
        cfg = self.config
        make, megabytes = decoder(found, cfg.size, cfg.fit, cfg.color)
        asked = [cfg.subset, cfg.image_column, cfg.label_column, cfg.train_split, cfg.test_split]
        place = ["hf", str(found.root.resolve()), *asked, cfg.size, cfg.fit, cfg.color]
        return kept(place, found.state, make, megabytes)
