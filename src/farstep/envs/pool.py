"""Many environments of one name, stepped together in worker processes over shared memory.

A step costs each worker one small message and one answer; observations, goals, actions and flags
lie in memory that all processes map. An episode follows from its seed alone, so results do not
depend on the number of workers or on the slot that an episode runs in.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Int

from farstep.core.errors import FarstepError, nearest
from farstep.envs.catalog import environment as find_environment
from farstep.envs.catalog import make
from farstep.envs.opengl import require_drawing
from farstep.envs.processes import Worker
from farstep.envs.specs import EnvironmentSpec

Slots = Int[np.ndarray, " n"] | Sequence[int]

_NO_TASK = -1


class EnvironmentPool:
    """`num_slots` environments of one specification; a context manager.

    It is no `gymnasium.vector.VectorEnv`: there all environments step together and restart by
    themselves.

    Each slot runs one episode after the other: `reset` starts episodes in the slots that are
    named, and `step` advances the slots that are named. Nothing restarts by itself.

    Args:
        environment: its name or specification, as for `farstep.envs.make`.
        num_slots: environments.
        num_workers: processes that step them; 0 steps them in this one. No more than slots.
        extras: entries of the environments' `info` to keep in `extras`, such as `xy` in mazes.
        renders: whether `render` will be called. Otherwise cubes and puzzles share their models,
            which saves most of a second and 180 MB a slot.
        env_kwargs: for `make`; JSON values.

    Attributes:
        num_slots: number of slots.
        observation_shape, observation_dtype: of one observation; states are float32. Of several
            arrays the type is that of a structured array, and the shape ().
        goal_shape, goal_dtype: the same of one goal.
        action_shape: shape of one action; () where actions are integers.
        action_low, action_high: bounds of continuous actions; empty where actions are integers.
        num_actions: number of discrete actions, or `None`.
        extras: the latest values of the entries asked for, one row a slot.

    Raises:
        FarstepError: unknown environment or entry, missing simulators, or no slots.
    """

    def __init__(
        self,
        environment: str | EnvironmentSpec,
        num_slots: int,
        num_workers: int = 0,
        *,
        extras: Sequence[str] = (),
        renders: bool = True,
        **env_kwargs: Any,
    ):
        if num_slots < 1 or num_workers < 0:
            raise FarstepError(
                f"a vector of environments needs at least 1 slot and 0 workers, not {num_slots} "
                f"slots and {num_workers} workers"
            )
        # Raises the error of a wrong name before any process starts.
        spec = find_environment(environment) if isinstance(environment, str) else environment
        if spec.drawn:
            require_drawing()
        config = {
            "spec": asdict(spec),
            "kwargs": env_kwargs,
            "extras": list(extras),
            "renders": renders,
        }
        self.num_slots = num_slots
        self._renders = renders
        self._workers: list[Worker] = []
        self._closed = False
        try:
            self._start(config, min(num_workers, num_slots))
        except BaseException:
            self.close()
            raise

    def _start(self, config: Mapping[str, Any], num_workers: int) -> None:
        if num_workers == 0:
            self._local = _Simulators({**config, "first": 0, "stride": 1})
            spaces = self._local.describe()
            layout = _layout(spaces, self.num_slots)
            memory: Any = bytearray(_size(layout))
            self._local.attach(_views(memory, layout))
        else:
            self._workers.extend(
                Worker(
                    "farstep.envs.pool:service",
                    {**config, "first": first, "stride": num_workers},
                    f"the worker of {config['spec']['name']}, slots "
                    + ", ".join(map(str, range(first, self.num_slots, num_workers))),
                )
                for first in range(num_workers)
            )
            # All describe, though one would do, so that all import their simulators at once.
            spaces = json.loads(self._ask_all(b"describe")[0])
            layout = _layout(spaces, self.num_slots)
            path, memory = _shared_memory(_size(layout))
            try:
                self._ask_all(json.dumps({"path": str(path), "layout": layout}).encode())
            finally:
                # The mapping lives on without its name, so nothing can be left behind.
                path.unlink()
        observations, goals = (_row(spaces[name]) for name in ("observation", "goal"))
        self.observation_shape, self.observation_dtype = observations.shape, observations.base
        self.goal_shape, self.goal_dtype = goals.shape, goals.base
        self.action_shape: tuple[int, ...] = tuple(spaces["action_shape"])
        self.action_low, self.action_high = map(np.float32, spaces["action_bounds"])
        self.num_actions: int | None = spaces["num_actions"]
        self._shared = _views(memory, layout)
        self.extras: dict[str, np.ndarray] = {
            name: self._shared[f"extra {name}"] for name in config["extras"]
        }

    def reset(
        self, slots: Slots, seeds: Sequence[int], task_ids: Sequence[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Start an episode in each of `slots`.

        Args:
            slots: n different slots.
            seeds: n seeds in [0, 2⁶³); each decides everything random in its episode.
            task_ids: n tasks from 1; without them each episode draws a task.

        Returns:
            Observations (n, *observation shape) and goals (n, *goal shape).

        Raises:
            FarstepError: a slot, seed or task that does not exist, or a worker that has died.
        """
        slots = self._check_slots(slots)
        tasks = [_NO_TASK] * len(slots) if task_ids is None else task_ids
        if len(seeds) != len(slots) or len(tasks) != len(slots):
            raise FarstepError(
                f"{len(slots)} slots need as many seeds and tasks, not {len(seeds)} and "
                f"{len(tasks)}"
            )
        if min(seeds, default=0) < 0:
            raise FarstepError(f"seeds must not be negative: {min(seeds)}")
        self._shared["seeds"][slots] = seeds
        self._shared["tasks"][slots] = tasks
        self._run(b"reset", slots)
        return self._shared["observations"][slots], self._shared["goals"][slots]

    def step(
        self, actions: np.ndarray, slots: Slots
    ) -> tuple[np.ndarray, Bool[np.ndarray, " n"], Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """Advance each of `slots` by its action.

        Args:
            actions: (n, *action shape), one for each of `slots`.
            slots: n different slots.

        Returns:
            Observations (n, *observation shape), success, terminated and truncated (n,).

        Raises:
            FarstepError: a slot that does not exist or has no episode, actions of a wrong shape,
                or a worker that has died.
        """
        slots = self._check_slots(slots)
        if np.shape(actions) != (len(slots), *self.action_shape):
            raise FarstepError(
                f"{len(slots)} slots need actions of shape {(len(slots), *self.action_shape)}, "
                f"not {np.shape(actions)}"
            )
        self._shared["actions"][slots] = actions
        self._run(b"step", slots)
        return (
            self._shared["observations"][slots],
            self._shared["success"][slots],
            self._shared["terminated"][slots],
            self._shared["truncated"][slots],
        )

    def render(self, slot: int) -> np.ndarray:
        """The picture of one slot's simulator as it stands, (height, width, 3) uint8.

        Raises:
            FarstepError: the slot has no episode, `renders` was not set, there is no OpenGL, or a
                worker has died.
        """
        self._check_slots([slot])
        if not self._renders:
            raise FarstepError("these environments were made with renders=False")
        if not self._workers:
            return self._local.render(slot)
        worker = self._workers[slot % len(self._workers)]
        try:
            worker.send(b"render %d" % slot)
            answer = worker.receive()
        except BaseException:
            self.close()
            raise
        height, width = np.frombuffer(answer[:8], np.uint32)
        return np.frombuffer(answer[8:], np.uint8).reshape(int(height), int(width), 3)

    def close(self) -> None:
        """End the workers. Does nothing the second time."""
        self._closed = True
        for worker in self._workers:
            worker.close()
        if (local := getattr(self, "_local", None)) is not None:
            local.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, request: bytes, slots: Int[np.ndarray, " n"]) -> None:
        chosen = self._shared["chosen"]
        chosen[:] = False
        chosen[slots] = True
        if not self._workers:
            self._local.run(request)
            return
        stride = len(self._workers)
        asked = [worker for i, worker in enumerate(self._workers) if chosen[i::stride].any()]
        self._ask(asked, request)

    def _ask_all(self, request: bytes) -> list[bytes]:
        return self._ask(self._workers, request)

    def _ask(self, workers: list[Worker], request: bytes) -> list[bytes]:
        try:
            for worker in workers:
                worker.send(request)
            return [worker.receive() for worker in workers]
        except BaseException:
            # Answers may be outstanding, also after Ctrl-C: nothing can be asked any more.
            self.close()
            raise

    def _check_slots(self, slots: Slots) -> Int[np.ndarray, " n"]:
        if self._closed:
            raise FarstepError("these environments are closed")
        slots = np.asarray(slots, dtype=np.int64)
        if slots.ndim != 1 or (slots < 0).any() or (slots >= self.num_slots).any():
            raise FarstepError(
                f"slots must be a list of numbers from 0 to {self.num_slots - 1}, not {slots}"
            )
        if len(set(slots.tolist())) != slots.size:
            raise FarstepError(f"each slot can be named once only: {slots.tolist()}")
        return slots


class _Simulators:
    """The environments of every `stride`-th slot from `first`: what a worker holds."""

    def __init__(self, config: Mapping[str, Any]):
        self._spec = EnvironmentSpec.from_json(config["spec"])
        kwargs = dict(config["kwargs"])
        self._copies = self._spec.sharing == "copies" and not config["renders"]
        if self._spec.sharing == "argument":
            # One model for all slots stays in the processor's cache, and renders in one context.
            kwargs["share_model"] = True
        self._make = lambda: make(self._spec, **kwargs)
        self._first, self._stride = config["first"], config["stride"]
        self._extras: list[str] = config["extras"]
        self._envs: dict[int, Any] = {}
        self._shared: dict[str, np.ndarray] = {}

    def describe(self) -> dict[str, Any]:
        """Shapes and types, as JSON values."""
        env = self._envs[self._first] = self._make()
        if self._copies:
            env.reset(seed=0)  # which compiles the models
        extras = {}
        if self._extras:
            _, info = env.reset(seed=0)
            for name in self._extras:
                if name not in info:
                    raise FarstepError(f"`info` has no entry '{name}'.{nearest(name, info)}")
                extras[name] = np.shape(info[name])
        space: Any = env.observation_space
        actions: Any = env.action_space
        goal = getattr(env, "goal_space", space)
        for what, one in (("observations", space), ("goals", goal), ("actions", actions)):
            parts = one.values() if hasattr(one, "spaces") and what != "actions" else [one]
            if not parts or any(part.shape is None for part in parts):
                raise FarstepError(
                    f"{self._spec.name} has {what} of {one}, not arrays. An EnvironmentSpec "
                    "names the entries of a dict by observation_key and goal_key."
                )
        num_actions = getattr(actions, "n", None)
        bounds = [] if num_actions else [actions.low.tolist(), actions.high.tolist()]
        return {
            "observation": _described(space),
            "goal": _described(goal),
            "action_shape": actions.shape,
            "action_bounds": bounds or [[], []],
            "num_actions": None if num_actions is None else int(num_actions),
            "extras": extras,
        }

    def attach(self, shared: dict[str, np.ndarray]) -> None:
        """Take the arrays of requests and answers."""
        self._shared = shared

    def run(self, request: bytes) -> None:
        """`reset` or `step` the chosen slots of this share."""
        own = range(self._first, len(self._shared["chosen"]), self._stride)
        act = self._reset if request == b"reset" else self._step
        for slot in itertools.compress(own, self._shared["chosen"][self._first :: self._stride]):
            act(slot)

    def render(self, slot: int) -> np.ndarray:
        """The picture of one slot."""
        frame = np.asarray(self._env(slot).render())
        if frame.ndim != 3:
            raise FarstepError(
                f"{self._spec.name} gave no picture; its `render` must return (height, width, 3), "
                "as Gymnasium's environments do that are made with render_mode='rgb_array'"
            )
        return frame

    def close(self) -> None:
        """Close all environments."""
        for env in self._envs.values():
            env.close()

    def _reset(self, slot: int) -> None:
        if slot not in self._envs:
            self._envs[slot] = self._new()
        shared = self._shared
        task = int(shared["tasks"][slot])
        observation, info = self._envs[slot].reset(
            seed=int(shared["seeds"][slot]),
            options={} if task == _NO_TASK else {"task_id": task},
        )
        if "goal" not in info:
            raise FarstepError(
                f"{self._spec.name}: `info` has no 'goal' after a reset; name it by goal_key, and"
                " the observation by observation_key where both lie in one dict."
                f"{nearest('goal', info)}"
            )
        _put(shared["observations"], slot, observation)
        _put(shared["goals"], slot, info["goal"])
        self._keep_extras(slot, info)

    def _new(self) -> Any:
        if not self._copies:
            return self._make()
        from farstep.envs.isolation import copy_sharing_models

        return copy_sharing_models(self._envs[self._first])

    def _step(self, slot: int) -> None:
        shared = self._shared
        observation, _, terminated, truncated, info = self._env(slot).step(shared["actions"][slot])
        _put(shared["observations"], slot, observation)
        if "success" not in info:
            raise FarstepError(
                f"{self._spec.name}: `info` has no 'success' after a step; name the flag by "
                f"success_key.{nearest('success', info)}"
            )
        shared["success"][slot] = bool(info["success"])
        shared["terminated"][slot] = terminated
        shared["truncated"][slot] = truncated
        self._keep_extras(slot, info)

    def _keep_extras(self, slot: int, info: Mapping[str, Any]) -> None:
        for name in self._extras:
            self._shared[f"extra {name}"][slot] = info[name]

    def _env(self, slot: int) -> Any:
        if slot not in self._envs:
            raise FarstepError(f"slot {slot} has no episode: reset it first")
        return self._envs[slot]


def service(config: Mapping[str, Any]) -> Callable[[bytes], bytes]:
    """The service of a worker process: it answers requests about its share of the slots."""
    simulators = _Simulators(config)

    def answer(request: bytes) -> bytes:
        if request in (b"step", b"reset"):
            simulators.run(request)
        elif request == b"describe":
            return json.dumps(simulators.describe()).encode()
        elif request.startswith(b"render"):
            frame = simulators.render(int(request.split()[1]))
            return np.array(frame.shape[:2], np.uint32).tobytes() + frame.tobytes()
        else:
            place = json.loads(request)
            with Path(place["path"]).open("r+b") as file:
                memory = mmap.mmap(file.fileno(), 0)
            simulators.attach(_views(memory, place["layout"]))
        return b""

    return answer


_Row = list[Any]
"""Type and shape of one array, or name, type and shape of each of several, as JSON values."""


def _described(space: Any) -> _Row:
    """Type and shape of a Gymnasium space; of a dict, those of all its entries."""
    if hasattr(space, "spaces"):
        return [[name, *_described(part)] for name, part in space.spaces.items()]
    return ["uint8" if space.dtype == np.uint8 else "float32", list(space.shape)]


def _row(described: _Row) -> np.dtype[Any]:
    """NumPy's type of one row."""
    if isinstance(described[0], str):
        return np.dtype((described[0], tuple(described[1])))
    return np.dtype([(name, dtype, tuple(shape)) for name, dtype, shape in described])


def _put(array: np.ndarray, slot: int, value: Any) -> None:
    if array.dtype.names is None:
        array[slot] = value
    else:
        for name in array.dtype.names:
            array[name][slot] = value[name]


_Layout = list[tuple[str, _Row, int, int]]
"""Name, type, length and offset in bytes of every shared array."""


def _layout(spaces: Mapping[str, Any], num_slots: int) -> _Layout:
    arrays: dict[str, _Row] = {
        "observations": spaces["observation"],
        "goals": spaces["goal"],
        "actions": ["int32" if spaces["num_actions"] else "float32", spaces["action_shape"]],
        "seeds": ["int64", ()],
        "tasks": ["int64", ()],
        **{flag: ["bool", ()] for flag in ("chosen", "success", "terminated", "truncated")},
        **{f"extra {name}": ["float64", shape] for name, shape in spaces["extras"].items()},
    }
    layout: _Layout = []
    offset = 0
    for name, row in arrays.items():
        layout.append((name, row, num_slots, offset))
        size = _row(row).itemsize * num_slots
        offset += -(-size // 64) * 64  # no two arrays in one line of the cache
    layout.append(("end", ["uint8", ()], 0, offset))
    return layout


def _size(layout: _Layout) -> int:
    return layout[-1][-1]


def _views(memory: Any, layout: _Layout) -> dict[str, np.ndarray]:
    return {
        name: np.ndarray(length, _row(row), memory, offset) for name, row, length, offset in layout
    }


def _shared_memory(size: int) -> tuple[Path, mmap.mmap]:
    """Memory that other processes can map by its path until the path is removed."""
    errors = []
    # Memory where the system has such a place and room in it, else a file that the system caches.
    for directory in ("/dev/shm", tempfile.gettempdir()):
        name = None
        try:
            handle, name = tempfile.mkstemp(prefix="farstep-", dir=directory)
            with os.fdopen(handle, "w+b") as file:
                # Written, not just sized: a full disk is an error here and a crash later.
                file.write(bytes(size))
                file.flush()
                return Path(name), mmap.mmap(file.fileno(), size)
        except OSError as error:
            if name is not None:
                Path(name).unlink()
            errors.append(f"{directory}: {error.strerror}")
    raise FarstepError(f"no room for {size} bytes of shared memory ({'; '.join(errors)})")
