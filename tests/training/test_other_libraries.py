"""Victims of torchvision and timm: features and head, a start that the seed decides, refusals before anything runs."""

from pathlib import Path

import pytest
import torch
from core_helpers import TINY, TINY_DATA, noise_images
from torch import nn

from poisonlab.cache.stage_cache import StageCache
from poisonlab.context import Context, derive
from poisonlab.defenses.shared.feature_maps import stages, watching
from poisonlab.models.base import Classifier, initialize
from poisonlab.models.shared.foreign import Foreign, without_chance
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.spec.config import SpecError, make_spec
from poisonlab.training.victims import new_network, outline, train_from_scratch

QUICK = (
    "torchvision:resnet18@32",
    "torchvision:mobilenet_v3_small@64",
    "timm:resnet10t@32",
    "timm:convnext_atto@64",
)
LARGE = (
    "torchvision:convnext_tiny@64",
    "torchvision:vit_b_16@32",
    "timm:vit_tiny_patch16_224@224",
    "timm:efficientnet_b0@224",
)
LIBRARIES = [*QUICK, *(pytest.param(named, marks=pytest.mark.slow) for named in LARGE)]


def network(victim: str, side: int, channels: int = 3, seed: int = 0) -> Classifier:
    library = victim.partition(":")[0]
    if library == "timm":
        pytest.importorskip("timm")
    spec = make_spec("cifar10", "badnets", "none", victim=victim, seed=seed)
    return new_network(spec, noise_images(6, (channels, side, side)), Context(seed=seed))


@pytest.mark.parametrize("named", LIBRARIES)
def test_features_head_and_a_start_that_the_seed_decides(named: str) -> None:
    victim, side = named.split("@")
    model = network(victim, int(side)).eval()
    x = torch.rand(2, 3, int(side), int(side))

    with torch.no_grad():
        features = model.features(x)
        assert features.shape == (2, model.head.in_features) and model(x).shape == (
            2,
            model.head.out_features,
        )
        assert torch.equal(model(x), model.head(features))
        torch.manual_seed(99)  # nothing outside the seed matters
        again, other = network(victim, int(side)).eval(), network(victim, int(side), seed=1).eval()
        assert torch.equal(again(x), model(x)) and not torch.equal(other(x), model(x))


def test_gray_images_are_given_three_times() -> None:
    model = network("torchvision:mobilenet_v3_small", 32, channels=1).eval()
    gray = torch.rand(2, 1, 32, 32)

    with torch.no_grad():
        colored = model.body.network(model.normalize(gray).expand(-1, 3, -1, -1))  # type: ignore[union-attr,operator]
        assert torch.equal(model.features(gray), colored.flatten(1))


def test_nothing_is_left_to_chance_in_training() -> None:
    dropping = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4), nn.Dropout2d(0.3)).train()
    without_chance(dropping)
    assert [m.p for m in dropping if isinstance(m, nn.Dropout | nn.Dropout2d)] == [0.0, 0.0]

    model = network("torchvision:mobilenet_v2", 32).train()
    x = torch.rand(4, 3, 64, 64)
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_unknown_names_are_answered_with_near_ones(library: str) -> None:
    if library == "timm":
        pytest.importorskip("timm")
    with pytest.raises(SpecError, match="resnet18"):
        make_spec("digits", "badnets", "none", victim=f"{library}:resnet81")


@pytest.mark.parametrize("name", ["../x", "a b", "x" * 90, "squeezenet1_0"])
def test_names_that_cannot_be(name: str) -> None:
    for library in ("torchvision", "timm"):
        if (library, name) != ("timm", "squeezenet1_0"):
            with pytest.raises(SpecError, match="network"):
                make_spec("digits", "badnets", "none", victim=f"{library}:{name}")


def test_an_image_size_that_does_not_fit_is_refused_in_one_line() -> None:
    spec = make_spec("digits", "badnets", "none", victim="torchvision:vit_b_16")
    with pytest.raises(ValueError, match="torchvision:vit_b_16 does not take images of 24x24"):
        outline(spec.victim, (1, 24, 24), 10)


@pytest.mark.parametrize(
    "victim", ["torchvision:convnext_tiny", "timm:vit_tiny_patch16_224", "timm:mixer_s32_224"]
)
def test_an_image_that_patches_do_not_cover_is_refused(victim: str) -> None:
    """What lies beyond the last patch, a trigger in the corner say, would never be seen."""
    if victim.startswith("timm"):
        pytest.importorskip("timm")
    spec = make_spec("cifar10", "badnets", "none", victim=victim)
    with pytest.raises(ValueError, match=r"patches of \d+ pixels.*choose a multiple"):
        outline(spec.victim, (3, 42, 42), 10)


def test_a_network_that_cannot_be_loaded_from_plain_tensors_is_refused() -> None:
    """Its victims are kept as such; it would fail once they are trained."""
    spec = make_spec("cifar10", "badnets", "none", victim="torchvision:mnasnet0_5")
    with pytest.raises(ValueError, match="cannot be loaded from plain tensors"):
        outline(spec.victim, (3, 32, 32), 10)


def test_a_network_that_looks_at_numbers_while_it_is_built() -> None:
    spec = make_spec("cifar10", "badnets", "anp", victim="torchvision:regnet_y_400mf")
    before = torch.random.get_rng_state()

    network = outline(spec.victim, (3, 32, 32), 10)

    spec.defense.build().check_network(network, (3, 32, 32))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("defense", ["anp", "rnp", "clp"])
@pytest.mark.parametrize(
    ("victim", "more"),
    [("convnet", {"victim.norm": False}), ("torchvision:vit_b_16", {"dataset.size": 32})],
)
def test_a_defense_of_norms_refuses_a_victim_without_before_anything_is_computed(
    defense: str, victim: str, more: dict[str, object], tmp_path: Path
) -> None:
    spec = make_spec(
        "digits", "badnets", defense, victim=victim, overrides=TINY_DATA | {"clean_images": 20} | more
    )
    ctx = Context(cache=StageCache(tmp_path))

    with pytest.raises(ValueError, match="batch.norm"):
        run_experiment(spec, ctx)

    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("victim", "least"), [("resnet18", 3), ("mobilenet_v3_small", 3), ("convnext_tiny", 2)]
)
def test_stages_of_a_network_of_torchvision_end_its_resolutions(victim: str, least: int) -> None:
    model = network(f"torchvision:{victim}", 64).eval()
    names = stages(model, torch.rand(1, 3, 64, 64), 3)

    assert len(names) >= least
    with watching(model, names) as seen, torch.no_grad():
        model(torch.rand(2, 3, 64, 64))
        sides = [output.shape[-1] for output in seen]
    assert sides == sorted(set(sides), reverse=True) and sides[-1] > 1


def test_attention_distillation_refuses_a_network_without_maps() -> None:
    spec = make_spec("cifar10", "badnets", "nad", victim="torchvision:vit_b_32")
    with pytest.raises(ValueError, match="nad compares where networks look"):
        spec.defense.build().check_network(outline(spec.victim, (3, 32, 32), 10), (3, 32, 32))


@pytest.mark.parametrize(
    ("victim", "takes"), [("mobilenet_v3_small", False), ("resnet18", True), ("vit_b_32", True)]
)
def test_i_bau_refuses_a_network_without_gradients_of_gradients(victim: str, takes: bool) -> None:
    spec = make_spec("cifar10", "badnets", "i_bau", victim=f"torchvision:{victim}")
    bare = outline(spec.victim, (3, 32, 32), 10)

    if takes:
        spec.defense.build().check_network(bare, (3, 32, 32))
        return
    with pytest.raises(ValueError, match="i_bau needs gradients of gradients"):
        spec.defense.build().check_network(bare, (3, 32, 32))


@pytest.mark.parametrize("attack", ["sleeper_agent", "gradient_matching", "metapoison"])
def test_an_attack_by_gradients_of_gradients_refuses_such_a_network_before_anything_is_computed(
    attack: str, tmp_path: Path
) -> None:
    victim = "torchvision:mobilenet_v3_small"
    few = TINY | ({} if attack == "sleeper_agent" else {"attack.poisons": 3})
    spec = make_spec("digits", attack, "none", victim=victim, overrides=few)

    with pytest.raises(ValueError, match=f"{attack} needs gradients of gradients"):
        run_experiment(spec, Context(cache=StageCache(tmp_path)))

    assert not list(tmp_path.rglob("*.safetensors"))
    other = make_spec("digits", attack, "none", overrides=few)
    other.attack.build().check_network(outline(other.victim, (1, 16, 16), 10), (1, 16, 16))


def test_gradients_of_attention_have_gradients() -> None:
    """Defenses and attacks that unroll training need them, and torch's faster attention has none."""

    class Attending(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            words = x.flatten(2)
            return nn.functional.scaled_dot_product_attention(words, words, words)

    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(Foreign(Attending)(x).square().sum(), x, create_graph=True)

    assert torch.autograd.grad(slope.square().sum(), x)[0].abs().sum() > 0


def test_training_a_network_of_torchvision_gives_the_same_numbers_twice() -> None:
    settings = {"training.epochs": 1, "training.batch_size": 20}
    spec = make_spec(
        "cifar10", "badnets", "none", victim="torchvision:mobilenet_v3_small", overrides=settings
    )
    data = noise_images(40, (3, 32, 32))

    first, second = (train_from_scratch("victim", spec, [data], Context()).tensors() for _ in range(2))

    start = new_network(spec, data, Context()).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["varying.head.weight"][0], start["head.weight"])


def test_a_module_that_draws_its_weights_draws_all_below_it() -> None:
    class Apart(nn.Sequential):
        def initialize(self, generator: torch.Generator) -> None:
            for parameter in self.parameters():
                nn.init.constant_(parameter, 3.0)

    model = nn.Sequential(nn.Linear(2, 2), Apart(nn.Linear(2, 2), nn.Linear(2, 2)))
    initialize(model, derive(0, "test"))

    assert all(bool((p == 3).all()) for p in model[1].parameters())
    assert not bool((model[0].weight == 3).any())
