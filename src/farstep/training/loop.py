"""The training loop: the only owner of the step."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from farstep.agents.base import Agent
from farstep.core.errors import FarstepError
from farstep.core.rng import root_key
from farstep.core.types import Metrics, Params
from farstep.sampling.batches import DeviceTable
from farstep.sampling.stream import HostTable, Prefetcher, Reader
from farstep.training import program
from farstep.training.checkpoint import SUCCESS, Checkpoints
from farstep.training.evaluations import Evaluation, Evaluations
from farstep.training.loggers import Logger
from farstep.training.profile import Profiler
from farstep.training.program import Progress
from farstep.training.run import Run

DISPATCH_SECONDS = 0.5
"""Aim for dispatches this long: rare enough to cost nothing, short enough to answer Ctrl-C."""


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Advance = Callable[[Progress, int], Progress]
"""Does a number of updates."""


class Evaluator(Protocol):
    """Measures a run's policy; its `success` chooses the best checkpoint."""

    def __call__(self, run: Run, params: Params, step: int) -> Mapping[str, float]: ...


class Reporter(Protocol):
    """Shows progress to whoever is watching."""

    def advanced(self, step: int, updates_per_second: float) -> None: ...

    def logged(self, run: Run, step: int, metrics: Mapping[str, float]) -> None: ...

    def evaluated(self, run: Run, step: int, metrics: Mapping[str, float]) -> None: ...

    def frozen(self, run: Run, reason: str) -> None: ...


class Interrupted(Exception):
    """Training was asked to stop, saved everything, and stopped."""

    def __init__(self, signal_number: int, step: int):
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after {step} updates")
        self.signal_number = signal_number
        self.step = step


@dataclass
class Trainer:
    """Trains runs that differ in nothing but their seed, in one program.

    Attributes:
        runs: the run directories, locked by the caller; all share the first one's configuration
            but for the seed.
        table: training data, in device memory or on disk.
        validation: held-out data, if there is any, likewise.
        evaluator: measures the policy in its environment, if there is one.
        evaluate_beside: whether training goes on meanwhile; else it waits.
        reporter: shows progress.
        loggers: for each run, where its numbers go besides its own journals.
        time_limit: end, as if that had been the last step, after so many seconds of updates from
            here on.
        profiler: told where the time goes.
    """

    runs: Sequence[Run]
    table: DeviceTable | HostTable
    validation: DeviceTable | HostTable | None
    evaluator: Evaluator | None
    reporter: Reporter
    loggers: Sequence[Sequence[Logger]] = ()
    time_limit: float = math.inf
    evaluate_beside: bool = False
    profiler: Profiler = field(default_factory=Profiler)
    _stop_signal: int | None = field(default=None, init=False)
    _frozen: dict[int, str] = field(default_factory=dict, init=False)
    _clock: _Clock = field(default_factory=lambda: _Clock(), init=False)

    def train(self, *, resume: bool = False, from_step: int | None = None) -> None:
        """Train to the configured number of steps, from the start or from the last checkpoint.

        A seed whose metrics become infinite or NaN goes no further; the others do, and the
        error is raised when they have ended.

        Args:
            from_step: resume from this checkpoint and forget later ones; 0 begins anew.

        Raises:
            Interrupted: SIGINT, SIGTERM or SIGHUP came; a checkpoint was saved first.
            FarstepError: a metric became infinite or NaN (it is named), the disk is full, the
                last checkpoint is damaged, or more steps are done than configured.
        """
        config = self.runs[0].config.training
        with ExitStack() as resources:
            checkpoints = [
                resources.enter_context(
                    Checkpoints(
                        run.path / "checkpoints", keep=config.keep_checkpoints, writable=True
                    )
                )
                for run in self.runs
            ]
            resources.enter_context(self._catching_signals())
            step, progress, seconds = self._begin(checkpoints, resume, from_step)
            advance = self._program(step, resources)
            held_out = self._held_out()
            evaluations = resources.enter_context(
                Evaluations(self._measure, beside=self.evaluate_beside)
            )
            evaluation: Evaluation | None = None
            clock = self._clock = _Clock(seconds)
            finished = step >= config.steps
            if self._owes_evaluation(step, finished):
                evaluation = self._evaluate(evaluations, step, progress, checkpoints, finished)
            while not finished:
                updates = min(self._next_boundary(step) - step, clock.dispatch)
                with clock.timing(updates), self.profiler.dispatch(updates):
                    progress = jax.block_until_ready(advance(progress, updates))
                step += updates
                self.reporter.advanced(step, clock.rate)
                finished = step == config.steps or clock.seconds - seconds >= self.time_limit

                if finished or step % config.log_every == 0:
                    with self.profiler.phase("logging and validation"):
                        progress = self._log(step, progress, clock, held_out)
                evaluate = self.evaluator is not None and (
                    finished or _is_multiple(step, config.evaluate_every)
                )
                if evaluation is not None and (evaluate or evaluation.over):
                    with self.profiler.phase("evaluation"):
                        evaluation = self._record(evaluation, checkpoints)
                stop = self._stop_signal
                if evaluate and stop is None:
                    evaluation = self._evaluate(evaluations, step, progress, checkpoints, finished)
                elif finished or stop or _is_multiple(step, config.checkpoint_every):
                    with self.profiler.phase("checkpoints"):
                        self._save(step, progress, checkpoints, None)
                if stop is not None and (evaluate or not finished):
                    if evaluation is not None:
                        self._record(evaluation, checkpoints)
                    raise Interrupted(stop, step)
        if self._frozen:
            raise FarstepError("\n".join(self._frozen.values()))

    @property
    def _agent(self) -> Agent:
        return self.runs[0].config.agent

    def _begin(
        self, checkpoints: Sequence[Checkpoints], resume: bool, from_step: int | None
    ) -> tuple[int, Progress, float]:
        """The step to go on from, the state there, and the seconds of updates behind it."""
        spaces = self.runs[0].config.spaces
        seeds = [run.config.training.seed for run in self.runs]
        step = self._last_common(checkpoints, from_step) if resume else 0
        limit = self.runs[0].config.training.steps
        if step > limit:
            raise FarstepError(
                f"{self.runs[0].path} has done {step} updates already, more than --steps {limit}."
            )
        seconds = 0.0
        if step:
            restored = self._restore(checkpoints, step)
            seconds = float(restored[0]["clock"]["seconds"])
            progress = [Progress.from_items(items) for items in restored]
        else:
            progress = [program.start(self._agent, spaces, seed) for seed in seeds]
        if resume:
            for run, saved in zip(self.runs, checkpoints, strict=True):
                run.proceed(step)
                saved.forget(later for later in saved.steps if later > step)
        return step, self._join(progress), seconds

    def _last_common(self, checkpoints: Sequence[Checkpoints], from_step: int | None) -> int:
        """The step to resume from, 0 if nothing was saved.

        Seeds saved together can be one checkpoint apart if the process died while saving.
        """
        common = set[int].intersection(*(set(saved.steps) for saved in checkpoints))
        if from_step == 0 or not any(saved.steps for saved in checkpoints):
            return 0
        if from_step in common:
            return from_step
        if from_step is None and common:
            return max(common)
        saved = "\n  ".join(
            f"{run.path}: {', '.join(map(str, one.steps)) or 'none'}"
            for run, one in zip(self.runs, checkpoints, strict=True)
        )
        wanted = "the same step" if from_step is None else f"step {from_step}"
        raise FarstepError(
            f"There is no checkpoint of {wanted} to go on from. There are:\n  {saved}\n"
            "Continue runs that differ each by itself, with a --resume of its own."
        )

    def _restore(self, checkpoints: Sequence[Checkpoints], step: int) -> list[dict[str, Any]]:
        """What each run saved at `step`.

        Raises:
            FarstepError: a checkpoint is damaged; says from which earlier step to go on.
        """
        spaces = self.runs[0].config.spaces
        skeleton = jax.eval_shape(
            lambda: _items(program.start(self._agent, spaces, seed=0), seconds=0.0)
        )
        try:
            return [saved.restore(step, skeleton) for saved in checkpoints]
        except FarstepError as error:
            earlier = set[int].intersection(*(set(saved.steps) for saved in checkpoints))
            for other in sorted((other for other in earlier if other < step), reverse=True):
                if all(_is_sound(saved, other, skeleton) for saved in checkpoints):
                    remedy = f"The checkpoint before it, of step {other}, is sound"
                    break
            else:
                other, remedy = 0, "There is no sound one before it"
            raise FarstepError(
                f"{error}\n{remedy}: add --from-step {other} to go on from there."
            ) from error

    def _join(self, seeds: Sequence[Progress]) -> Progress:
        return seeds[0] if len(seeds) == 1 else program.stack(seeds)

    def _split(self, progress: Progress) -> list[Progress]:
        if len(self.runs) == 1:
            return [progress]
        return [program.member(progress, index) for index in range(len(self.runs))]

    def _program(self, step: int, resources: ExitStack) -> Advance:
        """What does the updates from `step` on; reading ahead ends with `resources`."""
        agent, table = self._agent, self.table
        roots = jnp.stack([root_key(run.config.training.seed) for run in self.runs])
        several = len(self.runs) > 1
        if not several:
            roots = roots[0]
        if isinstance(table, DeviceTable):
            resident = program.advance_seeds if several else program.advance

            def advance_resident(progress: Progress, updates: int) -> Progress:
                return resident(agent, progress, table, roots, jnp.asarray(updates))

            return advance_resident

        reader = Reader(table, agent.spec(), roots, program.TRAINING)
        coming = range(step, self.runs[0].config.training.steps)
        prefetcher = resources.enter_context(Prefetcher(reader, coming))
        streamed = program.advance_seeds_streamed if several else program.advance_streamed

        def advance_streamed(progress: Progress, updates: int) -> Progress:
            while updates > 0:
                with self.profiler.phase("waiting for data"):
                    chunk, skip, count = prefetcher.take(updates)
                # Chunks whose updates are still to be done would fill the memory.
                jax.block_until_ready(progress)
                place = (jnp.asarray(skip), roots, jnp.asarray(count))
                progress = streamed(agent, progress, chunk, *place)
                updates -= count
            return progress

        return advance_streamed

    def _held_out(self) -> Callable[[Params], Metrics] | None:
        """What measures the loss on held-out data."""
        agent, table = self._agent, self.validation
        batches = self.runs[0].config.training.validation_batches
        if table is None:
            return None
        if isinstance(table, DeviceTable):
            return lambda params: program.validate(agent, params, table, batches)
        reader = Reader(table, agent.spec(), root_key(0), program.VALIDATION)
        return lambda params: program.validate_streamed(agent, params, reader, batches)

    def _next_boundary(self, step: int) -> int:
        config = self.runs[0].config.training
        periods = (config.log_every, config.checkpoint_every, config.evaluate_every)
        return min(
            config.steps, *(step - step % period + period for period in periods if period > 0)
        )

    def _log(
        self,
        step: int,
        progress: Progress,
        clock: _Clock,
        held_out: Callable[[Params], Metrics] | None,
    ) -> Progress:
        """Write the means since the last line and start new sums."""
        for index, run, one in self._sound(step, progress):
            metrics = {name: float(mean) for name, mean in one.means().items()}
            if held_out is not None:
                terms = held_out(one.state.params)
                metrics |= {f"validation/{name}": float(term) for name, term in terms.items()}
            timing = {"updates_per_second": clock.rate, "seconds": clock.seconds}
            run.append("metrics", {"step": step} | timing | metrics)
            self.reporter.logged(run, step, metrics)
            for logger in self.loggers[index] if self.loggers else ():
                logger.log(step, timing | metrics)
        return progress.cleared()

    def _owes_evaluation(self, step: int, finished: bool) -> bool:
        """Whether a run that is resumed was stopped at an evaluation, before it."""
        if self.evaluator is None or step == 0:
            return False
        due = finished or _is_multiple(step, self.runs[0].config.training.evaluate_every)
        return due and not all(self._evaluated(run, step) for run in self.runs)

    def _evaluated(self, run: Run, step: int) -> bool:
        return any(record["step"] == step for record in run.records("eval"))

    def _evaluate(
        self,
        evaluations: Evaluations,
        step: int,
        progress: Progress,
        checkpoints: Sequence[Checkpoints],
        finished: bool,
    ) -> Evaluation | None:
        """Evaluate, and record it if training has to wait for it; else it is still under way."""
        with self.profiler.phase("evaluation"):
            params: list[Params | None] = [None] * len(self.runs)
            for index, _, one in self._sound(step, progress):
                params[index] = one.state.params
            evaluation = evaluations.start(step, progress, params)
            if finished or evaluation.over:
                return self._record(evaluation, checkpoints)
            return evaluation

    def _measure(self, step: int, params: Sequence[Params | None]) -> list[Mapping[str, float]]:
        """What the evaluator finds for each seed's networks; nothing for a frozen seed's."""
        assert self.evaluator is not None
        return [
            {} if one is None else dict(self.evaluator(run, one, step))
            for run, one in zip(self.runs, params, strict=True)
        ]

    def _record(self, evaluation: Evaluation, checkpoints: Sequence[Checkpoints]) -> None:
        """Write down what an evaluation found, and save the checkpoint that it is about.

        The best checkpoint is chosen by it, so this one is saved now that its success is known.
        """
        step = evaluation.step
        try:
            found = evaluation.result()
        except BaseException:
            self._save(step, evaluation.progress, checkpoints, None)
            raise
        for index, (run, metrics) in enumerate(zip(self.runs, found, strict=True)):
            # Frozen; or the process died between the journals of seeds trained together.
            if not metrics or self._evaluated(run, step):
                continue
            run.append("eval", {"step": step} | dict(metrics))
            self.reporter.evaluated(run, step, metrics)
            for logger in self.loggers[index] if self.loggers else ():
                logger.log(step, {f"evaluation/{name}": v for name, v in metrics.items()})
        success = [metrics.get(SUCCESS) for metrics in found]
        self._save(step, evaluation.progress, checkpoints, success)

    def _save(
        self,
        step: int,
        progress: Progress,
        checkpoints: Sequence[Checkpoints],
        success: Sequence[float | None] | None,
    ) -> None:
        for index, _, one in self._sound(step, progress):
            items = _items(one, self._clock.seconds)
            checkpoints[index].save(step, items, success=success[index] if success else None)

    def _sound(self, step: int, progress: Progress) -> list[tuple[int, Run, Progress]]:
        """The seeds that go on, by index; one that is lost is frozen here.

        Raises:
            FarstepError: none is left.
        """
        seeds = list(zip(range(len(self.runs)), self.runs, self._split(progress), strict=True))
        for index, run, one in seeds:
            broken = [name for name, total in one.sums.items() if not math.isfinite(total)]
            if broken and index not in self._frozen:
                reason = (
                    f"{run.path}: {', '.join(broken)} became infinite or NaN by update {step}. "
                    "The last checkpoint is sound; lower --learning-rate, or look at the data "
                    "with 'farstep data info'."
                )
                self._frozen[index] = reason
                if len(seeds) > 1:
                    run.freeze(reason)
                    self.reporter.frozen(run, reason)
        if len(self._frozen) == len(seeds):
            raise FarstepError("\n".join(self._frozen.values()))
        return [seed for seed in seeds if seed[0] not in self._frozen]

    @contextmanager
    def _catching_signals(self) -> Iterator[None]:
        """Turn signals to stop into a request to save first, after the running dispatch."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def request(number: int, frame: FrameType | None) -> None:
            if self._stop_signal is not None:
                raise KeyboardInterrupt
            self._stop_signal = number

        previous = {
            number: signal.signal(number, request)
            for number in STOP_SIGNALS
            if signal.getsignal(number) != signal.SIG_IGN  # As nohup has SIGHUP ignored.
        }
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _is_multiple(step: int, period: int) -> bool:
    return period > 0 and step % period == 0


def _items(progress: Progress, seconds: float) -> dict[str, Any]:
    """The parts of a checkpoint, after so many seconds of updates."""
    return progress.items() | {"clock": {"seconds": np.float32(seconds)}}


def _is_sound(saved: Checkpoints, step: int, skeleton: Mapping[str, Any]) -> bool:
    with suppress(FarstepError):
        saved.restore(step, skeleton)
        return True
    return False


class _Clock:
    """Time spent on updates, their rate, and from it how many to dispatch at once.

    Args:
        seconds: spent before this process, if a run is resumed.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._compiled = False
        self.seconds = seconds
        self.rate = 0.0
        self.dispatch = 1

    @contextmanager
    def timing(self, updates: int) -> Iterator[None]:
        """Time one dispatch of `updates`."""
        began = time.perf_counter()
        yield
        elapsed = time.perf_counter() - began
        self.seconds += elapsed
        if not self._compiled:
            self._compiled = True  # The first dispatch spends its time compiling.
            return
        recent = updates / elapsed
        self.rate = recent if self.rate == 0 else 0.8 * self.rate + 0.2 * recent
        self.dispatch = max(1, round(self.rate * DISPATCH_SECONDS))
