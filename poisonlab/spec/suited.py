"""Parts and presets for a dataset that nobody has set up by hand: from its size and its number of images."""

from typing import Any

RESERVE = 0.12  # of the training images: the defender's pool; as many are public
TRUSTED = 500  # images that a defender holds, at most
HEAD = 0.2  # of the training images: what is fine-tuned on in transfer learning
STEPS = {"quick": 1_200, "full": 6_000, "paper": 30_000}  # of a training, from the smallest dataset on
EPOCHS = {"quick": (10, 60), "full": (20, 100), "paper": (80, 200)}
VICTIMS = {"quick": "resnet8", "full": "resnet9", "paper": "resnet18"}


def parts_of(train: int, test: int) -> dict[str, int]:
    """How many images each party gets of ``train`` and ``test`` ones."""
    apart = max(1, int(train * RESERVE))
    head = max(20, int(train * HEAD))
    return {
        "train_images": train - apart,
        "head_images": head,
        "pretrain_images": max(20, train - head - apart),
        "reserve_images": apart,
        "public_images": apart,
        "test_images": test,
    }


def presets_of(train: int, size: int) -> dict[str, dict[str, Any]]:
    """Victim and recipe of each preset.

    Args:
        train: images for training. size: side of an image.
    """
    return {preset: _preset(preset, train, size) for preset in STEPS}


def _preset(preset: str, train: int, size: int) -> dict[str, Any]:
    batch = 32 if train < 2_000 else 64 if train < 10_000 else 128
    fewest, most = EPOCHS[preset]
    epochs = min(most, max(fewest, STEPS[preset] * batch // train))
    recipe = {
        "epochs": epochs,
        "batch_size": batch,
        "lr": 0.1,
        "schedule": "one_cycle",
        "crop_padding": max(1, size // 16),
        "flip": True,
    }
    return {
        "victim": VICTIMS[preset],
        "training": recipe,
        "head": {},
        "clean_images": min(TRUSTED, max(1, int(train * RESERVE))),
        "precision": "float32" if preset == "quick" else "bfloat16",
    }
