"""When a run logs, evaluates and saves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from farstep.training.config import TrainConfig


class Due(NamedTuple):
    """What is due between two dispatches of updates."""

    log: bool
    evaluate: bool
    save: bool


@dataclass(frozen=True)
class Schedule:
    """The plan of a run.

    Attributes:
        config: its cadence.
        evaluates: whether it evaluates at all.
    """

    config: TrainConfig
    evaluates: bool

    def next(self, step: int) -> int:
        """The next step after `step` at which something is due."""
        config = self.config
        periods = (config.log_every, config.checkpoint_every, config.evaluate_every)
        return min(
            config.steps, *(step - step % period + period for period in periods if period > 0)
        )

    def due(self, step: int, *, finished: bool) -> Due:
        """What is due after update `step`; at the end, everything."""
        config = self.config
        return Due(
            log=finished or _is_multiple(step, config.log_every),
            evaluate=self.evaluates and (finished or _is_multiple(step, config.evaluate_every)),
            save=finished or _is_multiple(step, config.checkpoint_every),
        )


def _is_multiple(step: int, period: int) -> bool:
    return period > 0 and step % period == 0
