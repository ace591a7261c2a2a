"""The same specs from a shell; ``python -m poisonlab`` is the same program.

``poisonlab ui|list|run|sweep|reproduce|leaderboard|report|export|import|submit|verify|doctor``, and ``multilevel``,
whose games have specs of their own.

Results go to stdout, messages to stderr. Exit codes: 0 done, 1 a run failed or the
machine refused, 2 a command that cannot be, always with one line that says what is allowed;
130 Ctrl-C, 143 SIGTERM.
"""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

import poisonlab
from poisonlab import machine
from poisonlab.cli import check_data, check_model, data, multilevel, pack, reproduce, results, run, ui, zoo
from poisonlab.cli.terminal import (
    FAILED,
    INTERRUPTED,
    TERMINATED,
    USAGE,
    Terminated,
    UsageError,
    check_results,
    ends_on_sigterm,
    one_line,
    say,
)
from poisonlab.multilevel.spec import ORDERS
from poisonlab.published.tables import PublishedError
from poisonlab.records.record import RecordError
from poisonlab.registry import UnknownName
from poisonlab.runner.options import ENGINES
from poisonlab.runner.parts import EngineError
from poisonlab.spec import describe
from poisonlab.spec.config import PRESETS, SpecError
from poisonlab.spec.threats import THREATS


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    if not os.environ.get("POISONLAB_DEBUG"):
        logging.getLogger("poisonlab").setLevel(logging.CRITICAL)  # the one line below is enough
    try:
        options = _parser().parse_args(arguments)
        if options.command is not results.doctor:  # which says so itself, among all else
            check_results(options.results)
        with ends_on_sigterm():
            return int(options.command(options))
    except (UsageError, UnknownName, SpecError, machine.DeviceError, EngineError) as error:
        say(f"poisonlab: {one_line(error)}")
        return USAGE
    except ModuleNotFoundError as error:
        say(
            f"poisonlab: this needs {error.name}, which is not installed; `poisonlab doctor` lists what is missing"
        )
        return FAILED
    except (RuntimeError, OSError, RecordError, PublishedError) as error:
        say(f"poisonlab: {one_line(error)}")
        return FAILED
    except Terminated as error:
        say(f"poisonlab: {error}; finished stages stay in the cache")
        return TERMINATED
    except KeyboardInterrupt:
        say("poisonlab: cancelled; finished stages stay in the cache")
        return INTERRUPTED


class Command(Protocol):
    """Adds a command to the parser."""

    def __call__(self, name: str, function: Any, text: str) -> argparse.ArgumentParser: ...


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="poisonlab", description="Attacks on training data and defenses, measured.", allow_abbrev=False
    )
    commands = parser.add_subparsers(metavar="command", required=True)

    def command(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(command=function)
        added.add_argument("--results", type=Path, default=poisonlab.results_folder(), help="results folder")
        return added

    for add in (
        _add_ui,
        _add_runs,
        _add_reproduce,
        _add_multilevel,
        _add_list,
        _add_board,
        _add_report,
        _add_transfer,
        _add_submission,
        _add_data,
        _add_check_model,
        _add_zoo,
        _add_check_data,
    ):
        add(command)
    command("doctor", results.doctor, "What works on this machine")
    return parser


def _add_ui(command: Command) -> None:
    """``ui``."""
    dashboard = command("ui", ui.ui, "Open the dashboard in a browser")
    dashboard.add_argument("--port", type=int, help="8501 by default")
    dashboard.add_argument("--address", help="127.0.0.1 by default; read the README before sharing a server")
    dashboard.add_argument(
        "--host", action="append", default=[], metavar="NAME", help="another name under which it is reached"
    )
    _engine(dashboard)


def _add_runs(command: Command) -> None:
    """``run`` and ``sweep``."""
    one = command("run", run.run, "Run one experiment")
    _experiment(one)
    one.add_argument("--seed", type=int, default=0)
    many = command("sweep", run.sweep, "Run every combination of comma-separated names and seeds")
    _experiment(many)
    many.add_argument("--seed", default="0", help="seeds, separated by commas")
    many.add_argument("--clean-images", default="", help="the defender's budgets, separated by commas")
    many.add_argument("--again", action="store_true", help="run what is finished once more")
    _engine(many)


def _add_reproduce(command: Command) -> None:
    """``reproduce``."""
    again = command(
        "reproduce", reproduce.reproduce, "Measure the cells of a published table, a few minutes at a time"
    )
    again.add_argument("table", nargs="?", help="its id; see --list")
    again.add_argument(
        "--list", action="store_true", help="the tables, or the cells of one, and what is done"
    )
    again.add_argument("--only", metavar="ATTACK,...", help="these attacks of the table")
    again.add_argument("--defenses", metavar="DEFENSE,...", help="these defenses of the table")
    again.add_argument("--seed", type=int, default=0)
    again.add_argument(
        "--minutes", type=float, default=9.0, help="starts nothing that would be lost at their end"
    )
    recipe = again.add_mutually_exclusive_group()
    recipe.add_argument(
        "--published-epochs",
        action="store_const",
        dest="recipe",
        const="published",
        help="train as long as the publication, not the faster recipe",
    )
    recipe.add_argument(
        "--full",
        action="store_const",
        dest="recipe",
        const="full",
        help="the preset full: another network, values of our own; no reproduction",
    )
    again.set_defaults(recipe="faster")
    again.add_argument("--device", choices=machine.DEVICES, default="auto")


def _add_multilevel(command: Command) -> None:
    """``multilevel``."""
    games = command(
        "multilevel", multilevel.multilevel, "Regression under a poisoner: three players against two"
    )
    games.add_argument(
        "--data", type=Path, metavar="FILE", help="a CSV of numbers; scikit-learn's diabetes by default"
    )
    games.add_argument("--target", default="", help="the column to be predicted; the last one by default")
    games.add_argument("--penalty", help="what the attacker pays, separated by commas")
    games.add_argument("--noise", help="deviations of noise on the test inputs, separated by commas")
    games.add_argument("--seeds", type=int, help="how many random splits")
    games.add_argument("--order", choices=list(ORDERS), help="who foresees whom")
    games.add_argument(
        "--set", action="append", default=[], metavar="param=value", help="such as attacker_steps=30"
    )
    games_form = games.add_mutually_exclusive_group()
    games_form.add_argument("--csv", action="store_true", help="every game as CSV")
    games_form.add_argument("--json", action="store_true", help="the whole record")


def _add_list(command: Command) -> None:
    """``list``."""
    listing = command("list", results.list_, "What can be chosen, with parameters, bounds and sources")
    listing.add_argument("what", nargs="?", choices=list(describe.PLURALS))
    listing.add_argument("--json", action="store_true")


def _add_board(command: Command) -> None:
    """``leaderboard``."""
    board = command("leaderboard", results.leaderboard, "Finished runs, repeats over seeds together")
    for name in ("--dataset", "--attack", "--defense", "--source"):
        board.add_argument(name)
    board.add_argument("--preset", choices=PRESETS)
    board.add_argument("--sort", default="success", metavar="column", help="such as clean_accuracy")
    board.add_argument(
        "--descending",
        action=argparse.BooleanOptionalAction,
        help="largest values first; by default where these are good",
    )
    board.add_argument(
        "--rank",
        nargs="?",
        const="defense",
        choices=("defense", "attack"),
        help="rank defenses, or attacks, of the block with most evidence that fits --dataset, --threat and --preset",
    )
    _ranked(board)
    form = board.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true")
    form.add_argument("--json", action="store_true")
    form.add_argument("--latex", action="store_true", help="a table for a paper, of --rank")
    form.add_argument("--bibtex", action="store_true", help="the papers behind what --rank compares")
    form.add_argument("--parquet", type=Path, metavar="FILE")


def _ranked(parser: argparse.ArgumentParser) -> None:
    """What a ranking takes beside a dataset and a preset."""
    parser.add_argument("--threat", choices=THREATS, help="of the block that is ranked")
    parser.add_argument(
        "--loss-allowed",
        type=float,
        metavar="SHARE",
        help="of accuracy, 0.05 if not given; an attack that is repaired at a higher price counts as not repaired",
    )


def _add_report(command: Command) -> None:
    """``report``."""
    text = "One HTML file that needs no network: a ranking, a run or a comparison of runs"
    whats = command("report", results.report, text).add_subparsers(dest="what", metavar="what", required=True)

    def add(what: str, text: str) -> argparse.ArgumentParser:
        added = whats.add_parser(what, help=text, description=text, allow_abbrev=False)
        added.add_argument("--to", type=Path, required=True, metavar="FILE", help="such as report.html")
        added.add_argument("--results", type=Path, default=argparse.SUPPRESS, help="results folder")
        return added

    board = add("board", "Defenses, or attacks, of a block ranked, as leaderboard --rank, with every run")
    board.add_argument("--rank", choices=("defense", "attack"), default="defense", help="what is ranked")
    board.add_argument("--dataset")
    board.add_argument("--preset", choices=PRESETS)
    _ranked(board)
    add("run", "One run: settings, metrics, curves, pictures").add_argument("run_id", metavar="RUN_ID")
    several = add("compare", "Runs side by side: what differs, metrics, pictures")
    several.add_argument("run_ids", nargs="+", metavar="RUN_ID")


def _add_transfer(command: Command) -> None:
    """``export`` and ``import``."""
    out = command("export", results.export, "Copy run folders")
    out.add_argument("folder", type=Path)
    out.add_argument("--runs", help="run ids, separated by commas")
    out.add_argument("--all", action="store_true", help="every finished run")
    out.add_argument(
        "--with-models", action="store_true", help="their networks, too: safetensors in RUN_ID-models"
    )
    out.add_argument(
        "--with-data", action="store_true", help="their poisons, too: pictures and arrays in RUN_ID-data"
    )
    into = command("import", results.import_, "Check run folders from elsewhere and take them in")
    into.add_argument("folder", type=Path)
    packing = command(
        "results", pack.pack, "Pack run folders into a few files, as those that come with the program"
    )
    packing.add_argument("action", choices=("pack",))
    packing.add_argument(
        "source", type=Path, help="a results folder, a folder of run folders, or an earlier pack"
    )
    packing.add_argument("target", type=Path, help="a new folder, or that of an earlier pack")
    packing.add_argument(
        "--with",
        dest="more",
        type=Path,
        action="append",
        default=[],
        metavar="SOURCE",
        help="pack the runs of this source, too",
    )
    packing.add_argument(
        "--without", type=Path, metavar="FILE", help="leave out the runs whose ids this text file lists"
    )
    packing.add_argument(
        "--open",
        action="append",
        default=[],
        metavar="PAGE=RUN",
        help="the run, with its pictures, on which a page opens, such as triggers=01a2...",
    )


def _add_submission(command: Command) -> None:
    """``submit`` and ``verify``."""
    out = command("submit", _submit, "A finished run with its networks as one file that proves itself")
    out.add_argument("run", metavar="RUN_ID")
    out.add_argument("--to", type=Path, metavar="FILE", help="poisonlab-RUN_ID.zip by default")
    again = command("verify", _verify, "Measure a submission again from its weights, and mark its run")
    again.add_argument("file", type=Path, metavar="FILE")
    again.add_argument("--device", choices=machine.DEVICES, default="auto")
    again.add_argument(
        "--import", dest="take_in", action="store_true", help="take the run in, if its numbers are as claimed"
    )
    again.add_argument("--json", action="store_true")


def _submit(options: argparse.Namespace) -> int:
    from poisonlab.cli.submit import submit  # noqa: PLC0415 - brings all that measures, which takes seconds

    return submit(options)


def _verify(options: argparse.Namespace) -> int:
    from poisonlab.cli.submit import verify_  # noqa: PLC0415 - the same

    return verify_(options)


def _add_data(command: Command) -> None:
    """``data``."""
    own = command("data", None, "Pictures of your own: look at a folder, keep it as a dataset")
    actions = own.add_subparsers(metavar="action", required=True)

    def action(name: str, function: Any, text: str, *, folder: bool = False) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(command=function)
        if folder:
            added.add_argument("folder", help="a folder for each class; or train and test; or a table")
            added.add_argument("--table", default="", help="the .csv of names and labels to go by")
        return added

    action("look", data.look, "What a folder of pictures holds", folder=True)
    new = action("add", data.add, "Keep a folder of pictures as a dataset", folder=True)
    new.add_argument(
        "--name", required=True, help="small letters, digits, underscores; own_NAME is the dataset"
    )
    new.add_argument("--size", type=int, default=64, help="side in pixels")
    new.add_argument(
        "--fit", choices=("crop", "stretch", "pad"), default="crop", help="how a picture becomes a square"
    )
    new.add_argument("--gray", action="store_true", help="one channel instead of three")
    new.add_argument("--replace", action="store_true", help="take the place of a dataset of this name")
    action("list", data.list_, "Your datasets")
    action("remove", data.remove, "Forget a dataset").add_argument("name")


def _add_check_model(command: Command) -> None:
    """``check-model``."""
    check = command(
        "check-model", check_model.check_model, "What the detectors say of a network that you bring"
    )
    check.add_argument(
        "--weights", type=Path, required=True, metavar="FILE", help=".safetensors, .pt or .pth"
    )
    check.add_argument(
        "--victim", required=True, help="its architecture; timm:NAME and torchvision:NAME as well"
    )
    check.add_argument("--images", metavar="FOLDER", help="clean images, a folder for each class")
    check.add_argument("--size", type=int, default=32, help="side in pixels that the network takes")
    check.add_argument("--dataset", help="clean images of a dataset instead")
    check.add_argument("--preset", choices=PRESETS, default="quick", help="recipe of the clean networks")
    check.add_argument("--set", action="append", default=[], metavar="part.param=value")
    check.add_argument(
        "--normalization", choices=("best", "images", "none", "half", "imagenet", "cifar10"), default="best"
    )
    check.add_argument(
        "--clean-networks", type=int, default=19, metavar="NUMBER", help="at least 19 for a verdict"
    )
    check.add_argument("--repair", metavar="DEFENSE", help="repair it as well")
    check.add_argument(
        "--to", type=Path, metavar="FILE", help="where the repaired weights go, as safetensors"
    )
    check.add_argument("--device", choices=machine.DEVICES, default="auto")
    check.add_argument("--json", action="store_true")


def _add_check_data(command: Command) -> None:
    """``check-data``."""
    check = command(
        "check-data", check_data.check_data, "Which images of a training set stand out, and does it"
    )
    what = check.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", type=Path, metavar="FOLDER", help="a folder for each class; or a table")
    what.add_argument("--dataset", help="a registered dataset, or one of your own")
    check.add_argument(
        "--clean", type=Path, metavar="FOLDER", help="pictures of the same classes that you trust"
    )
    check.add_argument(
        "--like", metavar="DATASET", help="compare with the clean sets of this kind, if shipped"
    )
    check.add_argument(
        "--controls", type=int, default=19, help="clean sets drawn from --clean; 0 for no verdict"
    )
    check.add_argument("--share", type=float, default=0.1, help="of the images: the top of a detector")
    check.add_argument("--csv", type=Path, metavar="FILE", help="every image with its scores")
    check.add_argument("--filtered", type=Path, metavar="FOLDER", help="the set without the flagged images")
    check.add_argument("--purified", type=Path, metavar="FOLDER", help="the set purified by PureGen-EBM")
    check.add_argument("--table", default="", help="the .csv of names and labels to go by")
    check.add_argument("--size", type=int, default=32, help="side in pixels of the pictures of a folder")
    check.add_argument("--fit", choices=("crop", "stretch", "pad"), default="crop")
    check.add_argument("--gray", action="store_true", help="one channel instead of three")
    check.add_argument("--preset", choices=PRESETS, default="quick")
    check.add_argument("--epochs", type=int, help="of each training, in the place of the usual number")
    check.add_argument("--seed", type=int, default=0)
    check.add_argument("--device", choices=machine.DEVICES, default="auto")


def _add_zoo(command: Command) -> None:
    """``zoo``."""
    networks = command("zoo", None, "Small networks that come with the program: clean, attacked, repaired")
    actions = networks.add_subparsers(metavar="action", required=True)
    listed = actions.add_parser("list", help="what there is", allow_abbrev=False)
    listed.set_defaults(command=zoo.list_)
    loaded = actions.add_parser("load", help="one of them as a file", allow_abbrev=False)
    loaded.set_defaults(command=zoo.load)
    loaded.add_argument("name", help="as the list has it")
    loaded.add_argument("--to", type=Path, required=True, metavar="FILE", help="a safetensors file")


def _engine(parser: argparse.ArgumentParser) -> None:
    """Where runs are carried out."""
    parser.add_argument("--engine", choices=ENGINES, default="local", help="this machine, or many")
    parser.add_argument("--workers", type=int, metavar="NUMBER", help="runs at once")
    parser.add_argument(
        "--engine-option",
        action="append",
        default=[],
        metavar="name=value",
        help="such as address=auto of ray, partition=gpu of slurm",
    )


def _experiment(parser: argparse.ArgumentParser) -> None:
    for kind in ("dataset", "attack", "defense"):
        parser.add_argument(f"--{kind}", required=True)
    parser.add_argument("--victim", help="another network than the dataset's preset names")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="weights that its training starts from: .safetensors, .pt, .pth",
    )
    parser.add_argument("--preset", choices=PRESETS, default="quick")
    parser.add_argument("--set", action="append", default=[], metavar="part.param=value")
    parser.add_argument("--device", choices=machine.DEVICES, default="auto")
    parser.add_argument("--no-cache", action="store_true", help="compute everything anew, keep nothing")
    parser.add_argument("--json", action="store_true")
