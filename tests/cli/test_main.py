"""The command line, in this process but for what must be blocked before the first import."""

import csv
import io
import itertools
import json
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from poisonlab.cli import main, run
from poisonlab.cli import results as results_commands
from poisonlab.cli.engine import run_all
from poisonlab.events import StageStarted
from poisonlab.records.record import read_record
from poisonlab.store import Store, StoreLocked

RUN = ["run", "--dataset", "digits", "--attack", "badnets", "--defense", "none"]
TINY = ["--set", "training.epochs=1", "--set", "dataset.train_images=100", "--set", "dataset.test_images=60"]
LONGER = ["--set", "training.epochs=5"]  # enough for models that do not give one answer to everything


@pytest.fixture(autouse=True)
def no_reference(monkeypatch, tmp_path):
    monkeypatch.setattr(Store.__init__, "__defaults__", (tmp_path / "reference",))


def run_cli(capsys, *arguments: str) -> tuple[int, str, str]:
    code = main.main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_run_ends_stdout_with_one_json_object(results, capsys):
    code, out, _ = run_cli(capsys, *RUN, *TINY, "--json")
    said = json.loads(out.splitlines()[-1])
    assert code == 0
    assert said.keys() >= {"run_id", "metrics", "timings", "cached", "spec"}
    assert said["metrics"].keys() >= {
        "clean_accuracy",
        "clean_accuracy_undefended",
        "asr",
        "asr_undefended",
        "asr_control",
    }
    _, out, _ = run_cli(capsys, *RUN, *TINY, "--json")
    again = json.loads(out.splitlines()[-1])
    assert again["cached"] == ["poison", "control", "victim"] and again["timings"]["victim"] == 0
    code, out, _ = run_cli(capsys, "leaderboard", "--json")
    assert json.loads(out)[0]["run_ids"] == [again["run_id"]]


def test_no_cache_neither_reads_nor_writes_it(results, capsys):
    code, out, _ = run_cli(capsys, *RUN, *TINY, "--no-cache", "--json")
    assert code == 0 and json.loads(out)["cached"] == [] and not (results / "cache").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([*RUN[:2], "mnist", *RUN[3:]], "choose one of: cifar10, cifar100, cifar3, cinic10, digits, folder"),
        ([*RUN, "--set", "attack.poison_rate=2"], "less than or equal to 1 (got 2)"),
        ([*RUN, "--set", "attack.rate=2"], "choose one of: attack.target_class"),
        ([*RUN, "--set", "training.lr=NaN"], "training.lr"),
        ([*RUN, "--set", "epochs"], "a setting is part.param=value"),
        ([*RUN, "--seed", "-1"], "greater than or equal to 0"),
        ([*RUN, "--preset", "huge"], "'quick', 'full', 'paper'"),
        ([*RUN, "--device", "tpu"], "'auto', 'cpu', 'cuda'"),
        (RUN[:3], "--attack, --defense"),
        (["nonsense"], "'run'"),
        (["list", "models"], "'attacks'"),
        (["leaderboard", "--sort", "x"], "choose one of: group"),
        (["leaderboard", "--attack", "x"], "choose one of: adaptive_blend"),
        (["export", "x"], "--runs id,id or --all"),
        (["export", "x", "--runs", "../y"], "not a run id"),
        (["export", "x", "--runs", ",,,"], "--runs names no run"),
        (["reproduce", "nad_readme", "--list", "--only", ","], "--only names nothing; choose among"),
        ([*RUN, "--set", "training.epochs=true"], "training.epochs: must be a number, not true"),
        ([*RUN, "--set", "dataset.train_images=1000000000000000000"], "dataset.train_images"),
        ([*RUN, "--set", "dataset.train_images=1401"], "the dataset has 1400 and 397"),
        ([*RUN, "--set", "x" * 5000], "a setting is part.param=value"),
        ([*RUN[:2], "x" * 5000, *RUN[3:]], "choose one of: cifar10"),
        (["leaderboard", "--sort", "x" * 5000], "choose one of: group"),
        (["sweep", *RUN[1:], "--seed", "0,a"], "whole numbers"),
        (["sweep", *RUN[1:], "--clean-images", "10,a"], "--clean-images takes whole numbers"),
        ([*RUN, "--set", "attack.target_class=70"], "not among the 10 classes 0 to 9 of digits"),
        (["sweep", *RUN[1:], "--clean-images", "10", "--set", "clean_images=20"], "not both"),
    ],
)
def test_impossible_commands_exit_2_with_one_line(results, capsys, arguments, expected):
    code, out, err = run_cli(capsys, *arguments)
    assert (code, out) == (2, "")
    assert expected in err and len(err.splitlines()) == 1 and len(err) <= 501


def test_a_failed_run_exits_1_and_says_why(results, capsys):
    code, out, err = run_cli(capsys, *RUN, "--set", "attack.poison_rate=1")
    assert (code, out) == (1, "")
    assert "candidate images" in err.splitlines()[-1]


def test_sweep_runs_what_fits_and_reports_the_rest(results, capsys):
    arguments = [
        "--dataset",
        "digits",
        "--attack",
        "badnets,bullseye_polytope",
        "--defense",
        "none",
        "--seed",
        "0,1",
    ]
    code, out, err = run_cli(
        capsys, "sweep", *arguments, *TINY, *LONGER, "--set", "attack.poison_rate=0.2", "--json"
    )
    seeds = [json.loads(line)["spec"]["seed"] for line in out.splitlines()]
    assert code == 0 and seeds == [0, 1]
    assert err.count("skipped: unknown parameter 'attack.poison_rate'") == 2
    code, out, _ = run_cli(capsys, "leaderboard", "--csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert code == 0 and row["n"] == "2"


@pytest.mark.parametrize("command", ["run", "sweep"])
@pytest.mark.parametrize("setting", ["seed=3", "preset=paper"])
def test_a_value_with_an_option_of_its_own_is_no_setting(capsys, command, setting):
    """``--seed 4 --set seed=3`` ran seed 3, and quick values could be recorded as those of the preset paper."""
    names = ["--dataset", "digits", "--attack", "badnets", "--defense", "none"]
    code, _, err = run_cli(capsys, command, *names, "--set", setting)
    name = setting.partition("=")[0]

    assert code == 2 and f"give --{name}, not --set {name}" in err


def test_a_sweep_takes_all_defenses_of_one_attack_and_seed_together():
    options = main._parser().parse_args(
        [
            "sweep",
            "--dataset",
            "digits",
            "--attack",
            "badnets,blend",
            "--defense",
            "none,awm",
            "--seed",
            "0,1",
        ]
    )

    order = [(s.attack.name, s.seed, s.defense.name) for s in run._matrix(options)]

    assert order == list(itertools.product(("badnets", "blend"), (0, 1), ("none", "awm")))


def test_exported_runs_come_back_checked(results, capsys, tmp_path):
    run_cli(capsys, *RUN, *TINY)
    box, other = tmp_path / "box", tmp_path / "other"
    assert run_cli(capsys, "export", str(box), "--all")[0] == 0
    code, out, _ = run_cli(capsys, "import", str(box), "--results", str(other))
    assert code == 0 and out.startswith("1 runs imported")
    assert run_cli(capsys, "import", str(box), "--results", str(other))[1].startswith("0 runs imported")
    _, out, _ = run_cli(capsys, "leaderboard", "--results", str(other), "--json")
    assert json.loads(out)[0]["source"] == "imported"


@pytest.mark.parametrize("evil", ["changed", "link", "id"])
def test_an_evil_folder_is_refused(results, capsys, tmp_path, evil):
    run_cli(capsys, *RUN, *TINY)
    box, other = tmp_path / "box", tmp_path / "other"
    run_cli(capsys, "export", str(box), "--all")
    (folder,) = box.iterdir()
    if evil == "changed":
        (folder / "poison.safetensors").write_bytes(b"\x80\x04pickle")
    elif evil == "link":
        (folder / "poison.safetensors").unlink()
        (folder / "poison.safetensors").symlink_to("/etc/hostname")
    else:
        text = (folder / "run.json").read_text()
        (folder / "run.json").write_text(text.replace(folder.name, "../../../escaped"))
    code, out, err = run_cli(capsys, "import", str(box), "--results", str(other))
    assert code == 1 and "1 refused" in out and "refused:" in err
    assert not list((other / "runs").glob("*")) and not (tmp_path / "escaped").exists()


def test_the_leaderboard_ranks_the_defenses_of_a_block(results, capsys):
    run_cli(capsys, *RUN)  # changed values would count for no rank

    code, out, _ = run_cli(capsys, "leaderboard", "--rank", "--json")
    table_code, table, _ = run_cli(capsys, "leaderboard", "--rank")

    assert (code, table_code) == (0, 0)
    assert [(row["name"], row["tasks"], row["rank"]) for row in json.loads(out)] == [("none", 1, None)]
    assert "digits, backdoor, quick: defenses over 1 attack\n" in table and "none" in table

    filtered = run_cli(capsys, "leaderboard", "--rank", "--attack", "badnets")
    elsewhere = run_cli(capsys, "leaderboard", "--rank", "--preset", "paper")
    dear = run_cli(capsys, "leaderboard", "--rank", "--loss-allowed", "2")

    assert (filtered[0], elsewhere[0], dear[0]) == (2, 2, 2)
    assert "leave out --attack" in filtered[2]
    assert "there are: digits, backdoor, quick" in elsewhere[2]
    assert "must lie in [0, 1]" in dear[2]


def test_the_leaderboard_names_runs_that_it_leaves_out(results, capsys):
    for seed in ("0", "1"):
        run_cli(capsys, *RUN, *TINY, "--seed", seed)
    cut = next((results / "runs").iterdir())
    record = cut / "run.json"
    record.write_bytes(record.read_bytes()[:-40])
    (results / "poisonlab.duckdb").unlink()
    code, out, err = run_cli(capsys, "leaderboard", "--json")
    assert code == 0 and [row["n"] for row in json.loads(out)] in ([1], [0])
    assert "left out:" in err and cut.name in err and len(err.splitlines()) == 1


def test_what_runs_will_take_is_said_before_they_begin(results, capsys):
    _, _, err = run_cli(capsys, *RUN, *TINY, "--json")
    assert err.splitlines()[0].startswith(
        "time unknown. Nothing alike was ever measured of: Poisons, Control"
    )

    _, _, err = run_cli(capsys, *RUN, *TINY, "--json")
    said = err.splitlines()[0]
    assert (
        said.startswith("time under 1 s.")
        and "Already in the cache: Poisons, Control, Undefended victim" in said
    )
    _, _, err = run_cli(capsys, "sweep", *RUN[1:], *TINY, "--again", "--no-cache", "--json")
    assert (
        "The time is from runs on this machine." in err.splitlines()[0] and "cache" not in err.splitlines()[0]
    )


def test_a_running_app_does_not_stop_a_run(results, capsys, monkeypatch):
    def locked(self, results: Path, reference: Path = results) -> None:
        raise StoreLocked(results / "poisonlab.duckdb", 4711)

    monkeypatch.setattr(Store, "__init__", locked)
    code, _, err = run_cli(capsys, *RUN, *TINY)
    assert code == 0 and err.count("PID 4711") == 1 and "about" not in err
    assert len(list((results / "runs").glob("*/run.json"))) == 1
    code, _, err = run_cli(capsys, "leaderboard")
    assert code == 1 and "PID 4711" in err and len(err.splitlines()) == 1


def test_list_tells_parameters_bounds_and_sources(capsys):
    code, out, _ = run_cli(capsys, "list", "attacks", "--json")
    (badnets,) = [a for a in json.loads(out) if a["name"] == "badnets"]
    (rate,) = [p for p in badnets["parameters"] if p["name"] == "poison_rate"]
    assert (
        code == 0
        and rate["bounds"] == {"gt": 0, "le": 1}
        and rate["paper"] == 0.1
        and "BackdoorBench" in rate["source"]
    )
    code, out, _ = run_cli(capsys, "list")
    assert code == 0 and all(name in out for name in ("badnets", "awm", "digits", "resnet8"))
    assert "Runs under linear_transfer, fine_tune_transfer." in out
    assert set(json.loads(run_cli(capsys, "list", "--json")[1])) == set(results_commands.describe.PLURALS)


def test_doctor_names_everything(results, capsys):
    code, out, _ = run_cli(capsys, "doctor")
    assert code == 0
    assert all(
        word in out for word in ("device", "threads", "database", "stage cache", "disk free", "data: digits")
    )


def test_doctor_exits_1_where_something_cannot_work(results, capsys):
    results.mkdir()
    (results / "poisonlab.duckdb").write_bytes(b"x" * 5000)
    code, out, _ = run_cli(capsys, "doctor")
    assert code == 1 and "!!  database: " in out and "move the file away" in out


def test_doctor_finds_nothing_wrong_with_a_dashboard_that_runs(results, capsys, monkeypatch):
    def held(path, reference):
        raise StoreLocked(path, 1234)

    results.mkdir()
    (results / "poisonlab.duckdb").touch()
    monkeypatch.setattr(Store, "__init__", held)
    held.__defaults__ = (None,)
    code, out, _ = run_cli(capsys, "doctor")
    assert code == 0 and "ok  database: " in out and "PID 1234" in out


@pytest.mark.slow
def test_a_run_needs_none_of_the_app(results):
    """As on a bare GPU node: no database, no browser."""
    missing = ["duckdb", "streamlit", "pandas", "plotly", "pyarrow"]
    block = f"import sys; sys.modules.update(dict.fromkeys({missing}))"
    code = f"{block}; from poisonlab.cli.main import main; sys.exit(main({[*RUN, *TINY, '--json']}))"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "duckdb is not installed" in done.stderr
    assert (results / "runs" / json.loads(done.stdout)["run_id"] / "run.json").exists()


# -- signals ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking it")
@pytest.mark.parametrize(
    ("number", "code", "said", "recorded"),
    (
        (signal.SIGTERM, 143, "stopped by SIGTERM", "stopped by SIGTERM"),
        (signal.SIGINT, 130, "cancelled", "cancelled from the keyboard"),
    ),
)
def test_a_signal_in_a_run_ends_it_with_a_record(results, capsys, monkeypatch, number, code, said, recorded):
    def stop(line, event) -> None:
        if event == StageStarted("control"):
            signal.raise_signal(number)

    monkeypatch.setattr(run.ProgressLine, "__call__", stop)
    before = signal.getsignal(number)
    ended, out, err = run_cli(capsys, *RUN, *TINY)
    assert (ended, out) == (code, "") and said in err.splitlines()[-1]
    (folder,) = (results / "runs").iterdir()
    record, _ = read_record(folder)
    assert record.state == "cancelled" and record.message == recorded
    assert signal.getsignal(number) is before


def test_a_command_in_another_thread_leaves_signals_alone(results, capsys):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main.main(["list", "attacks"])))
    thread.start()
    thread.join()
    assert codes == [0] and "badnets" in capsys.readouterr().out


SWEEP = ["sweep", *RUN[1:-1], "none,ft", *TINY]


def test_a_sweep_starts_nothing_that_is_finished_unless_asked_again(results, capsys):
    code, out, _ = run_cli(capsys, *SWEEP)
    assert code == 0 and out.count("badnets none") + out.count("badnets ft") == 2
    code, out, said = run_cli(capsys, *SWEEP)
    assert code == 0 and "2 of 2 are finished already" in said
    assert len(list((results / "runs").iterdir())) == 2
    assert [line.split()[2] for line in out.splitlines() if line.startswith("digits")] == ["none", "ft"]
    code, _, _ = run_cli(capsys, *SWEEP, "--again")
    assert code == 0 and len(list((results / "runs").iterdir())) == 4


def test_a_sweep_measures_what_failed_once_more(results, capsys, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr("poisonlab.runner.recorder.run_experiment", lambda *_: 1 / 0)
        assert run_cli(capsys, *SWEEP)[0] == 1
    code, _, said = run_cli(capsys, *SWEEP)
    assert code == 0 and "finished already" not in said


def test_an_engine_chooses_devices_itself(results, capsys):
    code, _, said = run_cli(capsys, *SWEEP, "--workers", "2", "--device", "cpu")
    assert code == 2 and "an engine chooses devices" in said
    code, _, said = run_cli(capsys, *SWEEP, "--engine", "ray", "--engine-option", "gpu=2")
    assert code == 2 and "takes workers, address, cpus, gpus" in said


def test_a_sweep_that_is_stopped_leaves_what_others_had_queued(results, spec, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    with closing(Store(results)) as store:
        (theirs,) = store.jobs.enqueue([spec()], person="ada@example.org")
    monkeypatch.setattr("poisonlab.runner.pool.ProcessRunner.start", lambda runner: None)
    monkeypatch.setattr("poisonlab.store.jobs.Jobs.endings", stop)
    with pytest.raises(KeyboardInterrupt):
        list(run_all([spec(), spec(seed=1)], results, "local", ["workers=1"]))
    with closing(Store(results)) as store:
        states = store.jobs.find().set_index("run_id").state
    assert states.pop(theirs) == "queued" and list(states) == ["cancelled"]


@pytest.mark.slow
def test_a_sweep_on_two_workers_is_the_sweep_by_hand(results, capsys, tmp_path):
    code, out, _ = run_cli(capsys, *SWEEP, "--workers", "2", "--json")
    assert code == 0
    found = {run["spec"]["defense"]["name"]: run["metrics"] for run in map(json.loads, out.splitlines())}
    code, out, _ = run_cli(capsys, *SWEEP, "--json", "--results", str(tmp_path / "elsewhere"))
    alone = {run["spec"]["defense"]["name"]: run["metrics"] for run in map(json.loads, out.splitlines())}
    assert found == alone and found.keys() == {"none", "ft"}
    assert not list((results / "workers").iterdir())
