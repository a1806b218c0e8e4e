"""Keeps OGBench's environments away from NumPy's global generator, and their files off the disk.

Some of OGBench's environments draw from the global generator (random tasks, antsoccer's placement,
all of Powderworld's physics). Here that generator's state is swapped for a private one while they
run, so an episode follows from its seed alone and draws elsewhere do not change.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import gymnasium
import mujoco
import numpy as np

from farstep.core.seeds import stream

# MuJoCo's classes are compiled and have no types that a checker could read.
_mujoco: Any = mujoco

# NumPy's global generator, which nothing else in farstep touches.
_GLOBAL: Any = np.random


class IsolatedEnv(gymnasium.Wrapper):
    """Runs `env` with a private state in NumPy's global generator.

    `reset(seed=...)` seeds that state, the environment's own generator and its action space.

    Arguments:
        env: the environment.
        state: the private state until the first seed.
        steps_draw: whether steps draw from the global generator too, and not only resets. Swapping
            states takes as long as a good part of a simulator's step.
    """

    def __init__(self, env: gymnasium.Env, state: Any, steps_draw: bool):
        super().__init__(env)
        self._state = state
        self._steps_draw = steps_draw

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self._state = _state(stream(seed, "global generator"))
            # Environments sample their stabilising actions from it.
            self.env.unwrapped.action_space.seed(
                int(stream(seed, "stabilising actions").integers(2**31))
            )
        with self._isolated():
            return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        with self._isolated() if self._steps_draw else nullcontext():
            return self.env.step(action)

    @contextmanager
    def _isolated(self) -> Iterator[None]:
        with _global_state(self._state):
            try:
                yield
            finally:
                self._state = _GLOBAL.get_state()


def make_isolated(name: str, *, steps_draw: bool = False, **kwargs: Any) -> gymnasium.Env:
    """OGBench's environment `name`, isolated from the moment it is built; its episodes have no end.

    Arguments:
        name: name in OGBench's registry.
        steps_draw: as for `IsolatedEnv`.
        kwargs: keyword arguments of the environment.
    """
    state = _state(np.random.default_rng())
    with _global_state(state):
        env = make_quietly(name, max_episode_steps=-1, disable_env_checker=True, **kwargs)
    inner = env.unwrapped
    if isinstance(getattr(type(inner), "action_space", None), property):
        # Manipulation makes a new, unseeded space whenever it is asked for its space, and samples
        # stabilising actions from that. One that stays can be seeded.
        fixed = {"action_space": inner.action_space}
        inner.__class__ = type(type(inner).__name__, (type(inner),), fixed)
    return IsolatedEnv(env, state, steps_draw=steps_draw)


def make_quietly(name: str, **kwargs: Any) -> gymnasium.Env:
    """OGBench's environment `name`, which leaves no file behind."""
    import ogbench  # noqa: F401 (registers its environments with Gymnasium)

    with _discarded_temporary_files():
        return gymnasium.make(name, **kwargs)


@contextmanager
def private_generator(generator: np.random.Generator) -> Iterator[None]:
    """NumPy's global generator follows from `generator` inside, and is as before outside."""
    with _global_state(_state(generator)):
        yield


def copy_sharing_models(env: gymnasium.Env) -> gymnasium.Env:
    """A manipulation environment like `env`, which has been reset, with the same compiled models.

    Building one takes most of a second and 180 MB, a copy a few milliseconds and megabytes. What
    a copy does follows from its next seed, where the environment changes nothing in its model but
    colours; those are of whichever copy acted last, so pictures of copies are wrong.
    """
    kept: dict[int, Any] = {}
    _keep_models(env.unwrapped, kept)
    return copy.deepcopy(env, kept)


def _keep_models(value: Any, kept: dict[int, Any]) -> None:
    """Find what a deep copy of `value` must not copy, by identity: models and their source."""
    from dm_control import mjcf

    if id(value) in kept:
        return
    if isinstance(value, _mujoco.MjModel | mjcf.Element):
        kept[id(value)] = value
    elif isinstance(value, _mujoco.MjData):
        # Left to itself, the copy of a state would bring a copy of its model.
        state = kept[id(value)] = _mujoco.MjData(value.model)
        _mujoco.mj_copyData(state, value.model, value)
    elif isinstance(value, dict):
        for item in value.values():
            _keep_models(item, kept)
    elif isinstance(value, list | tuple):
        for item in value:
            _keep_models(item, kept)
    elif any(kind.__module__.startswith("ogbench.") for kind in type(value).__mro__):
        _keep_models(vars(value), kept)


def _state(generator: np.random.Generator) -> Any:
    seed = int(generator.integers(2**32))
    return _GLOBAL.RandomState(seed).get_state()


@contextmanager
def _global_state(state: Any) -> Iterator[None]:
    outside = _GLOBAL.get_state()
    _GLOBAL.set_state(state)
    try:
        yield
    finally:
        _GLOBAL.set_state(outside)


@contextmanager
def _discarded_temporary_files() -> Iterator[None]:
    """OGBench writes a maze's XML to a temporary file, reads it at once and never deletes it."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory() as directory:
        tempfile.tempdir = directory
        try:
            yield
        finally:
            tempfile.tempdir = before
