"""Published numbers: the files are whole, add up, and say where they come from; broken ones are explained."""

from pathlib import Path

import pytest
from core_helpers import SMALL_TRANSFER
from published_helpers import toy_folder

from poisonlab import registry
from poisonlab.context import Context
from poisonlab.defenses.friends import STATED_BATCH
from poisonlab.measure.metrics import der
from poisonlab.pipeline.experiment import run_experiment
from poisonlab.published.specs import NotRunnable, cells, spec_of, specs_of
from poisonlab.published.tables import PublishedError, Recipe, published_tables
from poisonlab.spec.config import make_spec
from poisonlab.store import Store

# The averages that the papers print themselves, in percent: (ACC, ASR) a defense, and the average DER.
AVERAGES = {
    "ftsam_cifar10": {
        "none": (91.24, 95.71),
        "ft": (91.83, 38.81),
        "fp": (92.14, 21.72),
        "nad": (91.49, 23.69),
        "nc": (87.89, 63.38),
        "anp": (90.80, 30.12),
        "abl": (65.51, 23.37),
        "i_bau": (88.19, 5.73),
        "ft_sam": (92.10, 2.47),
    },
    "ftsam_tiny_imagenet": {
        "none": (56.35, 89.64),
        "ft": (55.75, 41.76),
        "fp": (48.23, 21.04),
        "nad": (49.05, 25.02),
        "nc": (54.73, 49.01),
        "anp": (42.27, 14.05),
        "abl": (47.67, 3.71),
        "i_bau": (52.42, 60.54),
        "ft_sam": (52.18, 1.16),
    },
}
# of the second table only: those of the first do not follow from its own cells
RATINGS = {"ft": 73.64, "fp": 80.24, "nad": 78.66, "nc": 69.50, "anp": 80.76, "i_bau": 62.59, "ft_sam": 92.16}


@pytest.mark.parametrize("name", AVERAGES)
def test_columns_average_to_what_the_paper_prints(name: str) -> None:
    values = published_tables()[name].values

    for defense, printed in AVERAGES[name].items():
        column = [row[defense] for row in values.values()]
        for mine, theirs in zip(("accuracy", "success"), printed, strict=True):
            assert sum(getattr(n, mine) for n in column) / len(column) == pytest.approx(theirs, abs=0.011), (
                defense
            )


def test_effectiveness_ratings_average_to_what_the_paper_prints() -> None:
    values = published_tables()["ftsam_tiny_imagenet"].values

    for defense, printed in RATINGS.items():
        pairs = [(row["none"], row[defense]) for row in values.values()]
        rated = [der(b.accuracy / 100, b.success / 100, a.accuracy / 100, a.success / 100) for b, a in pairs]
        assert 100 * sum(rated) / len(rated) == pytest.approx(printed, abs=0.02), defense


def test_recalled_numbers_of_anp_give_the_averages_that_are_known() -> None:
    table = published_tables()["anp_cifar10"]
    before, after = ([row[d] for row in table.values.values()] for d in ("none", "anp"))
    drop = [
        sum(getattr(n, k) for n in before) - sum(getattr(n, k) for n in after)
        for k in ("success", "accuracy")
    ]

    assert [d / 6 for d in drop] == pytest.approx([96.44, 1.473], abs=0.005)
    assert table.provenance == "recalled"


def test_the_table_of_anp_states_the_rule_that_its_cells_prune_by() -> None:
    table = published_tables()["anp_cifar10"]
    rule = spec_of(table, "badnets", "anp").defense.params

    assert (rule.choose_by, rule.accuracy_price, rule.threshold) == ("rule", 10, 0.2)
    assert "10 points are worth one of accuracy" in table.reproduce.deviations[0]
    assert "threshold on the masks, 0.2" in table.reproduce.deviations[0]


@pytest.mark.parametrize("name", published_tables())
def test_every_cell_is_runnable_or_says_what_is_missing(name: str) -> None:
    """Under both recipes, so that a renamed parameter of a method shows here and not on a GPU."""
    table = published_tables()[name]

    for attack, defense in cells(table):
        for recipe in ("faster", "published"):
            try:
                specs = specs_of(table, attack, defense, recipe, seed=3)
            except NotRunnable as reason:
                assert "does not fit" not in str(reason)
            else:
                assert {(spec.preset, spec.victim.name) for spec in specs} == {
                    ("paper", table.reproduce.victim)
                }
                assert len({(spec.group(), spec.seed) for spec in specs}) == len(
                    table.attacks[attack].choices()
                )


@pytest.mark.parametrize("name", published_tables())
def test_under_the_preset_full_no_two_cells_are_one_run(name: str) -> None:
    """Else a number measured at one quality of JPEG would stand beside that published for another."""
    table = published_tables()[name]
    runs: dict[tuple[str, int], tuple[str, str]] = {}

    for cell in cells(table):
        try:
            faster = specs_of(table, *cell)
        except NotRunnable:
            continue
        specs = specs_of(table, *cell, "full")
        assert {s.protocol for s in specs} == {s.protocol for s in faster}
        for spec in specs:
            assert runs.setdefault((spec.group(), spec.seed), cell) == cell


def test_under_the_preset_full_attack_and_column_are_the_tables() -> None:
    tables = published_tables()

    assert spec_of(tables["puregen_scratch"], "gm", "jpeg_25", "full").defense.params.quality == 25
    assert spec_of(tables["puregen_poisoned_source"], "ns_8", "ebm_same", "full").public_poison == 1
    assert spec_of(tables["ftsam_clean_images"], "badnets", "ft_sam_5", "full").clean_images == 2500
    assert spec_of(tables["nad_readme"], "badnets", "none", "full").attack.params.target_class == 5
    plain = spec_of(tables["ftsam_cifar10"], "badnets", "ft", "full")
    assert plain == make_spec("cifar10", "badnets", "ft", preset="full")


def test_the_protocol_of_the_largest_table_is_its_papers() -> None:
    spec = spec_of(published_tables()["ftsam_cifar10"], "badnets", "ft")

    assert spec.clean_images == 2500 and spec.attack.params.poison_rate == 0.1
    parts = spec.dataset.params
    assert parts.train_images + parts.reserve_images + parts.public_images <= 50_000
    assert (spec.training.epochs, spec.training.schedule, spec.precision) == (30, "one_cycle", "bfloat16")
    longer = spec_of(published_tables()["ftsam_cifar10"], "badnets", "ft", "published")
    assert (longer.training.epochs, longer.training.lr) == (100, 0.01)


@pytest.mark.parametrize(
    ("table", "attack", "runs", "targets"),
    [
        ("puregen_scratch", "gm", 10, 100),
        ("puregen_scratch", "ns", 10, 0),
        ("puregen_tiny_imagenet", "gm", 10, 100),
        ("puregen_linear", "black", 2, 50),
        ("puregen_linear", "white", 1, 100),
        ("puregen_fine_tune", "bp", 1, 50),
        ("puregen_power", "ns_16_10", 10, 0),
    ],
)
def test_a_cell_covers_the_published_targets_or_classes(
    table: str, attack: str, runs: int, targets: int
) -> None:
    specs = specs_of(published_tables()[table], attack, "none")

    assert len(specs) == runs
    if targets:
        assert sum(spec.attack.params.targets for spec in specs) == targets
    else:
        assert [spec.attack.params.target_class for spec in specs] == list(range(10))


@pytest.mark.parametrize(
    ("table", "attack", "steps", "temperature", "levels"),
    [
        ("puregen_scratch", "ns", 150, 1e-4, 75),
        ("puregen_linear", "black", 500, 7.5e-5, 125),
        ("puregen_fine_tune", "bp", 1000, 1e-4, 125),
    ],
)
def test_purification_goes_as_far_as_published_for_its_scenario(
    table: str, attack: str, steps: int, temperature: float, levels: int
) -> None:
    ebm, ddpm = (
        spec_of(published_tables()[table], attack, f"puregen_{kind}", "published") for kind in ("ebm", "ddpm")
    )

    assert (ebm.defense.params.steps, ebm.defense.params.purify_temperature) == (steps, temperature)
    assert ddpm.defense.params.ddpm_steps == levels
    assert {ebm.defense.params.source, ddpm.defense.params.source} == {"cinic10"}
    assert (ebm.defense.params.filters, ddpm.defense.params.ddpm_network) == (128, "L")


@pytest.mark.parametrize(
    ("table", "attack", "epic", "friends", "recipe"),
    [  # EPIC: drop_after, every; FRIENDS: step over the batch it is a mean over; epochs, batch, lr, drops
        ("puregen_linear", "black", (1, 1), 100 / 64, (40, 64, 0.1, "0.375, 0.625, 0.875")),  # 15, 25, 35
        ("puregen_linear", "white", (0, 1), 100 / 64, (40, 64, 0.01, "0.75")),  # 30
        ("puregen_fine_tune", "bp", (0, 1), 100 / 128, (60, 128, 1e-4, "0.25, 0.5, 0.75")),  # 15, 30, 45
    ],
)
def test_baselines_in_transfer_have_the_settings_of_the_repository(
    table: str, attack: str, epic: tuple[int, int], friends: float, recipe: tuple[int, int, float, str]
) -> None:
    mine, theirs = (spec_of(published_tables()[table], attack, name) for name in ("epic", "friends"))
    dropping, noise = mine.defense.params, theirs.defense.params
    victim = mine.fine_tune if mine.protocol == "fine_tune_transfer" else mine.head

    assert (dropping.subset, dropping.drop_after, dropping.every) == (0.1, *epic)
    assert (noise.epoch, noise.steps, noise.mu, noise.eps) == (0, 20, 16, 16)
    assert (noise.noise, noise.noise_eps, noise.lr / STATED_BATCH) == ("bernoulli", 8, friends)
    assert (victim.epochs, victim.batch_size, victim.lr, victim.drops) == recipe
    assert victim.weight_decay == 5e-4


@pytest.mark.parametrize("recipe", ["faster", "published"])
@pytest.mark.parametrize(
    "table", ["scratch", "scratch_80", "mobilenetv2", "densenet121", "sources", "cinic10", "tiny_imagenet"]
)
def test_victims_from_scratch_have_the_optimizer_of_the_repository(table: str, recipe: Recipe) -> None:
    published = published_tables()[f"puregen_{table}"]
    training = spec_of(published, next(iter(published.attacks)), "none", recipe).training
    drops = {200: "0.5, 0.75", 80: "0.375, 0.625, 0.875"}  # 100, 150; 30, 50, 70

    assert (training.lr, training.momentum, training.weight_decay) == (0.1, 0.9, 5e-4)
    assert (training.batch_size, training.crop_padding, training.label_smoothing) == (128, 4, 0)
    assert not training.nesterov
    if training.epochs in drops:  # the faster recipe of Tiny-ImageNet is our own
        assert (training.schedule, training.drops) == ("steps", drops[training.epochs])


@pytest.mark.parametrize(
    ("table", "attack", "defense"),
    [
        ("puregen_linear", "white", "epic"),
        ("puregen_linear", "black", "friends"),
        ("puregen_fine_tune", "bp", "epic"),
        ("puregen_fine_tune", "bp", "friends"),
    ],
)
def test_baselines_in_transfer_run(table: str, attack: str, defense: str) -> None:
    """The cell's defense and recipe of the victim, on 60 digits for 4 epochs."""
    cell = spec_of(published_tables()[table], attack, defense)
    small = make_spec("digits", "bullseye_polytope", defense, overrides=SMALL_TRANSFER)
    four = {"epochs": 4}
    spec = small.model_copy(
        update={
            "protocol": cell.protocol,
            "defense": cell.defense,
            "head": cell.head.model_copy(update=four),
            "fine_tune": cell.fine_tune.model_copy(update=four),
        }
    )

    found = run_experiment(spec, Context()).metrics

    assert 0 <= found["clean_accuracy"] <= 1 and 0 <= found["poison_success"] <= 1


def test_settings_of_a_cell_are_over_those_of_its_methods(tmp_path: Path) -> None:
    own = '[cell_settings.badnets]\ntuned = { "defense.epochs" = 3 }\n\n[values]'
    table = published_tables(toy_folder(tmp_path, **{"[values]": own}))["toy"]

    assert spec_of(table, "badnets", "tuned").defense.params.epochs == 3


def test_poisons_are_the_published_share() -> None:
    tables = published_tables()
    scratch, tiny = (
        spec_of(tables[name], "gm", "none") for name in ("puregen_scratch", "puregen_tiny_imagenet")
    )
    strong = spec_of(tables["puregen_power"], "ns_16_10", "none")

    for spec, share in ((scratch, 0.01), (tiny, 0.0025)):
        assert spec.attack.params.poisons / spec.dataset.params.train_images == pytest.approx(share, rel=0.01)
    assert (strong.attack.params.eps, strong.attack.params.poison_rate) == (16, 0.1)
    assert strong.attack.params.test_multiplier == 1


def test_no_key_of_a_method_shadows_another_method() -> None:
    """``--only`` takes a table's keys before registered names: a key that is a name must mean that method."""
    for table in published_tables().values():
        for kind, methods in (("attack", table.attacks), ("defense", table.defenses)):
            for key, method in methods.items():
                assert key not in registry.KINDS[kind] or method.name in (key, None), f"{table.id}: {key}"


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        (
            {"[97.5, 80.0]": "[97.5, 180.0]"},
            "values.badnets.none.success: Input should be less than or equal to 100",
        ),
        ({"[97.5, 80.0]": "[97.5]"}, "a list holds accuracy and success, got 1 numbers"),
        ({"[97.5, 80.0]": "{}"}, "a cell needs accuracy or success"),
        (
            {"theirs = [90.0": "nobody = [90.0"},
            "values name 'nobody', which is not among: none, tuned, cut, theirs",
        ),
        (
            {'provenance = "read"': 'provenance = "rumour"'},
            "provenance: Input should be 'read' or 'recalled'",
        ),
        ({'place = "Table 7"': 'site = "Table 7"'}, "place: Field required"),
        (
            {"[values]": "[cell_settings.nobody]\n\n[values]"},
            "cell_settings name 'nobody', which is not among: badnets, other",
        ),
        ({'id = "toy"': 'id = "other"'}, "id 'other' must be the file's name, 'toy'"),
        ({'id = "toy"': "id = "}, "toy.toml: Invalid value"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(
    tmp_path: Path, replaced: dict[str, str], said: str
) -> None:
    with pytest.raises(PublishedError) as error:
        published_tables(toy_folder(tmp_path, **replaced))

    assert str(error.value).startswith("toy.toml: ") and said in str(error.value)


def test_the_store_holds_every_number_as_a_rate_with_its_source(store: Store) -> None:
    cells_of_table = (
        "SELECT metric, value, provenance, source FROM published WHERE table_id = ? AND attack = ?"
    )

    found = store.db.rows(
        f"{cells_of_table} AND defense = 'ft' ORDER BY metric", ["ftsam_cifar10", "badnets"]
    )

    assert [(metric, value) for metric, value, *_ in found] == [("asr", 0.017), ("clean_accuracy", 0.9029)]
    assert all(p == "read" and "ICCV 2023" in source and "Table 1" in source for *_, p, source in found)


def test_the_stores_copy_follows_the_files(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = "SELECT count(*), count(DISTINCT table_id) FROM published"
    for folder, expected in ((None, None), (toy_folder(tmp_path / "tables"), (7, 1))):
        if folder:
            monkeypatch.setattr("poisonlab.published.tables.FOLDER", folder)
        store = Store(results, reference=tmp_path / "reference")
        found = store.db.rows(count)[0]
        store.close()
        assert found == expected or (expected is None and found[1] == len(published_tables()))
