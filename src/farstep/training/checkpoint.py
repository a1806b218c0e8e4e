"""Checkpoints by Orbax: atomic, without pickles, the latest few and the best."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Self

import jax
import numpy as np

from farstep.core.errors import FarstepError
from farstep.core.trees import from_named, named_leaves

SUCCESS = "success"
"""The evaluation metric by which the best checkpoint is chosen."""

ABOUT = "about"
"""The part of a checkpoint that holds its success and checksums."""

READ_ATTEMPTS = 3
READ_PAUSE = 0.2
"""Seconds between attempts to read a checkpoint of a run that may be training."""

Which = Literal["last", "best"] | int


class Checkpoints:
    """The checkpoints of one run. Orbax is imported when the first one is opened.

    Args:
        path: their directory.
        keep: number of latest checkpoints that `save` leaves besides the best.
        writable: create `path` and clear away what an interrupted save left. Without it nothing
            is created or removed, so a run can be read while it trains.
    """

    def __init__(self, path: Path, *, keep: int = 1, writable: bool = False):
        import orbax.checkpoint as ocp

        # Orbax reports each save at INFO and each missing optional back end at WARNING.
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._ocp = ocp
        self._path = path
        self._keep = keep
        self._resources = ExitStack()
        place = path.resolve()
        if writable:
            place.mkdir(parents=True, exist_ok=True)
        if any(character in str(place) for character in "[]\\"):
            # TensorStore does not read back what it writes there, so it is given a link.
            place = self._resources.enter_context(_link(place))
        # Of several processes, none waits for another here.
        alone = {jax.process_index()} if jax.process_count() > 1 else None
        self._manager = ocp.CheckpointManager(
            place,
            options=ocp.CheckpointManagerOptions(
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=jax.process_index(), active_processes=alone
                ),
                create=False,
                read_only=not writable,
                cleanup_tmp_directories=writable,
                enable_async_checkpointing=False,
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()
        self._resources.close()

    @property
    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in order; those on disk now."""
        return sorted(self._manager.all_steps(read=True))

    def save(self, step: int, items: Mapping[str, Any], *, success: float | None = None) -> None:
        """Save trees by name; `success` makes this step a candidate for the best.

        A checkpoint of the same step is replaced; all but the latest and the best are removed.

        Raises:
            FarstepError: the disk is full or not writable; earlier checkpoints are intact.
        """
        trees = {name: named_leaves(tree) for name, tree in items.items()}
        about = {SUCCESS: success, "sha256": {name: _sha256(tree) for name, tree in trees.items()}}
        saved = {name: self._ocp.args.StandardSave(tree) for name, tree in trees.items()}
        try:
            if step in self.steps:
                self._manager.delete(step)
            with _without_tracebacks():
                self._manager.save(
                    step,
                    args=self._ocp.args.Composite(
                        **{ABOUT: self._ocp.args.JsonSave(about)}, **saved
                    ),
                    force=True,
                )
        except (OSError, ValueError) as error:
            raise FarstepError(
                f"Could not save a checkpoint of step {step} to {self._path}: {error}. "
                "Free some space and continue with --resume."
            ) from error
        self.forget(set(self.steps[: -self._keep]) - {self.find("best")})

    def forget(self, steps: Iterable[int]) -> None:
        """Remove the checkpoints of these steps."""
        for step in steps:
            self._manager.delete(step)

    def find(self, which: Which) -> int:
        """The step meant by `last`, `best` (`last` if none was evaluated) or a number.

        Raises:
            FarstepError: there is no such checkpoint; says which there are.
        """
        steps = self.steps
        if not steps:
            raise FarstepError(f"{self._path} holds no checkpoint yet.")
        if which == "best":
            evaluated = [
                (success, step) for step in steps if (success := self._success(step)) is not None
            ]
            return max(evaluated)[1] if evaluated else steps[-1]
        if which == "last":
            return steps[-1]
        if which not in steps:
            known = ", ".join(map(str, steps))
            raise FarstepError(f"{self._path} has no checkpoint of step {which}; it has {known}.")
        return which

    def load(self, which: Which, skeletons: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Find and restore a checkpoint of a run that may be training: its step and its trees.

        Raises:
            FarstepError: there is no such checkpoint, or it is damaged or of other networks.
        """
        for _ in range(READ_ATTEMPTS - 1):
            step = self.find(which)
            with suppress(FarstepError):
                return step, self.restore(step, skeletons)
            time.sleep(READ_PAUSE)  # The training may be about to remove or replace it.
        step = self.find(which)
        return step, self.restore(step, skeletons)

    def restore(self, step: int, skeletons: Mapping[str, Any]) -> dict[str, Any]:
        """The trees saved at `step` under these names.

        Args:
            skeletons: for each name, a tree of arrays or `ShapeDtypeStruct`s like the saved one.

        Raises:
            FarstepError: the checkpoint is damaged or belongs to other networks.
        """
        where = self._path / str(step)
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        wanted = {
            name: self._ocp.args.StandardRestore(
                {
                    leaf_name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)
                    for leaf_name, leaf in named_leaves(skeleton).items()
                }
            )
            for name, skeleton in skeletons.items()
        }
        found = self._read(step, wanted)
        sums = self._read(step, {ABOUT: self._ocp.args.JsonRestore()})[ABOUT]["sha256"]
        for name in skeletons:
            if _sha256(found[name]) != sums[name]:
                raise FarstepError(
                    f"The checkpoint {where} is damaged, or of other networks: '{name}' "
                    "is not what was saved."
                )
        return {
            name: from_named(skeleton, found[name], where=f"{where}/{name}")
            for name, skeleton in skeletons.items()
        }

    def _read(self, step: int, wanted: Mapping[str, Any]) -> Any:
        try:
            with _without_tracebacks():
                return self._manager.restore(step, args=self._ocp.args.Composite(**wanted))
        except Exception as error:  # Orbax and TensorStore raise all kinds, `Exception` itself too.
            reason = str(error).partition("\n")[0]
            raise FarstepError(
                f"Could not read the checkpoint {self._path / str(step)}: {reason}"
            ) from error

    def _success(self, step: int) -> float | None:
        """Success of the evaluation at `step`; None without one, or where it cannot be read."""
        try:
            return self._read(step, {ABOUT: self._ocp.args.JsonRestore()})[ABOUT][SUCCESS]
        except (FarstepError, KeyError, TypeError):
            return None


@contextmanager
def _link(directory: Path) -> Iterator[Path]:
    """Another path of the same directory, with nothing but letters in its name."""
    with TemporaryDirectory(prefix="farstep-") as place:
        link = Path(place) / "checkpoints"
        link.symlink_to(directory, target_is_directory=True)
        yield link


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


def _sha256(tree: Mapping[str, Any]) -> str:
    """SHA-256 of all arrays' names and elements."""
    digest = hashlib.sha256()
    for name in sorted(tree):
        digest.update(name.encode())
        digest.update(np.asarray(tree[name]).tobytes())
    return digest.hexdigest()
