"""A table of more than 2³¹ steps, sparse on disk: opened, trained on, rows drawn from all of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from farstep.cli.main import main
from farstep.core.rng import root_key
from farstep.core.types import BatchSpec
from farstep.data.normalize import Normalization
from farstep.data.table import Table, TableWriter
from farstep.planning.prepare import drawn
from farstep.sampling.stream import HostTable, Reader
from farstep.training.run import Run

LENGTH = 2**16
FAR = 2**31
STEPS = FAR + 2**22


@pytest.fixture
def table(tmp_path) -> Table:
    """Observations are 0 up to row 2³¹, and 1 from there on."""
    path = tmp_path / "data" / "train"
    with TableWriter(path, (1,), "float32", 1) as writer:
        writer.append(np.arange(2, dtype=np.float32)[:, None], np.zeros((2, 1), np.float32))
    manifest = json.loads((path / "manifest.json").read_text())
    ends = np.arange(LENGTH - 1, STEPS, LENGTH, dtype=np.int64)
    stretched(path / "actions.npy", (STEPS, 1))
    stretched(path / "observations.npy", (STEPS, 1), np.ones(STEPS - FAR, np.float32))
    np.save(path / "episode_ends.npy", ends)
    manifest |= {"num_steps": STEPS, "num_episodes": len(ends)}
    for name, entry in manifest["arrays"].items():
        entry["shape"] = [len(ends)] if name == "episode_ends" else [STEPS, 1]
    (path / "manifest.json").write_text(json.dumps(manifest))
    return Table.open(path)


def stretched(path: Path, shape: tuple[int, ...], tail: np.ndarray | None = None) -> None:
    """An array of zeros that takes no space, but for what stands at its end."""
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        end = file.tell() + 4 * int(np.prod(shape))
        try:
            file.truncate(end)
        except OSError as error:
            pytest.skip(f"no sparse files here: {error}")
        if tail is not None:
            file.seek(end - tail.nbytes)
            file.write(tail.data)
    if path.stat().st_blocks * 512 > 1 << 26:
        pytest.skip("no sparse files here: the file takes space on the disk")


@pytest.mark.slow
def test_more_steps_than_an_int32_counts(table, tmp_path, capsys):
    host = HostTable.from_table(table, Normalization.identity(table.spaces))
    chunk = Reader(host, BatchSpec(4096), root_key(0), "batch").read(0, 64)
    steps = chunk.drawn["current"].steps
    rows = LENGTH * np.asarray(steps.episode, np.int64) + np.asarray(steps.step)
    read = np.asarray(chunk.columns["current"]["observations"])[..., 0]
    np.testing.assert_array_equal(read, rows >= FAR)
    share = np.mean(rows >= FAR) / (1 - FAR / STEPS)
    assert 0.8 < share < 1.2
    some = drawn(np.random.default_rng(0), table.num_steps, 1000)
    assert len(np.unique(some)) == 1000
    assert (np.diff(some) > 0).all()

    data, run = tmp_path / "data", tmp_path / "run"
    main(["data", "info", str(data)])
    assert f"{STEPS:,}" in capsys.readouterr().out
    words = ["--agent", "gcbc", "--hidden", "8", "8", "--goal", "0", "--steps", "4"]
    main(["train", str(data), *words, "--log-every", "2", "--out", str(run)])
    assert "read from" in capsys.readouterr().out
    assert [record["step"] for record in Run.open(run).records("metrics")] == [2, 4]
