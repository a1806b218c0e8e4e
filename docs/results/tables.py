"""Turn the evaluation files of this folder into the tables of `docs/results.md`.

    python docs/results/tables.py quickstart/*.json
    python docs/results/tables.py --seeds planned/*

Every file was written by `farstep eval --out`; the paths in it were shortened. A row is a file:
success in % by task and its mean, with the 95 % interval of the mean. With `--seeds`, every
argument is a directory of files named KIND-SEED.json, and a row is a kind: each seed, their mean
with its standard error, and the mean by task.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from farstep.evaluation.results import Evaluation

ORDER = ("flat", "planned", "distilled")
"""Kinds, as their rows follow each other."""


def by_file(paths: list[str]) -> None:
    results = {Path(path).stem: Evaluation.load(Path(path)) for path in sorted(paths)}
    tasks = [task.task for task in next(iter(results.values())).tasks]
    print("| file | " + " | ".join(f"task {task}" for task in tasks) + " | mean | 95 % |")
    print("|" + "---|" * (len(tasks) + 3))
    for name, result in results.items():
        rates = " | ".join(f"{100 * task.success_rate:.0f}" for task in result.tasks)
        low, high = result.interval
        print(
            f"| {name} | {rates} | **{100 * result.mean_success:.1f}** "
            f"| {100 * low:.0f}–{100 * high:.0f} |"
        )


def by_seed(directories: list[str]) -> None:
    print("| dataset | | episodes | each seed | mean ± s.e. | by task |\n|---|---|---|---|---|---|")
    for directory in map(Path, directories):
        kinds = defaultdict(list)
        for path in sorted(directory.glob("*-*.json")):
            kinds[path.stem.rsplit("-", 1)[0]].append(Evaluation.load(path))
        for kind, results in sorted(kinds.items(), key=lambda item: ORDER.index(item[0])):
            means = np.array([100 * result.mean_success for result in results])
            error = means.std(ddof=1) / len(means) ** 0.5 if len(means) > 1 else np.nan
            rates = [[task.success_rate for task in result.tasks] for result in results]
            tasks = " ".join(f"{100 * rate:.0f}" for rate in np.mean(rates, axis=0))
            each = " ".join(f"{mean:.1f}" for mean in means)
            mean = f"**{means.mean():.1f}**" + ("" if np.isnan(error) else f" ± {error:.1f}")
            episodes = " ".join(sorted({str(result.tasks[0].episodes) for result in results}))
            print(f"| {directory.name} | {kind} | {episodes} | {each} | {mean} | {tasks} |")


if __name__ == "__main__":
    if sys.argv[1] == "--seeds":
        by_seed(sys.argv[2:])
    else:
        by_file(sys.argv[1:])
