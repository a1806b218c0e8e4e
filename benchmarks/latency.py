"""How long one waits: for a command to start, for a first action, and for each action after it.

    python benchmarks/latency.py [--width 512 --latent 512]

Commands run as whole processes, one after another in each round; the table has medians. A policy of
untrained MQE networks is exported, loaded in its own process and asked for actions; the table has
median and 99th percentile of its calls. No compiled program is kept between processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from farstep.data.table import TableWriter
from measuring import alternate

ASK = """
import json, statistics, sys, time
began = time.perf_counter()
import numpy as np
import farstep
policy = farstep.load_policy(sys.argv[1])
loaded = time.perf_counter()
rows = {}
for count in (1, 50):
    states = np.zeros((count, 29), np.float32)
    asked = states[0] if count == 1 else states
    started = time.perf_counter()
    policy.act(asked, asked)
    first, calls = time.perf_counter() - started, []
    for _ in range(2000):
        started = time.perf_counter()
        policy.act(asked, asked)
        calls.append(time.perf_counter() - started)
    rows[count] = first, statistics.median(calls), np.percentile(calls, 99)
print(json.dumps({"load": loaded - began, "rows": rows}))
"""


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        width: units of each of three hidden layers.
        latent: width of the embeddings.
        rounds: how many times each command runs.
    """

    width: int = 512
    latent: int = 512
    rounds: int = 3


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory() as directory:
        measure(options, Path(directory))


def measure(options: Options, directory: Path) -> None:
    rng = np.random.default_rng(0)
    with TableWriter(directory / "data" / "train", (29,), "float32", 8) as writer:
        for _ in range(20):
            actions = rng.uniform(-1, 1, (201, 8)).astype(np.float32)
            writer.append(rng.normal(size=(201, 29)).astype(np.float32), actions)
    run = directory / "run"
    sizes = ["--hidden", *3 * [str(options.width)], "--latent", str(options.latent)]
    train = ["-m", "farstep", "train", str(directory / "data"), "--out", str(run), *sizes]
    commands = {
        "`import farstep`": ["-c", "import farstep"],
        "`farstep --help`": ["-m", "farstep", "--help"],
        "`farstep train` to the first update, checkpoint included": [
            *(*train, "--steps", "1", "--overwrite")
        ],
    }
    seconds = alternate(
        {name: lambda words=words: _run(words) for name, words in commands.items()},
        options.rounds,
    )
    print("| start | s |")
    print("|---|---|")
    for name, took in seconds.items():
        print(f"| {name} | {took:.2f} |")

    _run(["-m", "farstep", "export", str(run)])
    answer = json.loads(_run(["-c", ASK, str(run / "policy")]))
    print(f"| `import farstep; load_policy(PATH)` | {answer['load']:.2f} |")
    print("\n| rows a call | first call ms | median ms | 99th percentile ms |")
    print("|---|---|---|---|")
    for rows, (first, median, worst) in answer["rows"].items():
        print(f"| {rows} | {1e3 * first:.0f} | {1e3 * median:.3f} | {1e3 * worst:.3f} |")


def _run(words: list[str]) -> str:
    done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
    return done.stdout


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
