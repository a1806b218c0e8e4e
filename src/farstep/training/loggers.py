"""Where a run's numbers go besides its own `metrics.jsonl`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from farstep.core.errors import FarstepError


class Logger(Protocol):
    """Receives every line of the run's journals as it is written."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoardLogger:
    """Event files under `RUN/tensorboard`."""

    def __init__(self, run_path: Path):
        try:
            tensorboard = importlib.import_module("tensorboardX")
        except ImportError as error:
            raise _missing("tensorboard") from error
        self._writer = tensorboard.SummaryWriter(str(run_path / "tensorboard"))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WandbLogger:
    """A Weights & Biases run named like the run directory."""

    def __init__(self, run_path: Path, project: str, config: Mapping[str, object]):
        try:
            wandb = importlib.import_module("wandb")
        except ImportError as error:
            raise _missing("wandb") from error
        self._run = wandb.init(
            project=project, name=run_path.name, dir=str(run_path), config=dict(config)
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


def _missing(extra: str) -> FarstepError:
    return FarstepError(f'--{extra} needs a package: pip install "farstep[{extra}]".')
