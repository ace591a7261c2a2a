"""The pictures of a run that the lens looks at, and the networks that it looks into."""

from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.measure.metrics import Triggered
from poisonlab.models.base import Classifier
from poisonlab.pipeline.reopen import Opened
from poisonlab.types import Backdoor, ImageSet, Targeted

POINTS = 1000  # pictures looked at: more would hide each other in a plane
MOST_BYTES = 32 * 2**20  # of pictures: of large ones there are fewer
NO_LABEL = -1
CLEAN = "clean training image"
POISONED = "poisoned training image"
TRIGGERED = "test image with the trigger"
TARGET = "target image"


@dataclass(frozen=True)
class Pictures:
    """Some images of a run, group after group, on the CPU.

    Attributes:
        x: uint8 ``(n, c, h, w)``.
        group: int64 ``(n,)``, positions in ``groups``.
        true: int64 ``(n,)``, the class of each image before anybody touched it.
        given: int64 ``(n,)``, the label that it was trained with; -1 for a test image.
        groups: what the images are: clean, poisoned, and what the attack is measured on.
        classes: class names.
    """

    x: Tensor
    group: Tensor
    true: Tensor
    given: Tensor
    groups: tuple[str, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, group: str) -> Tensor:
        """Positions of a group's images, int64."""
        if group not in self.groups:
            return torch.zeros(0, dtype=torch.int64)
        return (self.group == self.groups.index(group)).nonzero().squeeze(1)


def networks(opened: Opened, trial: int = 0) -> dict[str, Classifier]:
    """``control``, ``undefended`` and ``defended`` of a trial; one that is an earlier one is left out."""
    found: dict[str, Classifier] = {}
    seen: list[int] = []
    for name, victims in opened.victims.items():
        if id(victims) not in seen:
            seen.append(id(victims))
            found[name] = victims.member(trial // victims.shared_by)
    return found


def spread(count: int, most: int) -> Tensor:
    """Up to ``most`` of ``count`` rows, evenly spread over them; int64, the same every time."""
    kept = min(count, most)
    return torch.arange(kept) * count // max(kept, 1)


def pictures(opened: Opened, trial: int = 0, most: int = POINTS) -> Pictures:
    """Up to ``most`` images of a run: a quarter poisoned, a quarter to be misread, clean ones in the remaining places.

    No draw decides which: each group's images are evenly spread over what there is of it.
    """
    train = opened.attacked.splits.train
    most = max(3, min(most, MOST_BYTES // max(1, train.x[0].numel())))
    poison = opened.attacked.poison
    tests, true, name = _tests(opened, trial, most // 4)
    chosen = spread(poison.budget, most // 4)
    rows = poison.index[trial].cpu()[chosen]
    untouched = (~opened.attacked.poisoned_rows(trial)).cpu().nonzero().squeeze(1)
    kept = untouched[spread(len(untouched), most - len(rows) - len(tests))]
    labels = train.y.cpu()
    sizes = torch.tensor([len(kept), len(rows), len(tests)])
    return Pictures(
        torch.cat([train.x.cpu()[kept], poison.images[trial].cpu()[chosen], tests.cpu()]),
        torch.arange(3).repeat_interleave(sizes),
        torch.cat([labels[kept], labels[rows], true.cpu()]),
        torch.cat([labels[kept], poison.labels[trial].cpu()[chosen], torch.full_like(true.cpu(), NO_LABEL)]),
        (CLEAN, POISONED, name),
        train.classes,
    )


def _tests(opened: Opened, trial: int, most: int) -> tuple[Tensor, Tensor, str]:
    """Test images that the attack is measured on, their true classes, and what they are called."""
    threat = opened.attacked.threat
    test = opened.attacked.splits.test
    if isinstance(threat, Backdoor):
        shown = Triggered.of(victims_of(test, threat, most), threat)
        return shown.x, shown.true, TRIGGERED
    if isinstance(threat, Targeted):
        return threat.images[trial, None], threat.true_labels[trial, None], TARGET
    return test.x[:0], test.y[:0], TARGET


def victims_of(test: ImageSet, threat: Backdoor, most: int) -> ImageSet:
    """Up to ``most`` test images that the trigger is put on."""
    test = test[threat.attacked(test.y)]
    return test[spread(len(test), most).to(test.y.device)]
