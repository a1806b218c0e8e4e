"""The training loop: the only owner of the step."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from farstep.core import hosts
from farstep.core.errors import FarstepError
from farstep.core.rng import root_key
from farstep.core.types import Metrics, Params
from farstep.sampling.batches import DeviceTable
from farstep.sampling.stream import HostTable, Prefetcher, Reader
from farstep.training import program
from farstep.training.checkpoint import SUCCESS, Checkpoints
from farstep.training.evaluations import Evaluation, Evaluations
from farstep.training.layout import Layout
from farstep.training.loggers import Logger
from farstep.training.profile import Profiler
from farstep.training.program import Source, TrainState
from farstep.training.resume import begin, items_of
from farstep.training.run import Run
from farstep.training.schedule import Schedule
from farstep.training.signals import StopRequest

DISPATCH_SECONDS = 0.5
"""Aim for dispatches this long: rare enough to cost nothing, short enough to answer Ctrl-C."""


Advance = Callable[[TrainState, int], TrainState]
"""Does a number of updates."""


class Evaluator(Protocol):
    """Measures a run's policy; its `success` chooses the best checkpoint."""

    def __call__(self, run: Run, params: Params, step: int) -> Mapping[str, float]: ...


class Reporter:
    """Receives the progress of training; this one prints nothing."""

    def message(self, line: str) -> None:
        """A sentence about the data or the run directory."""

    def advanced(self, step: int, updates_per_second: float) -> None:
        """All seeds have done `step` updates."""

    def logged(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        """A line was written to the metrics log of a run."""

    def evaluated(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        """A run's policy was measured."""

    def frozen(self, run: Run, reason: str) -> None:
        """A run's seed diverged, and goes no further."""

    def profiled(self, profiler: Profiler, trace: Path) -> None:
        """Training has ended; where its time went, and the directory of the trace."""


class Interrupted(Exception):
    """Training was asked to stop, saved everything, and stopped."""

    def __init__(self, signal_number: int, step: int, runs: Sequence[Run]):
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after {step} updates")
        self.signal_number = signal_number
        self.step = step
        self.runs = runs


@dataclass
class Trainer:
    """Trains runs that differ in nothing but their seed, in one program.

    Attributes:
        runs: the run directories, locked by the caller; all share the first one's configuration
            but for the seed.
        table: training data, in device memory or on disk.
        validation: held-out data, if there is any, likewise.
        evaluator: measures the policy in its environment, if there is one.
        concurrent_evaluation: whether training goes on during evaluations; else it waits.
        reporter: shows progress.
        loggers: for each run, where its numbers go besides its own logs.
        time_limit: seconds of updates after which training ends as at its last step.
        profiler: measures where the time goes.
        layout: the devices that updates are done on.
    """

    runs: Sequence[Run]
    table: DeviceTable | HostTable
    validation: DeviceTable | HostTable | None
    evaluator: Evaluator | None
    reporter: Reporter
    loggers: Sequence[Sequence[Logger]] = ()
    time_limit: float = math.inf
    concurrent_evaluation: bool = False
    profiler: Profiler = field(default_factory=Profiler)
    layout: Layout = field(default_factory=Layout)

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
        schedule = Schedule(config, evaluates=self.evaluator is not None)
        with ExitStack() as resources:
            stop = resources.enter_context(StopRequest())
            session = _Session(self, resources, resume=resume, from_step=from_step)
            if session.step and schedule.due(session.step, finished=session.finished).evaluate:
                session.evaluate_if_due_before()
            while not session.finished:
                session.update(schedule.next(session.step))
                due = schedule.due(session.step, finished=session.finished)
                if due.log:
                    session.log()
                session.record(wait=due.evaluate)
                stopped = hosts.greatest(stop.signal_number or 0) or None
                if due.evaluate and stopped is None:
                    session.evaluate()
                elif due.save or stopped is not None:
                    session.save()
                if stopped is not None and (due.evaluate or not session.finished):
                    session.record(wait=True)
                    raise Interrupted(stopped, session.step, self.runs)
            session.raise_if_frozen()


class _Session:
    """One call of `Trainer.train`.

    Args:
        trainer: what is trained, and how.
        resources: closes at the end what is opened here.

    Attributes:
        step: updates done.
    """

    def __init__(
        self, trainer: Trainer, resources: ExitStack, *, resume: bool, from_step: int | None
    ):
        self._trainer = trainer
        self._runs = trainer.runs
        self._config = trainer.runs[0].config
        keep = self._config.training.keep_checkpoints
        self._checkpoints = [
            resources.enter_context(Checkpoints(run.path / "checkpoints", keep=keep, writable=True))
            for run in self._runs
            if hosts.is_first()
        ]
        self._evaluations = resources.enter_context(
            Evaluations(self._measure, concurrent=trainer.concurrent_evaluation)
        )
        self._evaluation: Evaluation | None = None
        self._frozen: dict[int, str] = {}
        self.step, self._state, seconds = begin(
            self._runs, self._checkpoints, resume=resume, from_step=from_step
        )
        self._state = trainer.layout.spread(self._state)
        self._clock = _Clock(seconds)
        self._deadline = seconds + trainer.time_limit
        self._advance = self._program(resources)
        self._held_out = self._validation()

    @property
    def finished(self) -> bool:
        """Whether all updates are done, or there is no time for more."""
        done = self.step >= self._config.training.steps
        return done or self._clock.seconds >= self._deadline

    def update(self, boundary: int) -> None:
        """One dispatch of updates, at most to step `boundary`."""
        updates = min(boundary - self.step, self._clock.dispatch)
        with self._clock.timing(updates), self._trainer.profiler.dispatch(updates):
            self._state = jax.block_until_ready(self._advance(self._state, updates))
        self.step += updates
        self._trainer.reporter.advanced(self.step, self._clock.rate)

    def log(self) -> None:
        """Write the means since the last line, and start new sums."""
        with self._trainer.profiler.phase("logging and validation"):
            sound = self._sound(self.step, self._gathered())
            hosts.by_first(lambda: self._log(sound))
            self._state = self._trainer.layout.spread(self._state.cleared())

    def save(self) -> None:
        """Save a checkpoint of every seed."""
        with self._trainer.profiler.phase("checkpoints"):
            state = self._gathered()
            hosts.by_first(lambda: self._save(self.step, state, None))

    def evaluate_if_due_before(self) -> None:
        """Do an evaluation that was due when training was stopped."""
        done = hosts.by_first(lambda: all(_evaluated(run, self.step) for run in self._runs))
        if not hosts.greatest(bool(done)):
            self.evaluate()

    def evaluate(self) -> None:
        """Begin an evaluation, and record it if it is over or training is finished."""
        with self._trainer.profiler.phase("evaluation"):
            state = self._gathered()
            params: list[Params | None] = [None] * len(self._runs)
            for index, _, one in self._sound(self.step, state):
                params[index] = one.state.acting
            hosts.by_first(lambda: self._evaluate(state, params))

    def _gathered(self) -> TrainState:
        return self._trainer.layout.gathered(self._state)

    def _log(self, sound: Sequence[tuple[int, Run, TrainState]]) -> None:
        for index, run, one in sound:
            metrics = {name: float(mean) for name, mean in one.means().items()}
            if self._held_out is not None:
                terms = self._held_out(one.state.acting)
                metrics |= {f"validation/{name}": float(term) for name, term in terms.items()}
            timing = {"updates_per_second": self._clock.rate, "seconds": self._clock.seconds}
            run.append("metrics", {"step": self.step} | timing | metrics)
            self._trainer.reporter.logged(run, self.step, metrics)
            self._tell_loggers(index, self.step, timing | metrics)

    def _evaluate(self, state: TrainState, params: Sequence[Params | None]) -> None:
        self._evaluation = self._evaluations.start(self.step, state, params)
        self.record(wait=self.finished)

    def record(self, *, wait: bool) -> None:
        """Log the evaluation under way if it is over or `wait`, and save its checkpoint."""
        evaluation = self._evaluation
        if evaluation is None or not (wait or evaluation.result.done()):
            return
        self._evaluation = None
        with self._trainer.profiler.phase("evaluation"):
            try:
                found = evaluation.result.result()
            except BaseException:
                self._save(evaluation.step, evaluation.state, None)
                raise
            for index, (run, metrics) in enumerate(zip(self._runs, found, strict=True)):
                # Frozen; or the process died between the logs of seeds trained together.
                if not metrics or _evaluated(run, evaluation.step):
                    continue
                run.append("eval", {"step": evaluation.step} | dict(metrics))
                self._trainer.reporter.evaluated(run, evaluation.step, metrics)
                named = {f"evaluation/{name}": value for name, value in metrics.items()}
                self._tell_loggers(index, evaluation.step, named)
            success = [metrics.get(SUCCESS) for metrics in found]
            self._save(evaluation.step, evaluation.state, success)

    def raise_if_frozen(self) -> None:
        """Raises FarstepError with the reason of every frozen seed, if there is one."""
        if self._frozen:
            raise FarstepError("\n".join(self._frozen.values()))

    def _program(self, resources: ExitStack) -> Advance:
        """The function that does updates; reading ahead ends with `resources`."""
        agent, profiler, layout = self._config.agent, self._trainer.profiler, self._trainer.layout
        table = self._trainer.table
        roots = jnp.stack([root_key(run.config.training.seed) for run in self._runs])
        placed = layout.spread(roots)

        def advance(state: TrainState, source: Source, first: int, updates: int) -> TrainState:
            begin, count = layout.repeated((jnp.asarray(first), jnp.asarray(updates)))
            with layout.in_force():
                return program.advance(agent, state, source, begin, placed, count, layout.mesh)

        if isinstance(table, DeviceTable):
            everywhere = layout.repeated(table)
            return lambda state, updates: advance(state, everywhere, 0, updates)
        reader = Reader(table, agent.spec(), roots, program.TRAINING)
        coming = range(self.step, self._config.training.steps)
        prefetcher = resources.enter_context(Prefetcher(reader, coming))

        def advance_streamed(state: TrainState, updates: int) -> TrainState:
            while updates > 0:
                with profiler.phase("waiting for data"):
                    chunk, first, count = prefetcher.take(updates)
                # Chunks whose updates are still to be done would fill the memory.
                jax.block_until_ready(state)
                state = advance(state, layout.spread(chunk), first, count)
                updates -= count
            return state

        return advance_streamed

    def _validation(self) -> Callable[[Params], Metrics] | None:
        """The function that measures the loss on held-out data."""
        agent, table = self._config.agent, self._trainer.validation
        batches = self._config.training.validation_batches
        if table is None:
            return None
        if isinstance(table, DeviceTable):
            return lambda params: program.validate(agent, params, table, jnp.asarray(0), batches)
        reader = Reader(table, agent.spec(), root_key(0), program.VALIDATION)

        def validate(params: Params) -> Metrics:
            terms = [
                program.validate(agent, params, reader.read(number, 1), jnp.asarray(number), 1)
                for number in range(batches)
            ]
            return jax.tree.map(lambda *values: jnp.mean(jnp.stack(values)), *terms)

        return validate

    def _measure(self, step: int, params: Sequence[Params | None]) -> list[Mapping[str, float]]:
        """The evaluator's metrics for each seed's networks; none for a frozen seed's."""
        assert self._trainer.evaluator is not None
        return [
            {} if one is None else dict(self._trainer.evaluator(run, one, step))
            for run, one in zip(self._runs, params, strict=True)
        ]

    def _save(self, step: int, state: TrainState, success: Sequence[float | None] | None) -> None:
        for index, _, one in self._sound(step, state):
            items = items_of(one, self._clock.seconds)
            reached = success[index] if success else None
            self._checkpoints[index].save(step, items, success=reached)

    def _sound(self, step: int, state: TrainState) -> list[tuple[int, Run, TrainState]]:
        """The seeds with finite metrics, by index; others are frozen here.

        Raises:
            FarstepError: none is left.
        """
        seeds = [(index, run, program.member(state, index)) for index, run in enumerate(self._runs)]
        for index, run, one in seeds:
            broken = [name for name, total in one.sums.items() if not math.isfinite(total)]
            if broken and index not in self._frozen:
                reason = (
                    f"{run.path}: {', '.join(broken)} became infinite or NaN by update {step}. "
                    "The last checkpoint is sound; lower --learning-rate, or look at the data "
                    "with 'farstep data info'."
                )
                self._frozen[index] = reason
                if len(seeds) > 1 and hosts.is_first():
                    run.freeze(reason)
                    self._trainer.reporter.frozen(run, reason)
        if len(self._frozen) == len(seeds):
            self.raise_if_frozen()
        return [seed for seed in seeds if seed[0] not in self._frozen]

    def _tell_loggers(self, index: int, step: int, metrics: Mapping[str, float]) -> None:
        for logger in self._trainer.loggers[index] if self._trainer.loggers else ():
            logger.log(step, metrics)


def _evaluated(run: Run, step: int) -> bool:
    return any(record["step"] == step for record in run.records("eval"))


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
        # Several processes must all go on alike, by one clock.
        elapsed = float(hosts.broadcast(np.asarray(time.perf_counter() - began)))
        self.seconds += elapsed
        if not self._compiled:
            self._compiled = True  # The first dispatch spends its time compiling.
            return
        recent = updates / elapsed
        self.rate = recent if self.rate == 0 else 0.8 * self.rate + 0.2 * recent
        self.dispatch = max(1, round(self.rate * DISPATCH_SECONDS))
