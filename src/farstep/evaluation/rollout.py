"""OGBench's evaluation: fixed tasks × seeded episodes, all of them running side by side.

Every step is one call of the policy for all running episodes and one step of the simulators. The
three things that could make a result depend on the machine are kept out of it:

- An episode's seed is a function of (seed, task, episode) alone, and the simulators draw from
  nothing else, so it does not matter which worker runs an episode or what ran there before.
- The policy always sees the same number of rows, `slots`, those of finished episodes included.
  Compiled matrix products of different heights round differently in the last bits, and a walking
  body amplifies a last bit; within one height a row does not depend on where it stands. So `slots`
  belongs to the protocol, and its default is a constant rather than a number of cores.
- Workers only split the rows between processes.
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Int

from farstep.core import machine
from farstep.core.errors import FarstepError
from farstep.core.rng import stream_generator
from farstep.core.seeds import check_seed
from farstep.core.types import BatchPolicy, Spaces
from farstep.envs.catalog import environment as find_environment
from farstep.envs.pool import EnvironmentPool
from farstep.envs.specs import EnvironmentSpec
from farstep.evaluation.frames import AdaptedPolicy
from farstep.evaluation.results import Episode, Evaluation

SLOTS = 50
"""Rows of every policy call, and so most episodes in flight, unless asked otherwise."""

Progress = Callable[[int, int, int], None]
"""Called with (episodes finished, episodes in all, successes so far) as episodes finish."""

Render = Callable[[], np.ndarray]
"""Draws a picture of a simulator's state, (height, width, 3) uint8."""


class Recorder(Protocol):
    """Watches chosen episodes: trajectories for a picture, frames for a video.

    `start` is asked as an episode starts and says whether to watch it; `see` then gets its first
    observation and the one after every step. `render` draws the simulator as it stands, and costs
    only if called. Arrays are the evaluator's own: keep copies.
    """

    def start(self, task: int, index: int) -> bool: ...

    def see(
        self, task: int, index: int, observation: np.ndarray, goal: np.ndarray, render: Render
    ) -> None: ...


def episode_seed(seed: int, task: int, index: int) -> int:
    """The seed of one episode's placement, noise and stabilising actions, below 2³¹."""
    return int(stream_generator(seed, "evaluation", task, index).integers(2**31))


def evaluate(
    policy: BatchPolicy,
    environment: str | EnvironmentSpec,
    *,
    episodes_per_task: int = 50,
    tasks: Sequence[int] | None = None,
    seed: int = 0,
    slots: int = SLOTS,
    workers: int | None = None,
    max_steps: int | None = None,
    options: Mapping[str, Any] | None = None,
    spaces: Spaces | None = None,
    start_every: int = 1,
    record: Recorder | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Success of `policy` on the tasks of `environment` (protocol of OGBench, Park et al. 2025).

    An episode ends when the environment terminates or truncates it, and it succeeded if the
    environment's own flag says so at its last step. Continuous actions are clipped to the
    environment's bounds, which are [−1, 1] throughout the catalogue.

    Args:
        policy: is called with all `slots` rows every step; rows without an episode are filled.
        episodes_per_task: 50 in the published tables.
        seed: the root of all episodes' seeds.
        slots: rows of a policy call (see the module). Part of the protocol.
        workers: processes that step the simulators, 0 for this one; by default one per core, and
            none where there is one core.
        options: for `farstep.envs.catalog.make`, such as the size of its pictures.
        spaces: spaces of the policy, to be checked against the environment.
        start_every: an episode starts a multiple of this many steps after the others, a free slot
            waiting so long: a policy that plans every n steps is quickest if all plan together. The
            result does not depend on it, unless the policy draws from the number of the call.
        record: watches chosen episodes.
        progress: called for every finished episode.

    Raises:
        FarstepError: unknown environment or task, a number out of range, a policy for other
            spaces, or one whose actions have the wrong shape or are not finite.
    """
    spec = find_environment(environment) if isinstance(environment, str) else environment
    numbers = _known_tasks(spec, tasks)
    _check_at_least(
        1,
        episodes_per_task=episodes_per_task,
        slots=slots,
        max_steps=max_steps,
        start_every=start_every,
    )
    _check_at_least(0, workers=workers)
    check_seed(seed)
    limit = spec.max_episode_steps if max_steps is None else max_steps
    # Tasks alternate, so that the last episodes to run, with few beside them, are not all of the
    # hardest task.
    waiting = [(task, index) for index in range(episodes_per_task) for task in numbers]
    running = min(slots, len(waiting))
    options = dict(options or {}) | {"max_episode_steps": limit}
    shown = record is not None
    extras = [spec.progress_key] if spec.progress_key else []
    with EnvironmentPool(
        spec, running, _workers(workers), extras=extras, renders=shown, **options
    ) as simulators:
        if spaces is not None:
            _check_spaces(spec, simulators, spaces)
        began = time.perf_counter()
        adapted = policy if spaces is None else AdaptedPolicy(policy, spaces, _whole(simulators))
        rollout = _Rollout(adapted, simulators, spec, slots, seed, record)
        episodes = rollout.run(waiting, start_every, progress)
        seconds = time.perf_counter() - began
    return Evaluation(
        episodes=tuple(sorted(episodes, key=lambda episode: (episode.task, episode.index))),
        protocol={
            "environment": spec.name,
            "tasks": numbers,
            "episodes_per_task": episodes_per_task,
            "seed": seed,
            "max_steps": limit,
            "slots": slots,
            "versions": _versions(),
        },
        seconds=seconds,
    )


def check_environment(environment: str, spaces: Spaces) -> None:
    """Make the environment once, before long work that ends with evaluating in it.

    Raises:
        FarstepError: it is unknown, cannot be made here, or has other spaces.
    """
    spec = find_environment(environment)
    with EnvironmentPool(spec, 1, min(1, _workers(None))) as simulators:
        _check_spaces(spec, simulators, spaces)


@dataclass(frozen=True)
class _Running:
    """The episode of one slot."""

    task: int
    index: int
    seed: int
    watched: bool


@dataclass
class _Rollout:
    """The episodes in flight: row `i` of the arrays is slot `i` of the simulators.

    Rows beyond the simulators' slots, and rows whose episode is over when none waits, keep their
    last values; the policy's answer for them is not read.
    """

    policy: BatchPolicy
    simulators: EnvironmentPool
    spec: EnvironmentSpec
    rows: int
    seed: int
    record: Recorder | None

    def __post_init__(self) -> None:
        self._observations = self._goals = np.empty(0)
        self._episodes: list[_Running | None] = [None] * self.simulators.num_slots
        self._steps = np.zeros(self.simulators.num_slots, int)

    def run(
        self,
        waiting: Sequence[tuple[int, int]],
        start_every: int,
        progress: Progress | None,
    ) -> list[Episode]:
        """Runs every (task, index) of `waiting`, in this order as slots become free."""
        queue = deque(waiting)
        finished: list[Episode] = []
        active = np.zeros(0, int)
        # There are at least as many episodes as slots, so all slots start.
        free = np.arange(self.simulators.num_slots)
        step = 0
        while len(finished) < len(waiting):
            if not active.size:
                step = 0  # No episode is running.
            if step % start_every == 0:
                starting, free = np.split(free, [len(queue)])
                if starting.size:
                    self._start(starting, [queue.popleft() for _ in starting])
                    active = np.sort(np.concatenate([active, starting]))
            success, over = self._step(active)
            step += 1
            for slot, won in zip(active[over], success[over], strict=True):
                finished.append(self._finish(int(slot), bool(won)))
            if over.any():
                self.policy.end(active[over])
                if progress is not None:
                    progress(len(finished), len(waiting), sum(e.success for e in finished))
            free, active = np.concatenate([free, active[over]]), active[~over]
        return finished

    def _start(self, slots: Int[np.ndarray, " n"], episodes: list[tuple[int, int]]) -> None:
        seeds = [episode_seed(self.seed, task, index) for task, index in episodes]
        observations, goals = self.simulators.reset(slots, seeds, [task for task, _ in episodes])
        if self._observations.size:
            self._observations[slots], self._goals[slots] = observations, goals
            self.policy.begin(slots, observations, goals)
        else:
            # The first start fills every row, so that the policy never meets an undefined one.
            self._observations = np.resize(observations, (self.rows, *observations.shape[1:]))
            self._goals = np.resize(goals, (self.rows, *goals.shape[1:]))
            self.policy.begin(np.arange(self.rows), self._observations.copy(), self._goals.copy())
            self.policy.end(np.arange(len(slots), self.rows))
        self._steps[slots] = 0
        for slot, (task, index), seed in zip(slots, episodes, seeds, strict=True):
            watched = self.record is not None and self.record.start(task, index)
            self._episodes[slot] = _Running(task, index, seed, watched)
        self._show(slots)

    def _step(
        self, active: Int[np.ndarray, " n"]
    ) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """One step of the `active` slots: which are at success now, and which are over."""
        actions = self._actions(active)
        observations, success, terminated, truncated = self.simulators.step(actions, active)
        self._observations[active] = observations
        self._steps[active] += 1
        self._show(active)
        return success, terminated | truncated

    def _actions(self, active: Int[np.ndarray, " n"]) -> np.ndarray:
        # Copies: a policy may scale what it is given in place.
        actions = np.asarray(self.policy.act(self._observations.copy(), self._goals.copy()))
        expected = (self.rows, *self.simulators.action_shape)
        if actions.shape != expected:
            raise FarstepError(
                f"{self.spec.name} needs actions of shape {expected}, but the policy returned "
                f"{actions.shape}; was it trained for another environment?"
            )
        actions = actions[active]
        if self.simulators.num_actions is not None:
            return actions
        if not np.isfinite(actions).all():
            slot = int(active[np.argmin(np.isfinite(actions).all(axis=-1))])
            episode = self._running(slot)
            raise FarstepError(
                f"the policy returned an action that is not finite at step {self._steps[slot]} of "
                f"task {episode.task}, episode {episode.index}; if its training has diverged, "
                "evaluate an earlier checkpoint"
            )
        return np.clip(actions, self.simulators.action_low, self.simulators.action_high)

    def _finish(self, slot: int, success: bool) -> Episode:
        episode = self._running(slot)
        self._episodes[slot] = None
        distance = None
        if self.spec.position:
            where = self._observations[slot, list(self.spec.position)]
            gap = where - self._goals[slot, list(self.spec.goal_position)]
            distance = float(np.linalg.norm(gap))
        return Episode(
            task=episode.task,
            index=episode.index,
            seed=episode.seed,
            success=success,
            steps=int(self._steps[slot]),
            final_distance=distance,
            progress=float(self.simulators.extras[key][slot])
            if (key := self.spec.progress_key)
            else None,
        )

    def _running(self, slot: int) -> _Running:
        episode = self._episodes[slot]
        assert episode is not None
        return episode

    def _show(self, slots: Int[np.ndarray, " n"]) -> None:
        if self.record is None:
            return
        for slot in map(int, slots):
            episode = self._running(slot)
            if episode.watched:
                self.record.see(
                    episode.task,
                    episode.index,
                    self._observations[slot],
                    self._goals[slot],
                    functools.partial(self.simulators.render, slot),
                )


def _known_tasks(spec: EnvironmentSpec, tasks: Sequence[int] | None) -> list[int]:
    if spec.num_tasks == 0:
        raise FarstepError(f"{spec.name} has no tasks to evaluate")
    numbers = list(range(1, spec.num_tasks + 1)) if tasks is None else sorted(set(tasks))
    unknown = [number for number in numbers if not 1 <= number <= spec.num_tasks]
    if unknown or not numbers:
        raise FarstepError(
            f"{spec.name} has tasks 1 to {spec.num_tasks}, not {unknown or 'an empty choice'}"
        )
    return numbers


def _check_spaces(spec: EnvironmentSpec, simulators: EnvironmentPool, spaces: Spaces) -> None:
    actions = simulators.num_actions or simulators.action_shape[-1]
    discrete = simulators.num_actions is not None
    frame, whole = spaces.frame, _whole(simulators)
    observations = np.dtype((simulators.observation_dtype, simulators.observation_shape))
    fields: Any = observations.fields or {}
    if frame.keys and fields:
        # The environment may offer more arrays than the policy uses.
        there = [(name, fields[name][0]) for name in frame.keys if name in fields]
        observations = np.dtype(there)
    goals = np.dtype((simulators.goal_dtype, simulators.goal_shape))
    # Where goals are whole observations, the policy takes its own part of them.
    if whole and spaces.rule.key is not None and spaces.rule.key not in frame.keys:
        raise FarstepError(
            f"{spec.name} gives goals as observations, and this policy's are '{spaces.rule.key}' of"
            " its data: train with --evaluation-episodes 0, and give the policy goals of its own."
        )
    offered = (observations, observations if whole else goals, discrete, actions)
    aim = frame.row if whole or spaces.rule.whole else spaces.goal.row
    expected = (frame.row, aim, spaces.action.discrete, spaces.action.size)
    if offered != expected:

        def describe(row: np.dtype, goal: np.dtype, discrete: bool, size: int) -> str:
            goals = "" if goal == row else f", goals {_shown(goal)}"
            kind = "actions" if discrete else "action values"
            return f"observations {_shown(row)}{goals} and {size} {kind}"

        raise FarstepError(
            f"{spec.name} has {describe(*offered)}, but the policy was trained on "
            f"{describe(*expected)}; evaluate it in the environment of its own data"
        )


def _whole(simulators: EnvironmentPool) -> bool:
    """Whether goals are whole observations."""
    goal = simulators.goal_shape, simulators.goal_dtype
    return goal == (simulators.observation_shape, simulators.observation_dtype)


def _shown(row: np.dtype) -> str:
    if row.fields is None:
        return str(row.shape)
    return ", ".join(f"'{name}' {field[0].shape}" for name, field in row.fields.items())


def _check_at_least(least: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < least:
            raise FarstepError(f"{name.replace('_', ' ')} must be at least {least}, not {value}")


def _workers(asked: int | None) -> int:
    if asked is not None:
        return asked
    # With one core, a worker only adds hand-overs.
    return count if (count := machine.processes()) > 1 else 0


def _versions() -> dict[str, str]:
    versions = {}
    for package in ("farstep", "ogbench", "mujoco", "gymnasium", "jax", "numpy"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
