"""The `farstep` command: finds the subcommand, runs it, and turns bad input into one line.

Subcommands are named here and imported only when asked for, so that `farstep --help` and a
misspelled word answer at once.
"""

from __future__ import annotations

import difflib
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from farstep.core.errors import FarstepError, nearest

EXIT_BAD_INPUT = 2


@dataclass(frozen=True)
class Command:
    """A subcommand: a dataclass in a module of `farstep.cli`, whose fields are its options.

    Its method `run` carries it out, and raises `FarstepError` where the input is at fault.
    """

    module: str
    name: str
    summary: str

    def load(self) -> Any:
        return getattr(importlib.import_module(f"farstep.cli.{self.module}"), self.name)


COMMANDS: Mapping[str, Command | Mapping[str, Command]] = {
    "quickstart": Command(
        "quickstart", "Quickstart", "Data, training, evaluation and a picture, at once."
    ),
    "doctor": Command("doctor", "Doctor", "Check this machine and say what to install."),
    "data": {
        "list": Command("make", "DataList", "List published datasets."),
        "make": Command("make", "DataMake", "Generate a published dataset anew."),
        "render": Command("render", "DataRender", "Draw a dataset of states."),
        "get": Command("data", "DataGet", "Download a published dataset."),
        "import": Command("data", "DataImport", "Turn logs into a dataset."),
        "info": Command("data", "DataInfo", "Show what a dataset holds."),
        "check": Command("data", "DataCheck", "Name the episodes that look wrong."),
        "export": Command("export_data", "DataExport", "Write OGBench's .npz files, or RLDS."),
    },
    "walker": {
        "train": Command("walker", "WalkerTrain", "Teach a body to walk as told."),
        "test": Command("walker", "WalkerTest", "Measure how well a walker walks."),
    },
    "train": Command("train", "DefaultTrain", "Train an agent on a dataset."),
    "eval": Command("evaluate", "Evaluate", "Measure a policy's success rates."),
    "compare": Command("compare", "Compare", "Put runs in one table beside the published numbers."),
    "sweep": Command("sweep", "SweepCommand", "Train many runs, here, on SLURM or on Ray."),
    "study": {
        "ablation-invariance": Command(
            "study", "InvarianceStudy", "With and without action invariance."
        ),
        "ablation-waypoint": Command("study", "WaypointStudy", "The laws of MQE's waypoints."),
        "p-lambda-grid": Command("study", "GridStudy", "p against λ, as a heat map."),
        "horizon": Command("study", "HorizonStudy", "Success by distance, as curves."),
        "policy-goals": Command(
            "study", "PolicyGoalsStudy", "Crossed against paired goals of policies."
        ),
        "policy-levers": Command(
            "study", "PolicyLeversStudy", "Flows, chunks of actions, averaged parameters."
        ),
    },
    "plot": {
        "distance": Command("plot", "PlotDistance", "Draw the learned distance over the maze."),
        "plan": Command("plot_plan", "PlotPlan", "Draw a plan over the maze and the way taken."),
        "calibration": Command(
            "plot_calibration",
            "PlotCalibration",
            "Draw learned steps over logged steps, in held-out episodes.",
        ),
    },
    "view": Command("view", "View", "Look at distances, plans, ways and runs on a page."),
    "distill": Command("distill", "Distill", "Teach a policy to act as planned, without a plan."),
    "export": Command("export", "Export", "Write a policy that stands alone."),
    "serve": Command("serve", "Serve", "Answer requests for actions over a websocket."),
    "widowx": Command("widowx", "WidowX", "Let a policy move a WidowX-250 robot."),
    "presets": Command("presets", "Presets", "List presets and explain their values."),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command line; exits with 2 where the input is at fault."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # A missing character is better than a crash.
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _unwinding_when_stopped():
            run_command(words)
            sys.stdout.flush()
    except FarstepError as error:
        _refuse(f"{error}{_fetch_command(error)}")
    except BrokenPipeError:
        # The reader of the output has closed it. Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
    except OSError as error:
        # A full disk, a directory that may not be written, a file that is gone.
        place = "" if error.filename is None else f"{error.filename}: "
        _refuse(f"{place}{error.strerror or error}")
    except (RuntimeError, AssertionError):
        # JAX's own, at whichever call is the first to need a device.
        asked = os.environ.get("JAX_PLATFORMS")
        if not asked or _jax_has_a_device():
            raise
        _refuse(
            f"JAX_PLATFORMS asks for '{asked}', which JAX cannot use here. Unset it to compute on "
            "what there is; 'farstep doctor' says what that is."
        )
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None


def _fetch_command(error: FarstepError) -> str:
    """The command that fetches a missing dataset, if one of that name is published."""
    from farstep.data.table import MissingDatasetError, canonical_name

    if not isinstance(error, MissingDatasetError):
        return ""
    from farstep.envs.catalog import DATASETS

    close = difflib.get_close_matches(canonical_name(error.name), DATASETS, n=1, cutoff=0.8)
    if close:
        return f" OGBench publishes '{close[0]}': farstep data get {close[0]}"
    return " Import your own with `farstep data import`."


@contextmanager
def _unwinding_when_stopped() -> Iterator[None]:
    """End the process at SIGTERM and SIGHUP as at Ctrl-C, so that unfinished files are removed."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    caught = []
    if threading.current_thread() is threading.main_thread():
        # Signals that are ignored stay so, as SIGHUP under nohup.
        defaults = (signal.SIGTERM, signal.SIGHUP)
        caught = [number for number in defaults if signal.getsignal(number) == signal.SIG_DFL]
    for number in caught:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)


def _jax_has_a_device() -> bool:
    if "jax" not in sys.modules:
        return True  # Not asked.
    import jax

    try:
        return bool(jax.devices())
    except (RuntimeError, AssertionError):
        return False


def _refuse(message: str) -> NoReturn:
    print(f"farstep: {message}", file=sys.stderr)
    raise SystemExit(EXIT_BAD_INPUT) from None


def run_command(words: list[str]) -> None:
    """Find the command, parse its options, run it; errors are the caller's."""
    if any(word.startswith("--tyro-") for word in words):
        _completion(words)
    commands, prefix = COMMANDS, "farstep"
    while True:
        word = words[0] if words else "--help"
        if word in ("-h", "--help"):
            print(_overview(prefix, commands))
            return
        if word == "--version" and prefix == "farstep":
            from importlib.metadata import version

            print(f"farstep {version('farstep')}")
            return
        if word not in commands:
            raise FarstepError(f"'{prefix}' has no command '{word}'.{nearest(word, commands)}")
        chosen, prefix, words = commands[word], f"{prefix} {word}", words[1:]
        if isinstance(chosen, Command):
            break
        commands = chosen
    command = chosen.load()
    parse = getattr(command, "parse", None)
    if parse is not None:
        parse(prefix, words).run()
        return
    import tyro

    tyro.cli(command, prog=prefix, args=words).run()


def _overview(prefix: str, commands: Mapping[str, Command | Mapping[str, Command]]) -> str:
    lines = [f"usage: {prefix} COMMAND [options]", ""]
    if prefix == "farstep":
        lines[1:] = [
            "",
            "Reach goals far beyond any logged episode: offline goal-conditioned RL.",
            "",
        ]
    width = max(map(len, commands)) + 2
    for name, command in commands.items():
        if isinstance(command, Command):
            lines.append(f"  {name:<{width}}{command.summary}")
        else:
            lines.append(f"  {name:<{width}}{', '.join(command)}: see '{prefix} {name} --help'.")
    lines += ["", f"'{prefix} COMMAND --help' explains a command's options."]
    if prefix == "farstep":
        lines.append("'farstep --tyro-print-completion bash' prints a completion script (or zsh).")
    return "\n".join(lines)


def _completion(words: list[str]) -> None:
    """Let tyro print a completion script over all commands."""
    import tyro

    kinds: dict[str, Any] = {}
    for name, chosen in COMMANDS.items():
        if isinstance(chosen, Command):
            kinds[name] = chosen.load()
        else:
            kinds |= {f"{name} {inner}": command.load() for inner, command in chosen.items()}
    tyro.extras.subcommand_cli_from_dict(kinds, prog="farstep", args=words)
