"""Loggers that receive a run's numbers besides its `metrics.jsonl`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from farstep.core.errors import FarstepError, install_command


class Logger(Protocol):
    """Receives every line of the run's logs as it is written."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoardLogger:
    """Event files under `RUN/tensorboard`. Ask `check_logger` first."""

    def __init__(self, run_path: Path):
        self._writer = _package("tensorboard").SummaryWriter(str(run_path / "tensorboard"))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WandbLogger:
    """A Weights & Biases run named like the run directory. Ask `check_logger` first."""

    def __init__(self, run_path: Path, project: str, config: Mapping[str, object]):
        self._run = _package("wandb").init(
            project=project, name=run_path.name, dir=str(run_path), config=dict(config)
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


def _package(extra: Literal["tensorboard", "wandb"]) -> Any:
    return importlib.import_module("tensorboardX" if extra == "tensorboard" else extra)


def check_logger(extra: Literal["tensorboard", "wandb"]) -> None:
    """Raises FarstepError if the package that this logger needs is not installed."""
    try:
        _package(extra)
    except ImportError as error:
        raise FarstepError(
            f"--{extra} needs what is not installed: {install_command(extra)}"
        ) from error
