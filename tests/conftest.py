"""What holds for every test: shapes checked at run time, JAX on the CPU, data in its own place."""

from __future__ import annotations

import ctypes.util
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import jaxtyping
import numpy as np
import pytest

# Before any test module imports them: every call into the rooms that compute is checked against
# its annotated shapes and types.
jaxtyping.install_import_hook(
    [
        "farstep.core",
        "farstep.quasimetrics",
        "farstep.networks",
        "farstep.losses",
        "farstep.sampling",
        "farstep.agents",
        "farstep.planning.graph",
        "farstep.planning.metric",
        "theory",
    ],
    "beartype.beartype",
)

# How long an example takes is no property of the code: the first one compiles, on a busy machine.
hypothesis.settings.register_profile("farstep", deadline=None)
hypothesis.settings.load_profile("farstep")


def pytest_configure(config: pytest.Config) -> None:
    """Set what JAX, BLAS and MuJoCo read when first imported, here and in child processes."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    # Without a display EGL is the OpenGL that works; asked for in vain, MuJoCo cannot be imported.
    if ctypes.util.find_library("EGL"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    if config.option.markexpr == "not slow":
        # Most of the time goes into compiling programs that run once or twice. Slow tests hold
        # long runs to what they give by the programs that users run.
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")
    cache = getattr(config, "cache", None)  # There is none with `-p no:cacheprovider`.
    if cache is not None:
        # The workers of xdist compile many equal programs; each is compiled once.
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache.mkdir("jax")))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    # Whoever runs the tests in the background may ignore signals, and child processes would too.
    if threading.current_thread() is threading.main_thread():
        usual = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
        for number, handler in usual.items():
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, handler)
    if "PYTEST_XDIST_WORKER" in os.environ:
        # The workers already fill the cores.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def own_data_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the datasets of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FARSTEP_DATA", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of random walks on the unit square, with a validation table."""
    from farstep.data.table import TableWriter

    path = tmp_path_factory.mktemp("toy") / "walks"
    for split, episodes in (("train", 20), ("val", 4)):
        rng = np.random.default_rng(episodes)
        with TableWriter(path / split, (2,), "float32", 2) as writer:
            for _ in range(episodes):
                actions = rng.uniform(-1, 1, (30, 2)).astype(np.float32)
                writer.append(np.cumsum(actions, axis=0) / 30, actions)
    return path


@pytest.fixture(scope="session")
def opengl() -> None:
    """Skips where MuJoCo has no OpenGL at all; asked once, since a second failure may abort."""
    mujoco: Any = pytest.importorskip("mujoco")
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody/></mujoco>")
    try:
        mujoco.Renderer(model, 8, 8).close()
    except Exception as error:  # each backend has its own classes
        pytest.skip(f"no OpenGL for MuJoCo on this machine: {error}")
