"""The run directory: everything about one run, written so that a crash loses nothing.

config.json     what was asked for
env.json        versions, device, commit
metrics.jsonl   a line every `log_every` updates
eval.jsonl      a line an evaluation
checkpoints/    the latest and the best
plots/          pictures
evaluation.json how the trained policy did, if a sweep evaluated it
frozen.json     why this run of several seeds stopped before the others, if it did
.lock           which process is training
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax

from farstep.core.errors import FarstepError
from farstep.core.files import check_replaceable, write_text
from farstep.training.config import FORMAT, RunConfig
from farstep.training.lock import LOCK, locked

Log = Literal["metrics", "eval"]

CONFIG = "config.json"

FROZEN = "frozen.json"

EVALUATION = "evaluation.json"
"""The file of a sweep's result of `farstep.evaluate` in a run."""

EXPORTED = ("policy.json", "policy.safetensors")
"""Files of an exported policy."""

OWNED = (
    *(CONFIG, "env.json", "metrics.jsonl", "eval.jsonl", FROZEN, EVALUATION, LOCK),
    *("checkpoints", "plots", "profile", "tensorboard", "wandb"),
    *(f"{export}/{name}" for export in ("policy", "distilled") for name in EXPORTED),
)
"""Files of a run, which `--overwrite` removes: those of training, pictures and exports."""


@dataclass(frozen=True)
class Run:
    """An existing run directory. Build one with `create` or `open`."""

    path: Path
    config: RunConfig

    @classmethod
    def create(cls, path: Path, config: RunConfig, *, overwrite: bool = False) -> Run:
        """Make the directory and write what is known before training.

        Args:
            overwrite: replace a run at `path`, or at the directory that it links to.

        Raises:
            FarstepError: as `check_free`, or the directory cannot be written.
        """
        cls.check_free(path, overwrite=overwrite)
        try:
            path.mkdir(parents=True, exist_ok=True)
            with locked(path):
                if not overwrite and (path / CONFIG).exists():
                    raise FarstepError(f"{path} was begun by another process just now.")
                unfinished = [one.name for one in path.iterdir() if ".partial" in one.name]
                for name in (*OWNED, *unfinished):
                    if name != LOCK:
                        _remove(path / name)
                write_text(path / "env.json", json.dumps(_environment(), indent=2) + "\n")
                write_text(path / CONFIG, config.to_json())
        except OSError as error:
            raise FarstepError(f"Cannot write the run to {path}: {error.strerror}.") from error
        return cls(path, config)

    @classmethod
    def check_free(cls, path: Path, *, overwrite: bool) -> None:
        """Whether `create` may write to `path`; changes nothing.

        Raises:
            FarstepError: something stands there that is not to be overwritten, is no run, holds
                what is not a run's, or is being trained.
        """
        if _cut_off(path):
            return
        if not overwrite and path.exists():
            raise FarstepError(
                f"{path} exists already. Continue it with --resume {path}, replace it with "
                "--overwrite, or choose another place with --out."
            )
        if path.is_symlink() and not path.exists():
            raise FarstepError(f"{path} is a link to {path.readlink()}, which does not exist.")
        if not path.exists():
            return
        if not is_run(path):
            raise FarstepError(f"{path} is not a run directory; it is left untouched.")
        check_replaceable(path, OWNED)
        with locked(path):
            pass

    @classmethod
    def open(cls, path: Path) -> Run:
        """A run made earlier.

        Raises:
            FarstepError: there is no run at `path`, or its configuration is damaged.
        """
        source = path / CONFIG
        try:
            text = source.read_text()
        except OSError as error:
            raise FarstepError(f"{path} is not a run directory: it has no {CONFIG}.") from error
        return cls(path, RunConfig.from_json(text, where=str(source)))

    def proceed(self, step: int) -> None:
        """Go on from the checkpoint of `step` under `config`: forget what came after it.

        Raises:
            FarstepError: a line of a log is damaged; nothing was changed.
        """
        kept = {
            log: [record for record in self.records(log) if record["step"] <= step]
            for log in ("metrics", "eval")
        }
        for log, records in kept.items():
            source = self.path / f"{log}.jsonl"
            if source.exists():
                write_text(source, "".join(json.dumps(record) + "\n" for record in records))
        write_text(self.path / CONFIG, self.config.to_json())
        _remove(self.path / FROZEN)

    def freeze(self, reason: str) -> None:
        """Mark this run as stopped while others of its group go on."""
        write_text(self.path / FROZEN, json.dumps({"reason": reason}) + "\n")

    @property
    def frozen(self) -> bool:
        """Whether `freeze` was called since training last began here."""
        return (self.path / FROZEN).exists()

    def append(self, log: Log, record: Mapping[str, Any]) -> None:
        """Add one line to `metrics.jsonl` or `eval.jsonl`, on disk before this returns."""
        with (self.path / f"{log}.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def records(self, log: Log) -> list[dict[str, Any]]:
        """The lines of a log; a last line cut short by a crash is left out.

        Raises:
            FarstepError: another line is damaged; says which.
        """
        source = self.path / f"{log}.jsonl"
        if not source.exists():
            return []
        *lines, _unfinished = source.read_bytes().split(b"\n")
        return [
            _record(line, f"{source}, line {number}") for number, line in enumerate(lines, start=1)
        ]


def is_run(path: Path) -> bool:
    """Whether `path` is a directory with the configuration of a run."""
    try:
        document = json.loads((path / CONFIG).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


def run_paths(path: Path) -> list[Path]:
    """The run at `path`, or those of the seeds that were trained together there, by seed.

    Raises:
        FarstepError: there is neither.
    """
    if is_run(path) or (path / CONFIG).exists():
        return [path]
    seeds = sorted(
        int(found.name[1:])
        for found in path.glob("s*")
        if found.name[1:].isdecimal() and is_run(found)
    )
    if not seeds:
        raise FarstepError(f"{path} is not a run directory: it has no {CONFIG}.")
    return [path / f"s{seed}" for seed in seeds]


def _cut_off(path: Path) -> bool:
    """Whether a directory holds no more than `Run.create` leaves when it is killed."""
    return path.is_dir() and all(
        one.name in (LOCK, "env.json") or ".partial" in one.name for one in path.iterdir()
    )


def _record(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
        if isinstance(record["step"], int):
            return record
    except (ValueError, KeyError, TypeError):
        pass
    raise FarstepError(
        f"{where} is damaged: it is not a record of training. Remove that line, or restore the "
        "file from a copy."
    )


def _remove(path: Path) -> None:
    """Remove what is at `path`; of a symbolic link, the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _environment() -> dict[str, Any]:
    distributions = ("farstep", "jax", "jaxlib", "equinox", "optax", "numpy", "ogbench", "mujoco")
    installed = {d.metadata["Name"].lower() for d in importlib.metadata.distributions()}
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": [str(device) for device in jax.devices()],
        "matmul_precision": jax.config.values["jax_default_matmul_precision"],
        "versions": {
            name: importlib.metadata.version(name) for name in distributions if name in installed
        },
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of the checkout that this package runs from, if there is one."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
