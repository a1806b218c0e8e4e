"""Checkpoints by Orbax: atomic, without pickles, the latest few and the best."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import jax

from farstep.core.errors import FarstepError
from farstep.core.trees import from_named, named_leaves

SUCCESS = "success"
"""The evaluation metric by which the best checkpoint is chosen."""

Which = Literal["last", "best"] | int


class Checkpoints:
    """The checkpoints of one run. Orbax is imported when the first one is opened."""

    def __init__(self, path: Path, *, keep: int = 1):
        import orbax.checkpoint as ocp

        # Orbax reports each save at INFO and each missing optional back end at WARNING.
        logging.getLogger("absl").setLevel(logging.ERROR)
        policies = ocp.checkpoint_managers
        self._ocp = ocp
        self._path = path
        self._manager = ocp.CheckpointManager(
            path.resolve(),
            options=ocp.CheckpointManagerOptions(
                enable_async_checkpointing=False,
                cleanup_tmp_directories=True,
                # Without it Orbax does not store the metrics that the policies below compare.
                best_fn=_success,
                preservation_policy=policies.AnyPreservationPolicy(
                    [
                        policies.LatestN(keep),
                        policies.BestN(
                            get_metric_fn=_success,
                            n=1,
                            keep_checkpoints_without_metrics=False,
                        ),
                    ]
                ),
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._manager.close()

    @property
    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in order."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, items: Mapping[str, Any], *, success: float | None = None) -> None:
        """Save trees by name; `success` makes this step a candidate for the best.

        A checkpoint of the same step is replaced.

        Raises:
            FarstepError: the disk is full or not writable; earlier checkpoints are intact.
        """
        metrics = None if success is None else {SUCCESS: success}
        trees = {name: self._ocp.args.StandardSave(named_leaves(t)) for name, t in items.items()}
        try:
            if step in self.steps:
                self._manager.delete(step)
            with _without_tracebacks():
                self._manager.save(
                    step, args=self._ocp.args.Composite(**trees), metrics=metrics, force=True
                )
        except (OSError, ValueError) as error:
            raise FarstepError(
                f"Could not save a checkpoint of step {step} to {self._path}: {error}. "
                "Free some space and continue with --resume."
            ) from error

    def find(self, which: Which) -> int:
        """The step meant by `last`, `best` (`last` if none was evaluated) or a number.

        Raises:
            FarstepError: there is no such checkpoint; says which there are.
        """
        if not self.steps:
            raise FarstepError(f"{self._path} holds no checkpoint yet.")
        if which == "best":
            evaluated = [
                (metrics[SUCCESS], step)
                for step in self.steps
                if (metrics := self._metrics(step)) is not None
            ]
            return max(evaluated)[1] if evaluated else self.steps[-1]
        if which == "last":
            return self.steps[-1]
        if which not in self.steps:
            known = ", ".join(map(str, self.steps))
            raise FarstepError(f"{self._path} has no checkpoint of step {which}; it has {known}.")
        return which

    def restore(self, step: int, skeletons: Mapping[str, Any]) -> dict[str, Any]:
        """The trees saved at `step` under these names.

        Args:
            skeletons: by name, a tree of arrays or `ShapeDtypeStruct`s like the saved one.

        Raises:
            FarstepError: the checkpoint is damaged or belongs to other networks.
        """
        where = str(self._path / str(step))
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        wanted = {
            name: self._ocp.args.StandardRestore(
                {
                    leaf_name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)
                    for leaf_name, leaf in named_leaves(skeleton).items()
                }
            )
            for name, skeleton in skeletons.items()
        }
        try:
            found = self._manager.restore(step, args=self._ocp.args.Composite(**wanted))
        except (OSError, ValueError, KeyError) as error:
            raise FarstepError(f"Could not read the checkpoint {where}: {error}") from error
        return {
            name: from_named(skeleton, found[name], where=f"{where}/{name}")
            for name, skeleton in skeletons.items()
        }

    def _metrics(self, step: int) -> Mapping[str, float] | None:
        return self._manager.metrics(step)


@contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Orbax's threads log what they raise, with several tracebacks; it is reported in one line."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _success(metrics: Mapping[str, float]) -> float:
    return metrics[SUCCESS]
