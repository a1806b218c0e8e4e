"""What a table of 10⁹ steps takes: memory and time to open it, train on it and plan over it.

    python benchmarks/large.py --steps 1000000000 --place /scratch

The table is a sparse random walk: one block of episodes is written, and the others repeat it, so
that 8 bytes a step lie on disk for observations and nothing for actions. Memory is private memory
(RssAnon) at its peak: pages of the table's files that the kernel keeps do not count, since it gives
them up on demand.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from farstep.data.table import TableWriter

EPISODE = 200
BLOCK = 5_000
"""Episodes that are written before they repeat."""

MAIN = "import sys; from farstep.cli.main import main; main(sys.argv[1:])"

PLAN = """
import sys, farstep
from farstep.planning.prepare import GraphOptions
planned = farstep.plan(sys.argv[1], sys.argv[2], GraphOptions(landmarks=1000))
print(len(planned.graph), "landmarks")
"""

AGENT = ("--hidden", "64", "64", "--latent", "32", "--groups", "4", "--batch-size", "256")


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        steps: of the table, in whole millions.
        place: a directory with 8 bytes a step to spare.
    """

    steps: int = 10**9
    place: Path | None = None


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory(prefix="farstep-large-", dir=options.place) as place:
        data, run = Path(place) / "data", Path(place) / "run"
        make(data / "train", options.steps // (EPISODE * BLOCK))
        train = ["-c", MAIN, "train", str(data), *AGENT, "--steps", "200", "--out", str(run)]
        train += ["--log-every", "100", "--checkpoint-every", "200"]
        commands = {
            "nothing": ["-c", "import farstep.api"],
            "data info": ["-c", MAIN, "data", "info", str(data)],
            "200 updates, from disk": [*train, "--data-location", "stream"],
            "1,000 landmarks": ["-c", PLAN, str(run), str(data)],
        }
        print(f"| {options.steps:,} steps | private MB | seconds |\n|---|---|---|", flush=True)
        for name, words in commands.items():
            megabytes, seconds = measured(words)
            print(f"| {name} | {megabytes:,.0f} | {seconds:.1f} |", flush=True)


def make(path: Path, repeats: int) -> None:
    """A table of one block `repeats` times."""
    rng = np.random.default_rng(0)
    with TableWriter(path, (2,), "float32", 1) as writer:
        for _ in range(BLOCK):
            moves = rng.uniform(-1, 1, (EPISODE, 2)).astype(np.float32)
            writer.append(np.cumsum(moves, axis=0), np.zeros((EPISODE, 1), np.float32))
    manifest = json.loads((path / "manifest.json").read_text())
    block = np.load(path / "observations.npy")
    lengths = {"observations": block.shape[0], "actions": block.shape[0], "episode_ends": BLOCK}
    for name, length in lengths.items():
        entry = manifest["arrays"][name]
        entry["shape"][0] = length * repeats
        with (path / f"{name}.npy").open("wb") as file:
            header = {"descr": np.dtype(entry["dtype"]).str, "fortran_order": False}
            np.lib.format.write_array_header_1_0(file, header | {"shape": tuple(entry["shape"])})
            if name == "observations":
                for _ in range(repeats):
                    file.write(block.data)
            elif name == "episode_ends":
                ends = EPISODE * np.arange(1, length * repeats + 1, dtype=np.int64) - 1
                file.write(ends.data)
            else:
                file.truncate(file.tell() + 4 * length * repeats)
    manifest["num_steps"] = lengths["observations"] * repeats
    manifest["num_episodes"] = BLOCK * repeats
    (path / "manifest.json").write_text(json.dumps(manifest))


def measured(words: list[str]) -> tuple[float, float]:
    """Private memory at its peak in MB, and seconds."""
    began, most = time.monotonic(), 0
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        found = re.search(r"RssAnon:\s+(\d+) kB", status.read_text())
        most = max(most, int(found[1]) if found else 0)
        time.sleep(0.02)
    said = process.stdout.read() if process.stdout else ""
    if process.returncode:
        sys.exit(said[-3000:])
    print(said.strip().splitlines()[-1:], file=sys.stderr)
    return most / 1000, time.monotonic() - began


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
