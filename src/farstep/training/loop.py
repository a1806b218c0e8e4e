"""The training loop: the only owner of the step."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

import jax
import jax.numpy as jnp

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
        runs: the run directories; all share the first one's configuration but for the seed.
        table: training data, in device memory or on disk.
        validation: held-out data, if there is any, likewise.
        evaluator: measures the policy in its environment, if there is one.
        evaluate_beside: whether training goes on meanwhile; else it waits.
        reporter: shows progress.
        loggers: for each run, where its numbers go besides its own journals.
        time_limit: end, as if that had been the last step, after so many seconds of updates.
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

    def train(self, *, resume: bool = False) -> None:
        """Train to the configured number of steps, from the start or from the last checkpoint.

        Raises:
            Interrupted: SIGINT or SIGTERM came; a checkpoint was saved first.
            FarstepError: a metric became infinite or NaN (it is named), the disk is full, or
                there is nothing to resume from.
        """
        config = self.runs[0].config.training
        with ExitStack() as resources:
            checkpoints = [
                resources.enter_context(
                    Checkpoints(run.path / "checkpoints", keep=config.keep_checkpoints)
                )
                for run in self.runs
            ]
            resources.enter_context(self._catching_signals())
            step, progress = self._begin(checkpoints, resume)
            advance = self._program(step, resources)
            held_out = self._held_out()
            evaluations = resources.enter_context(
                Evaluations(self._measure, beside=self.evaluate_beside)
            )
            evaluation: Evaluation | None = None
            clock = _Clock()
            finished = step >= config.steps
            if self._owes_evaluation(step, finished):
                evaluation = self._evaluate(evaluations, step, progress, checkpoints, finished)
            while not finished:
                updates = min(self._next_boundary(step) - step, clock.dispatch)
                with clock.timing(updates), self.profiler.dispatch(updates):
                    progress = jax.block_until_ready(advance(progress, updates))
                step += updates
                self.reporter.advanced(step, clock.rate)
                finished = step == config.steps or clock.seconds >= self.time_limit

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

    @property
    def _agent(self) -> Agent:
        return self.runs[0].config.agent

    def _begin(self, checkpoints: Sequence[Checkpoints], resume: bool) -> tuple[int, Progress]:
        """The state to go on from, and its step."""
        spaces = self.runs[0].config.spaces
        seeds = [run.config.training.seed for run in self.runs]
        if not resume:
            return 0, self._join([program.start(self._agent, spaces, seed) for seed in seeds])
        skeleton = jax.eval_shape(lambda: program.start(self._agent, spaces, seeds[0]).items())
        # Seeds saved together can be one checkpoint apart if the process died while saving.
        common = set[int].intersection(*(set(saved.steps) for saved in checkpoints))
        step = max(common, default=0)
        for run in self.runs:
            run.rewind(step)
        if not common:
            return self._begin(checkpoints, resume=False)
        return step, self._join(
            [Progress.from_items(saved.restore(step, skeleton)) for saved in checkpoints]
        )

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
        for index, (run, one) in enumerate(zip(self.runs, self._split(progress), strict=True)):
            self._check_finite(run, step, one)
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
            params = [one.state.params for one in self._split(progress)]
            evaluation = evaluations.start(step, progress, params)
            if finished or evaluation.over:
                return self._record(evaluation, checkpoints)
            return evaluation

    def _measure(self, step: int, params: Sequence[Params]) -> list[Mapping[str, float]]:
        """What the evaluator finds for each seed's networks."""
        assert self.evaluator is not None
        return [
            dict(self.evaluator(run, one, step)) for run, one in zip(self.runs, params, strict=True)
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
            if self._evaluated(run, step):
                continue  # The process died between the journals of seeds trained together.
            run.append("eval", {"step": step} | dict(metrics))
            self.reporter.evaluated(run, step, metrics)
            for logger in self.loggers[index] if self.loggers else ():
                logger.log(step, {f"evaluation/{name}": v for name, v in metrics.items()})
        success = [metrics[SUCCESS] for metrics in found]
        self._save(step, evaluation.progress, checkpoints, success)

    def _save(
        self,
        step: int,
        progress: Progress,
        checkpoints: Sequence[Checkpoints],
        success: Sequence[float] | None,
    ) -> None:
        for index, one in enumerate(self._split(progress)):
            self._check_finite(self.runs[index], step, one)
            checkpoints[index].save(step, one.items(), success=success[index] if success else None)

    def _check_finite(self, run: Run, step: int, progress: Progress) -> None:
        broken = [name for name, total in progress.sums.items() if not math.isfinite(total)]
        if broken:
            raise FarstepError(
                f"{run.path}: {', '.join(broken)} became infinite or NaN by update {step}. "
                "The last checkpoint is sound; lower --learning-rate, or look at the data with "
                "'farstep data info'."
            )

    @contextmanager
    def _catching_signals(self) -> Iterator[None]:
        """Turn SIGINT and SIGTERM into a request to save and stop after the running dispatch."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def request(number: int, frame: FrameType | None) -> None:
            if self._stop_signal is not None:
                raise KeyboardInterrupt
            self._stop_signal = number

        previous = {n: signal.signal(n, request) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _is_multiple(step: int, period: int) -> bool:
    return period > 0 and step % period == 0


class _Clock:
    """Time spent on updates, their rate, and from it how many to dispatch at once."""

    def __init__(self) -> None:
        self._compiled = False
        self.seconds = 0.0
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
