"""BridgeData V2 as it was recorded: a directory of pictures and pickles for each trajectory.

    …/raw/traj_group0/traj0/images0/im_0.jpg …
                            obs_dict.pkl        state and joints of T steps
                            policy_out.pkl      actions of T − 1 steps
                            lang.txt            what was done, in words

A pickle can run any program when it is read. These are read by an unpickler that knows NumPy's
arrays and scalars and nothing else.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from farstep.core.errors import FarstepError, nearest
from farstep.data.episodes import Episode, Split
from farstep.data.sources.base import FieldMap, Format, ImportOptions, Source
from farstep.data.sources.bridge import reached_actions
from farstep.data.sources.pictures import decoded

STATES, POLICY = "obs_dict.pkl", "policy_out.pkl"

LATENCY_MENDED = date(2021, 7, 23)
"""Before this day a picture came a step late: action t belongs to observation t + 1."""

LARGEST = 2**28
"""Bytes of the largest pickle that is read."""


class _Dtype:
    """Stands for `numpy.dtype` of numbers; NumPy's own would take any state, and crash on some."""

    def __init__(self, spec: str, *_: Any) -> None:
        if not isinstance(spec, str) or not re.fullmatch(r"[<>|=]?([iu][1248]|f[248]|b1)", spec):
            raise pickle.UnpicklingError("it holds an array of other things than numbers")
        self.dtype = np.dtype(spec)

    def __setstate__(self, state: Any) -> None:
        if state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")
        elif state[1] not in ("<", "|", "=") or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("it holds an array of records")


class _Array:
    """Stands for an array, until its state comes."""

    def __init__(self, *_: Any) -> None:
        self.array = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self.array = _filled(content, dtype, shape, "F" if fortran else "C").array


def _filled(content: Any, dtype: _Dtype, shape: Any, order: str, *_: Any) -> _Array:
    made = _Array()
    made.array = np.frombuffer(content, dtype.dtype).reshape(
        shape, order="F" if order == "F" else "C"
    )
    return made


def _scalar(dtype: _Dtype, content: bytes) -> np.generic:
    return np.frombuffer(content, dtype.dtype)[0]


def _latin(text: str, encoding: str) -> bytes:
    """How pickles of an old protocol hold bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


_MAKERS = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("multiarray", "_reconstruct"): _Array,
    ("multiarray", "scalar"): _scalar,
    ("numeric", "_frombuffer"): _filled,
    ("_codecs", "encode"): _latin,
}
"""What a pickle of arrays asks for, by module of `numpy.core` or `numpy._core`, and name."""


class _Unpickler(pickle.Unpickler):
    """Makes numbers, texts, containers and arrays, and refuses whatever else a pickle asks for."""

    def find_class(self, module: str, name: str) -> Any:
        core = module.removeprefix("numpy.core.").removeprefix("numpy._core.")
        if (core, name) not in _MAKERS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _MAKERS[core, name]


def arrays_in(content: bytes) -> Any:
    """What a pickle of plain values and NumPy's arrays and scalars holds.

    Raises:
        ValueError: it is damaged, or holds anything else.
    """
    try:
        return _finished(_Unpickler(io.BytesIO(content)).load())
    except Exception as error:  # A damaged pickle may raise nearly anything.
        raise ValueError(str(error) or type(error).__name__) from error


def _finished(value: Any) -> Any:
    """Arrays in place of their stand-ins."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, dict):
        return {key: _finished(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_finished, value))
    return value


def _trajectories(path: Path) -> list[Path]:
    """Directories of trajectories below `path`, in the order of their numbers."""

    def key(one: Path) -> list[tuple[str, int]]:
        parts = [re.fullmatch(r"(.*?)(\d*)", part) for part in one.parts]
        return [(m[1], int(m[2] or -1)) for m in parts if m]

    return sorted((one.parent for one in path.rglob(STATES)), key=key)


def _recognised(path: Path) -> bool:
    return path.is_dir() and next(path.rglob(STATES), None) is not None


def _open(path: Path, options: ImportOptions) -> Source:
    """Inspect a directory of trajectories; see `Format`."""
    found = _trajectories(path)
    if options.action_key not in (None, "actions"):
        raise FarstepError(f"Raw Bridge data have 'actions' alone, not '{options.action_key}'.")
    fields = FieldMap(options.observation_key or ("images0",), "actions", options.extra)
    provenance = {
        "format": "raw bridge",
        "path": str(path),
        "keys": asdict(fields),
        "relabelled": options.relabel,
    }
    found = [one for one in found if options.wants(str(one), _instruction(one))]
    episode = partial(_episode, fields=fields, options=options)
    # Episodes are of like lengths.
    steps = len(found) * (len(_actions(found[0])) + 1) if found else None

    def read(begin: int) -> Iterator[Episode]:
        return map(episode, found[begin:])

    return Source({"train": Split(read(0), steps, provenance, read)})


def _episode(path: Path, *, fields: FieldMap, options: ImportOptions) -> Episode:
    states = _states(path)
    actions = _actions(path)
    keys = {*fields.observations, *fields.extras}
    keys |= {"state"} if options.relabel == "reached" else set()
    arrays = {key: _rows(path, key, states, options) for key in keys}
    steps = len(actions) + 1
    for key, array in arrays.items():
        if len(array) != steps:
            raise FarstepError(
                f"{path}: '{key}' has {len(array)} steps, and {len(actions)} actions lead between"
                f" {steps}."
            )
    if _late(path):
        arrays = {key: array[1:] for key, array in arrays.items()}
        actions = actions[:-1]
    # The last observation's action leads nowhere.
    actions = np.concatenate([actions, np.zeros_like(actions[:1])])
    if options.relabel == "reached":
        actions = reached_actions(arrays["state"], actions)
    return fields.episode({**arrays, "actions": actions}, str(path), task=_instruction(path))


def _rows(path: Path, key: str, states: dict[str, Any], options: ImportOptions) -> np.ndarray:
    """One array of a trajectory: a camera's pictures, or what `obs_dict.pkl` holds."""
    if (path / key).is_dir() and key.startswith("images"):
        pictures = sorted((path / key).glob("im_*.jpg"), key=lambda one: int(one.stem[3:]))
        if not pictures:
            raise FarstepError(f"{path / key} holds no picture im_N.jpg.")
        return np.stack(
            [decoded(one.read_bytes(), options.image_size, str(one)) for one in pictures]
        )
    if key not in states:
        known = [*states, *(one.name for one in sorted(path.glob("images*")))]
        raise FarstepError(
            f"{path} has no '{key}'.{nearest(key, known)} It has: {', '.join(known)}."
        )
    return np.asarray(states[key])


def _states(path: Path) -> dict[str, Any]:
    states = _unpickled(path / STATES)
    if not isinstance(states, dict) or not all(_numbers(value) for value in states.values()):
        raise FarstepError(f"{path / STATES} holds no arrays by name.")
    return states


def _actions(path: Path) -> np.ndarray:
    steps = _unpickled(path / POLICY)
    try:
        actions = np.stack([np.asarray(step["actions"], np.float32) for step in steps])
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise FarstepError(f"{path / POLICY} holds no 'actions' of each step ({error}).") from error
    if actions.ndim != 2:
        raise FarstepError(f"{path / POLICY} holds actions with rows {actions.shape[1:]}.")
    return actions


def _numbers(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype.kind in "biuf")


def _unpickled(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise FarstepError(f"{path} has {size:,} bytes, too many for one trajectory.")
        return arrays_in(path.read_bytes())
    except OSError as error:
        raise FarstepError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise FarstepError(f"{path} is no pickle of arrays: {error}.") from error


def _late(path: Path) -> bool:
    """Whether the trajectory is from before pictures came in time, by the date in its path."""
    for part in reversed(path.parts):
        if found := re.match(r"(\d{4})-(\d{2})-(\d{2})", part):
            try:
                return date(*map(int, found.groups())) < LATENCY_MENDED
            except ValueError:
                continue
    return False


def _instruction(path: Path) -> str:
    """The task in words; empty if unknown."""
    try:
        lines = (path / "lang.txt").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return lines[0] if lines else ""


RAW_BRIDGE = Format("bridge", _recognised, _open)
