"""Experiments that end in a second or two, and what a page says."""

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from poisonlab.spec.config import ExperimentSpec, make_spec

TINY_DATA = {"dataset.train_images": 120, "dataset.test_images": 60, "dataset.reserve_images": 30}
TINY_BACKDOOR = TINY_DATA | {
    "training.epochs": 4,  # fewer, and a model gives one answer to everything: such runs do not count
    "clean_images": 20,
    "defense.rounds": 2,
    "defense.inner_epochs": 1,
}
TINY_TARGETED = TINY_DATA | {
    "dataset.head_images": 80,
    "dataset.pretrain_images": 300,
    "dataset.public_images": 130,
    "training.epochs": 4,
    "head.epochs": 5,
    "clean_images": 20,
    "attack.targets": 3,
    "attack.poisons": 3,
    "attack.steps": 4,
    "defense.weights": "train",
    "defense.updates": 2,
    "defense.health_every": 1,
    "defense.min_psnr": 0,
    "defense.batch_size": 8,
    "defense.bank_size": 16,
    "defense.chain_steps": 2,
    "defense.steps": 4,
}

Open = Callable[..., AppTest]


def tiny_backdoor(seed: int = 0, **more: object) -> ExperimentSpec:
    return make_spec("digits", "badnets", "awm", seed=seed, overrides=TINY_BACKDOOR | more)


def tiny_targeted(seed: int = 0) -> ExperimentSpec:
    return make_spec("digits", "bullseye_polytope", "puregen_ebm", seed=seed, overrides=TINY_TARGETED)


def words(app: AppTest) -> str:
    """Everything a page says."""
    parts = (
        app.title,
        app.subheader,
        app.markdown,
        app.caption,
        app.info,
        app.warning,
        app.error,
        app.text,
        app.code,
    )
    return "\n".join(str(element.value) for part in parts for element in part)
