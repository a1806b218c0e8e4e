"""Turn the evaluation files of this folder into the tables of `docs/results.md`.

    python docs/results/tables.py quickstart/*.json
    python docs/results/tables.py giant-stitch/*.json

Every file was written by `farstep eval --out`. A row is a file: success in % by task and its mean,
with the 95 % interval of the mean.
"""

from __future__ import annotations

import sys
from pathlib import Path

from farstep.evaluation.results import Evaluation


def main(paths: list[str]) -> None:
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


if __name__ == "__main__":
    main(sys.argv[1:])
