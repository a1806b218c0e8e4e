"""Kills of every long command at random moments, full disks and read-only places.

    python benchmarks/faults.py kills --trials 40
    python benchmarks/faults.py disks                  # as root: it mounts small file systems

A trial runs a command, kills it and its children by SIGKILL at a random moment of its usual time,
gives it once more, and compares what it made with what an undisturbed one
made. A trial on a disk wants one line that says what is wrong, no traceback, and that the same
command succeeds when there is room. Exit code 1 if a trial fails.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

MAIN = "import sys; from farstep.cli.main import main; main(sys.argv[1:])"

SMALL = ("--hidden", "8", "8", "--latent", "16", "--groups", "2", "--batch-size", "8")

DATASET = "pointmaze-medium-stitch"


@dataclass(frozen=True)
class Options:
    """What to break.

    Attributes:
        what: kills at random moments, or disks that are full or read-only.
        trials: kills of each command.
        commands: which; all by default.
        seed: of the moments.
    """

    what: tyro.conf.Positional[Literal["kills", "disks"]]
    trials: int = 40
    commands: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Case:
    """A command that makes something.

    Attributes:
        words: its words, to make `place`.
        again: its words after it was cut off.
        digest: of what it made, without times.
        kibibytes: of a disk on which it cannot end; None where only kills are tried.
    """

    words: Callable[[Path], list[str]]
    digest: Callable[[Path], str]
    again: Callable[[Path], list[str]]
    kibibytes: int | None


def main(options: Options) -> int:
    with tempfile.TemporaryDirectory(prefix="farstep-faults-") as place:
        os.environ["FARSTEP_DATA"] = f"{place}/data"
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{place}/cache")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        made = cases(Path(place))
        chosen = {name: made[name] for name in options.commands or made}
        if options.what == "kills":
            return kills(Path(place), chosen, options)
        return disks(Path(place), {name: one for name, one in chosen.items() if one.kibibytes})


def cases(place: Path) -> dict[str, Case]:
    """Every command, and what all of them start from."""
    logs, data, run = place / "logs.npz", place / "start", place / "run"
    rng = np.random.default_rng(0)
    ends = np.zeros(20_000, bool)
    ends[99::100] = True
    observations = rng.normal(size=(20_000, 8)).astype(np.float32)
    actions = rng.uniform(-1, 1, (20_000, 2)).astype(np.float32)
    np.savez(logs, observations=observations, actions=actions, terminals=ends)
    make = ["data", "make", DATASET, "--episodes", "20", "--processes", "1"]
    succeed([*make, "--out", str(data)])
    train = ["train", str(data), *SMALL, "--log-every", "20", "--checkpoint-every", "20"]
    train += ["--evaluation-episodes", "0", "--steps", "60"]
    succeed([*train, "--out", str(run)])

    def same(words: Callable[[Path], list[str]]) -> dict[str, Callable[[Path], list[str]]]:
        return {"words": words, "again": words}

    def imported(to: Path) -> list[str]:
        os.environ["FARSTEP_DATA"] = str(to)
        return ["data", "import", str(logs)]

    def resumed(to: Path) -> list[str]:
        if (to / "config.json").exists():
            return ["train", "--resume", str(to)]
        return [*train, "--out", str(to)]

    def sweep(to: Path) -> list[str]:
        to.mkdir(exist_ok=True)
        file = place / f"{to.name}.toml"
        file.write_text(
            f'out = "{to}"\ndatasets = "{data}"\nagents = "gcbc"\npresets = "small"\nseeds = 2\n'
            "[hyperparameters]\nhidden = [8, 8]\nbatch_size = 8\n"
            "[training]\nsteps = 60\nlog_every = 20\ncheckpoint_every = 20\n"
            "evaluation_episodes = 0\n[evaluation]\nepisodes = 1\nmax_steps = 20\nworkers = 0\n"
        )
        return ["sweep", str(file)]

    evaluation = ["eval", str(run), "--episodes", "1", "--workers", "0", "--max-steps", "200"]
    return {
        "make": Case(**same(lambda to: [*make, "--out", str(to)]), digest=arrays, kibibytes=40),
        "import": Case(**same(imported), digest=arrays, kibibytes=500),
        "train": Case(lambda to: [*train, "--out", str(to)], trained, again=resumed, kibibytes=200),
        "evaluate": Case(
            **same(lambda to: [*evaluation, "--out", str(to / "result.json")]),
            digest=result,
            kibibytes=4,
        ),
        "export": Case(
            **same(lambda to: ["export", str(run), "--out", str(to / "policy")]),
            digest=files,
            kibibytes=8,
        ),
        "sweep": Case(**same(sweep), digest=swept, kibibytes=None),
    }


def kills(place: Path, chosen: dict[str, Case], options: Options) -> int:
    moments = random.Random(options.seed)
    failed = 0
    print("| command | usual s | kills | ended by itself before | same result |")
    print("|---|---|---|---|---|", flush=True)
    for name, case in chosen.items():
        calm = place / f"{name}-calm"
        began = time.monotonic()
        succeed(case.words(calm))
        usual, expected = time.monotonic() - began, case.digest(calm)
        killed = early = same = 0
        for trial in range(options.trials):
            to = place / f"{name}-{trial}"
            words = case.words(to)
            ended = run_and_kill(words, moments.uniform(0, usual))
            killed, early = killed + (not ended), early + ended
            done = command(case.again(to))
            ours = case.digest(to)
            same += ours == expected
            if ours != expected:
                failed += 1
                print(
                    f"{name}, trial {trial}: {(done.stdout + done.stderr).strip()[-500:]}",
                    file=sys.stderr,
                )
                continue
            shutil.rmtree(to)
        print(
            f"| {name} | {usual:.1f} | {killed} | {early} | {same} of {options.trials} |",
            flush=True,
        )
    return int(failed > 0)


def disks(place: Path, chosen: dict[str, Case]) -> int:
    failed = 0
    print("| command | disk | exit code | says | afterwards |\n|---|---|---|---|---|", flush=True)
    for name, case in chosen.items():
        for kind in ("full", "read-only"):
            disk = place / f"{name}-{kind}"
            size = case.kibibytes if kind == "full" and case.kibibytes else 10**6
            with mounted(disk, size):
                to = disk / "made"
                if kind == "read-only":
                    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
                done = command(case.words(to))
                subprocess.run(["mount", "-o", "remount,rw,size=1G", str(disk)], check=True)
                again = command(case.again(to))
                after = again.returncode == 0
                said = done.stderr.strip().splitlines()
                good = done.returncode == 2 and len(said) <= 2 and after
                failed += not good
                shown = (said[-1] if said else "").replace(str(place), "")[:120]
                if not after:
                    shown += f" / {again.stderr.strip()[-200:]}"
                print(
                    f"| {name} | {kind} | {done.returncode} | {shown} "
                    f"| {'succeeds' if after else 'FAILS'} |",
                    flush=True,
                )
    return int(failed > 0)


@contextmanager
def mounted(place: Path, kibibytes: int) -> Iterator[None]:
    """A file system of that size in memory."""
    place.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(place)], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def command(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", MAIN, *words], capture_output=True, text=True)


def succeed(words: list[str]) -> None:
    done = command(words)
    if done.returncode:
        sys.exit(f"{' '.join(words)} fails undisturbed: {done.stderr[-2000:]}")


def run_and_kill(words: list[str], seconds: float) -> bool:
    """Whether the command ended by itself before it was killed, with all of its children."""
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(seconds)
        return True
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return False


def arrays(place: Path) -> str:
    """Of a dataset's arrays; its manifest names the time."""
    return digest(sorted(place.rglob("*.npy")), place)


def files(place: Path) -> str:
    return digest(sorted(file for file in place.rglob("*") if file.is_file()), place)


def digest(paths: list[Path], place: Path) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(str(path.relative_to(place)).encode())
        found.update(path.read_bytes())
    return found.hexdigest() if paths else "nothing"


def trained(place: Path) -> str:
    """Of the metrics that were logged, and of all arrays of the last checkpoint but its clock."""
    try:
        about = json.loads((place / "checkpoints" / "60" / "about" / "metadata").read_text())
        lines = (place / "metrics.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return "nothing"
    sums = {name: sum_ for name, sum_ in about["sha256"].items() if name != "clock"}
    metrics = [json.loads(line) for line in lines]
    for record in metrics:
        del record["seconds"], record["updates_per_second"]
    return json.dumps([sums, metrics])


def swept(place: Path) -> str:
    """Of every run of a sweep, and of its evaluation."""
    runs = sorted(found.parent for found in place.rglob("config.json"))
    return "\n".join(part for run in runs for part in (trained(run), result(run)))


def result(place: Path) -> str:
    """Of every episode; how long they took, and where the policy lay, is not the policy's doing."""
    name = "evaluation.json" if (place / "config.json").exists() else "result.json"
    try:
        document = json.loads((place / name).read_text())
    except FileNotFoundError:
        return "nothing"
    other = ("seconds", "steps_per_second", "protocol")
    return json.dumps({key: value for key, value in document.items() if key not in other})


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
