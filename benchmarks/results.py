"""The tables of the documentation, from the data in `docs/results`.

    python benchmarks/results.py                        # print every table
    python benchmarks/results.py --write                # and put each in its place in the pages,
                                                        # and draw the tabletop's figure
    python benchmarks/results.py --add EXPERIMENT FILES # files of `farstep eval`, or RUN/eval.jsonl

A page marks the place of a table by a comment, `<!-- table: NAME -->`, on the line before it. A
test holds every marked table to the data.

    episodes.csv.gz   one row per evaluation episode
    evaluations.csv   one row per evaluation: updates, episodes, limits, planner settings, success
    configs.json      the settings of the runs, by experiment/dataset/agent
    runs.csv          one row per run of a study
    curves.csv        success while training, of studies and single runs
    distances.csv     success by distance, for the studies over distance
    direction.csv     what `direction.py` measures
    planners.csv      what `ablation.py` measures
    former_planners.csv  the same for the planner up to commit e0a32ec, on other networks
"""

from __future__ import annotations

import argparse
import csv
import functools
import gzip
import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from farstep.analysis.comparison_tables import published_text
from farstep.analysis.figures import begin_figure, save_figure
from farstep.analysis.published import published_ablation, published_result
from farstep.core.files import write_text
from farstep.evaluation.intervals import stratified_wilson
from farstep.evaluation.results import Evaluation

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs" / "results"
PAGES = (
    ROOT / "README.md",
    *(ROOT / "docs" / f"{page}.md" for page in ("results", "planning", "log")),
)

KEY = ("experiment", "dataset", "agent", "acting", "seed")
"""What tells one evaluation from another; `acting` is flat, planned or distilled."""
EPISODE: tuple[str, ...] = (
    *KEY,
    "task",
    "episode",
    "reset_seed",
    "success",
    "steps",
    "final_distance",
    "progress",
)
EVALUATION: tuple[str, ...] = (
    *KEY,
    "updates",
    "episodes_per_task",
    "max_steps",
    "evaluation_seed",
    "success",
)
PLANNER = ("landmarks", "edge_cutoff", "step_length", "replan_every")
CURVE: tuple[str, ...] = ("study", "dataset", "method", "seed", "updates", "success")

MARK = re.compile(r"<!-- table: ([\w-]+) -->\n((?:\|.*\n)*)")

Row = Mapping[str, str]
Cells = Sequence[Sequence[str]]


@functools.cache
def rows(name: str) -> list[Row]:
    """The rows of one of the CSV files, in their order."""
    path = DATA / name
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return list(csv.DictReader(io.StringIO(text)))


def where(name: str, **wanted: str) -> list[Row]:
    """The rows that have these values."""
    return [row for row in rows(name) if all(row[key] == wanted[key] for key in wanted)]


@functools.cache
def task_counts() -> dict[tuple[str, ...], dict[int, tuple[int, int]]]:
    """Successes and episodes of every task, for every evaluation by its key."""
    counts: dict[tuple[str, ...], dict[int, tuple[int, int]]] = defaultdict(dict)
    for row in rows("episodes.csv.gz"):
        tasks, task = counts[tuple(row[key] for key in KEY)], int(row["task"])
        successes, episodes = tasks.get(task, (0, 0))
        tasks[task] = successes + int(row["success"]), episodes + 1
    return dict(counts)


def task_rates(key: tuple[str, ...]) -> np.ndarray:
    """Success in % of each task of an evaluation."""
    return np.array([100 * won / played for won, played in task_counts()[key].values()])


def by_task(title: str, keys: Mapping[tuple[str, ...], tuple[str, ...]]) -> Cells:
    """A row per evaluation: its tasks, their mean, and the interval of that over episodes."""
    columns = title.split(",")
    cells = [[*columns, *(f"task {task}" for task in range(1, 6)), "mean", "95 %"]]
    for names, key in keys.items():
        counts = task_counts()[key].values()
        low, high = stratified_wilson(*map(list, zip(*counts, strict=True)))
        rates = task_rates(key)
        bounds = f"{100 * low:.0f}–{100 * high:.0f}"
        cells.append([*names, *(f"{r:.0f}" for r in rates), f"**{rates.mean():.0f}**", bounds])
    return cells


def over_seeds(values: Sequence[float], digits: int = 1) -> str:
    """Mean and standard error over seeds, or over trials."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    error = np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"


def each(values: Iterable[float], digits: int = 1) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values)


# The tables.

QUICKSTART = {
    "GCBC": ("gcbc", "flat"),
    "MQE": ("mqe", "flat"),
    "MQE + planning": ("mqe", "planned"),
}


def quickstart_key(name: str, seed: int) -> tuple[str, ...]:
    return ("quickstart", "pointmaze-medium-stitch", *QUICKSTART[name], str(seed))


def quickstart_short() -> Cells:
    cells = [["", *(f"seed {seed}" for seed in range(3))]]
    for name in QUICKSTART:
        means = [task_rates(quickstart_key(name, seed)).mean() for seed in range(3)]
        cells.append([name, *(f"{mean:.0f}" for mean in means)])
    return cells


def quickstart() -> Cells:
    return by_task(
        ",seed",
        {(name, str(seed)): quickstart_key(name, seed) for name in QUICKSTART for seed in range(3)},
    )


def success_curve(study: str) -> Cells:
    curve = where("curves.csv", study=study)
    return [
        ["updates", *(f"{int(row['updates']):,}" for row in curve)],
        ["flat policy", *(f"{100 * float(row['success']):.0f}" for row in curve)],
    ]


def giant_tasks() -> Cells:
    key = ("giant-stitch", "pointmaze-giant-stitch", "mqe", "flat", "0")
    return by_task("", {("flat",): key})


def long_tasks() -> Cells:
    ways = ("flat", "planned")
    return by_task(
        "", {(way,): ("long", "pointmaze-giant-navigate", "mqe", way, "0") for way in ways}
    )


MAZES = ("medium", "large", "giant", "colossal", "teleport")


def evaluations(experiment: str) -> Cells:
    """A row per dataset and way of acting: every seed, mean and error, and the tasks."""
    cells = [["dataset", "", "episodes", "each seed", "mean ± s.e.", "by task"]]
    groups: dict[tuple[str, str], list[tuple[str, ...]]] = defaultdict(list)
    for key in sorted(key for key in task_counts() if key[0] == experiment):
        groups[key[1].removeprefix("pointmaze-"), key[3]].append(key)
    acting = ("flat", "planned", "distilled")
    kinds = ("stitch", "navigate")
    for kind, maze, how in ((k, m, a) for k in kinds for m in MAZES for a in acting):
        keys = groups.get((f"{maze}-{kind}", how))
        if keys:
            rates = np.array([task_rates(key) for key in keys])
            means = rates.mean(axis=1)
            mean, _, error = over_seeds(list(means)).partition(" ")
            played = {n for key in keys for _, n in task_counts()[key].values()}
            cells.append(
                [
                    *(f"{maze}-{kind}", how, each(sorted(played), 0), each(means)),
                    f"**{mean}** {error}".strip(),
                    each(rates.mean(axis=0), 0),
                ]
            )
    return cells


HELD_OUT = "heldout"
"""How the names of the mazes begin on which no length was set."""


def planners(file: str = "planners.csv") -> Cells:
    """A row per planner: success, and its difference from farstep's planner.

    A planner is compared on the networks and draws of landmarks that both planners were run on,
    averaged by maze. Errors are over mazes.
    """
    measured: dict[str, dict[tuple[str, str], Row]] = defaultdict(dict)
    for row in rows(file):
        measured[row["planner"]][row["network"], row["draw"]] = row

    def by_maze(planner: str, column: str, keys: Iterable[tuple[str, str]]) -> np.ndarray:
        found: dict[str, list[float]] = defaultdict(list)
        for network, draw in sorted(keys):
            row = measured[planner][network, draw]
            found[network.rpartition("-s")[0]].append(int(row[column]) / int(row["episodes"]))
        return np.array([np.mean(values) for values in found.values()])

    kinds = {"held-out": True, "benchmark": False}
    cells = [["planner"]]
    for kind in kinds:
        cells[0] += [f"{kind} mazes", "success %", "− farstep", "steps"]
    for planner, networks in measured.items():
        cells.append([planner])
        for held_out in kinds.values():
            keys = [
                key
                for key in networks.keys() & measured["farstep"].keys()
                if key[0].startswith(HELD_OUT) == held_out
            ]
            success = 100 * by_maze(planner, "success", keys)
            if not len(success):
                cells[-1] += ["0", "", "", ""]
                continue
            more = np.round(success - 100 * by_maze("farstep", "success", keys), 9)
            steps = by_maze(planner, "steps", keys)
            texts = [over_seeds(list(success)), over_seeds(list(more)), f"{np.mean(steps):.0f}"]
            cells[-1] += [str(len(success)), *texts]
    return cells


def run_rates(study: str, dataset: str, method: str) -> list[float]:
    """Success in % of each run of a setting of a study."""
    found = where("runs.csv", study=study, dataset=f"pointmaze-{dataset}", method=method)
    return [100 * float(row["success"]) for row in found]


def mean_and_each(values: Sequence[float]) -> str:
    return f"**{over_seeds(values)}** ({each(values)})"


METHODS = ("mqe", "tmd", "cmd", "crl", "qrl", "gciql", "hiql", "nsacbc", "gcbc")


def methods() -> Cells:
    datasets = ("medium-stitch", "large-stitch", "giant-navigate")
    cells = [["method", *datasets[:2], "giant-navigate, 32,000 updates"]]
    for method in METHODS:
        found = [run_rates("horizon", dataset, method) for dataset in datasets]
        cells.append([method, *map(mean_and_each, found)])
    return cells


def direction_mean(method: str, low: str, high: str, column: str) -> float | None:
    """The mean over seeds for the policy's direction on giant-navigate; None without one."""
    wanted = {"method": method, "direction of": "policy", "from": low, "to": high}
    found = where("direction.csv", dataset="pointmaze-giant-navigate", **wanted)
    values = [float(row[column]) for row in found if row[column]]
    return float(np.mean(values)) if values else None


def text(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}".replace("-", "−")


def success_between(method: str, low: float, high: float) -> float:
    """Mean success in % over the distances from `low` to `high` metres on giant-navigate."""
    found = where("distances.csv", dataset="pointmaze-giant-navigate", method=method)
    return float(np.mean([float(r["success"]) for r in found if low <= float(r["metres"]) <= high]))


def direction() -> Cells:
    ranges = (("2.0", "4.0"), ("4.0", "8.0"), ("16.0", "32.0"), ("32.0", "64.0"), ("64.0", "128.0"))
    cells = [
        [
            *("", "nearer at 2–4 m", "4–8", "16–32", "32–64", "64–128", "action"),
            *("steps per metre 4–8 m", "64–128", "rank correlation"),
            *("success to 32 m", "36–60", "68–124"),
        ]
    ]
    far = {method: success_between(method, 68, 124) for method in METHODS}
    for method in sorted(METHODS, key=lambda method: -far[method]):
        cells.append(
            [
                method,
                *(text(direction_mean(method, *bounds, "progress"), 2) for bounds in ranges),
                text(direction_mean(method, "2.0", "inf", "length"), 2),
                text(direction_mean(method, "4.0", "8.0", "steps per metre"), 1),
                text(direction_mean(method, "64.0", "128.0", "steps per metre"), 1),
                text(direction_mean(method, "2.0", "inf", "rank correlation"), 3),
                f"{success_between(method, 0, 32):.0f}",
                f"{success_between(method, 36, 60):.0f}",
                f"{far[method]:.0f}",
            ]
        )
    return cells


def far_waypoints() -> Cells:
    cells = [
        [
            *("", "each seed", "mean ± s.e.", "nearer at 32–64 m", "64–128"),
            *("steps per metre 4–8 m", "64–128", "rank correlation"),
        ]
    ]
    for study, method in (("far-waypoints", "mqe-far"), ("horizon", "mqe"), ("horizon", "qrl")):
        values = run_rates(study, "giant-navigate", method)
        cells.append(
            [
                "mqe, far waypoints" if method == "mqe-far" else method,
                *(each(values), over_seeds(values)),
                text(direction_mean(method, "32.0", "64.0", "progress"), 2),
                text(direction_mean(method, "64.0", "128.0", "progress"), 2),
                text(direction_mean(method, "4.0", "8.0", "steps per metre"), 1),
                text(direction_mean(method, "64.0", "128.0", "steps per metre"), 1),
                text(direction_mean(method, "2.0", "inf", "rank correlation"), 3),
            ]
        )
    return cells


def methods_planned() -> Cells:
    cells = [["dataset", "method", "flat, mean (seeds)", "planned, mean (seeds)"]]
    for dataset in ("medium-stitch", "large-stitch"):
        for method in ("mqe", "tmd", "cmd", "qrl"):
            name = f"pointmaze-{dataset}"
            last = where("curves.csv", study="horizon", dataset=name, method=method, updates="8000")
            flat = [100 * float(row["success"]) for row in last]
            keys = [("methods", name, method, "planned", str(seed)) for seed in range(3)]
            planned = [float(task_rates(key).mean()) for key in keys]
            cells.append(
                [
                    *(dataset, method, f"{np.mean(flat):.0f} ({each(flat, 0)})"),
                    f"**{np.mean(planned):.0f}** ({each(planned, 0)})",
                ]
            )
    return cells


def waypoint_laws() -> Cells:
    cells = [["law", "each seed", "mean ± s.e.", "published, humanoidmaze-giant-stitch"]]
    published = published_ablation("waypoint")
    for method in dict.fromkeys(r["method"] for r in where("runs.csv", study="ablation-waypoint")):
        values = run_rates("ablation-waypoint", "medium-stitch", method)
        printed = published_text(published[method])
        cells.append([method, each(values), f"**{over_seeds(values)}**", printed])
    return cells


def p_lambda() -> Cells:
    lambdas = ("0.9", "0.95", "0.99")
    cells = [["", *(f"λ = {value}" for value in lambdas)]]
    for p in ("0", "0.2", "0.5"):
        names = [f"p = {p}, λ = {value}" for value in lambdas]
        found = [run_rates("p-lambda-grid", "medium-stitch", name) for name in names]
        cells.append([f"p = {p}", *map(over_seeds, found)])
    return cells


def policy_goals() -> Cells:
    cells = [["agent", "crossed", "the row's own"]]
    for agent in ("mqe", "tmd", "cmd", "crl", "qrl", "gciql", "nsacbc"):
        names = (f"{agent}, cross", f"{agent}, paired")
        found = [run_rates("policy-goals", "medium-stitch", name) for name in names]
        best = int(np.argmax([np.mean(values) for values in found]))
        texts = [f"{over_seeds(values)} ({each(values)})" for values in found]
        texts[best] = mean_and_each(found[best])
        cells.append([agent, *texts])
    return cells


def reproduction() -> Cells:
    """The longest flat runs of MQE beside Table 4 of the paper."""
    published_head = "published, 512 × 3, 1,000,000 updates"
    head = ["dataset", "networks", "updates", "success", "last three evaluations", published_head]
    cells = [head]
    every = (*where("evaluations.csv", agent="mqe", acting="flat"),)
    for dataset in sorted({row["dataset"] for row in every}):
        published = published_result("mqe", dataset)
        runs = [row for row in every if row["dataset"] == dataset]
        most = max(int(row["updates"]) for row in runs)
        longest = [row for row in runs if int(row["updates"]) == most]
        if published is not None:
            config = json.loads((DATA / "configs.json").read_text())
            settings = config[f"{longest[0]['experiment']}/{dataset}/mqe"]["agent"]
            printed = published_text(published)
            values = over_seeds([float(row["success"]) for row in longest])
            experiment, hidden = longest[0]["experiment"], settings["hidden"]
            curve = where("curves.csv", study=experiment, dataset=dataset, method="mqe")[-3:]
            last = [100 * float(row["success"]) for row in curve]
            mean = f"**{np.mean(last):.1f}** ({each(last, 0)})" if last else "–"
            size = f"{hidden[0]} × {len(hidden)}"
            cells.append([dataset, size, f"{most:,}", values, mean, printed])
    return cells


PRIMITIVES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 1, 6: 2}
"""Primitives of each task of the tabletop, and so its points."""


TABLETOP = "tabletop", "tabletop-bold", "tabletop-flow"
"""Experiments: the second with α = 0.1, the third with the best of 32 samples of a flow."""


def tabletop_name(row: Row) -> str:
    """The method of a row, with its α where it has one."""
    settings = json.loads((DATA / "configs.json").read_text())
    agent = settings[f"{row['experiment']}/{row['dataset']}/{row['agent']}"]["agent"]
    acting = "" if row["acting"] == "flat" else f" {row['acting']}"
    ways = {
        "ddpg-bc": f", α = {agent.get('alpha', 0):g}",
        "best-of-n": f", best of {agent.get('candidates')}",
    }
    return row["agent"] + acting + ways.get(agent.get("extraction"), "")


def tabletop_points(trials: Iterable[Row], task: int) -> list[float]:
    """The points at each trial's end."""
    return [float(row["progress"]) for row in trials if row["task"] == str(task)]


def tabletop() -> Cells:
    """Points and strict success on each task of the tabletop; trials are those of one policy."""
    names = ("one", "two", "three", "four", "drawer", "drawer, object")
    cells = [["points of", "updates", *names, "strict success"]]
    every = [row for name in TABLETOP for row in where("evaluations.csv", experiment=name)]
    for found in every:
        key = {name: found[name] for name in KEY}
        trials = where("episodes.csv.gz", **key)
        texts = [
            f"{over_seeds(tabletop_points(trials, task), 2)} of {most}"
            for task, most in PRIMITIVES.items()
        ]
        strict = sum(row["success"] == "1" for row in trials)
        name = f"{tabletop_name(found)}, seed {found['seed']}"
        updates = f"{int(found['updates']):,}"
        cells.append([name, updates, *texts, f"{strict} of {len(trials)}"])
    return cells


def draw_tabletop(path: Path) -> None:
    """Share of the points by primitives, over all trials and seeds of each method."""
    figure, axes = begin_figure(8, 3.2, columns=2, sharey=True)
    methods = defaultdict(list)
    for evaluation in (
        row for name in TABLETOP for row in where("evaluations.csv", experiment=name)
    ):
        key = {name: evaluation[name] for name in KEY}
        methods[tabletop_name(evaluation)] += where("episodes.csv.gz", **key)
    titles = {"Objects to bring to their places": (1, 2, 3, 4), "Drawer, and an object": (5, 6)}
    for axis, (title, tasks) in zip(axes, titles.items(), strict=True):
        for name, trials in methods.items():
            shares = [np.array(tabletop_points(trials, task)) / PRIMITIVES[task] for task in tasks]
            axis.errorbar(
                [PRIMITIVES[task] for task in tasks],
                [share.mean() for share in shares],
                [share.std(ddof=1) / len(share) ** 0.5 for share in shares],
                marker="o",
                capsize=3,
                label=name,
            )
        axis.set(title=title, xlabel="primitives in the task", ylim=(-0.05, 1.05))
        axis.set_xticks([PRIMITIVES[task] for task in tasks])
    axes[0].set_ylabel("share of the points")
    axes[0].legend()
    save_figure(figure, path)


TABLES: dict[str, Callable[[], Cells]] = {
    "quickstart-short": quickstart_short,
    "quickstart": quickstart,
    "reproduction": reproduction,
    "giant-curve": lambda: success_curve("giant-stitch"),
    "giant-tasks": giant_tasks,
    "long-curve": lambda: success_curve("long"),
    "long-tasks": long_tasks,
    "planned": lambda: evaluations("planned"),
    "retrained": lambda: evaluations("retrained"),
    "planners": planners,
    "former-planners": lambda: planners("former_planners.csv"),
    "methods": methods,
    "direction": direction,
    "far-waypoints": far_waypoints,
    "methods-planned": methods_planned,
    "waypoint-laws": waypoint_laws,
    "p-lambda": p_lambda,
    "policy-goals": policy_goals,
    "tabletop": tabletop,
}


def markdown(name: str) -> str:
    """A table as the pages hold it."""
    head, *body = TABLES[name]()
    lines = ["".join(f"| {cell} " if cell else "| " for cell in row) + "|" for row in (head, *body)]
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join(lines) + "\n"


def add(experiment: str, files: Sequence[Path]) -> None:
    """Add results of runs to the data; what is there of the same evaluation is replaced.

    Args:
        experiment: the name under which tables find them.
        files: results of `farstep eval`, and `eval.jsonl` of run directories.
    """
    episodes = {tuple(row[key] for key in EPISODE[:7]): row for row in rows("episodes.csv.gz")}
    found = {tuple(row[key] for key in KEY): row for row in rows("evaluations.csv")}
    curves = {tuple(row[key] for key in CURVE[:5]): row for row in rows("curves.csv")}
    configs = json.loads((DATA / "configs.json").read_text())
    for path in files:
        if path.suffix == ".jsonl":
            config = json.loads((path.parent / "config.json").read_text())
            agent = config["agent"]["name"]
            dataset = config["dataset"]["name"].removesuffix("-v0")
            configs[f"{experiment}/{dataset}/{agent}"] = config
            for line in path.read_text().splitlines():
                record = json.loads(line)
                seed = config["training"]["seed"]
                values = (experiment, dataset, agent, seed, record["step"], record["success"])
                row = dict(zip(CURVE, map(str, values), strict=True))
                curves[tuple(row.values())[:5]] = row
            continue
        result = Evaluation.load(path)
        protocol, policy = result.protocol, result.protocol["policy"]
        planner, source = policy.get("planning", {}), policy.get("source", {})
        acting = "planned" if planner else "distilled" if "distilled" in source else "flat"
        dataset, agent = policy["dataset"].removesuffix("-v0"), policy["agent"]
        key = (experiment, dataset, agent, acting, str(source.get("seed", 0)))
        episodes = {place: row for place, row in episodes.items() if place[:5] != key}
        for episode in result.episodes:
            distance = episode.final_distance
            figures = (episode.task, episode.index, episode.seed, int(episode.success))
            points = "" if episode.progress is None else episode.progress
            at_end = (episode.steps, "" if distance is None else f"{distance:.3f}", points)
            row = dict(zip(EPISODE, (*key, *map(str, (*figures, *at_end))), strict=True))
            episodes[tuple(row.values())[:7]] = row
        limits = [protocol[name] for name in ("episodes_per_task", "max_steps", "seed")]
        success = round(100 * result.mean_success, 3)
        values = (*key, policy["step"], *limits, success, *(planner.get(p, "") for p in PLANNER))
        found[key] = dict(zip((*EVALUATION, *PLANNER), map(str, values), strict=True))
        settings = {"agent": {"name": agent, **policy.get("hyperparameters", {})}}
        configs.setdefault(f"{experiment}/{dataset}/{agent}", settings)
    _write("episodes.csv.gz", EPISODE, sorted(episodes.values(), key=_order))
    _write("evaluations.csv", (*EVALUATION, *PLANNER), sorted(found.values(), key=_order))
    _write("curves.csv", CURVE, curves.values())
    write_text(DATA / "configs.json", json.dumps(configs, indent=1, sort_keys=True) + "\n")


def _order(row: Row) -> Any:
    numbers = [int(row.get(name, 0)) for name in ("seed", "task", "episode")]
    return tuple(row[key] for key in KEY[:4]), numbers


def _write(name: str, columns: Sequence[str], records: Iterable[Row]) -> None:
    written = io.StringIO()
    writer = csv.DictWriter(written, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    data = written.getvalue().encode()
    # Without a time stamp equal data are equal files.
    (DATA / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    rows.cache_clear()
    task_counts.cache_clear()


def main() -> None:
    parser = argparse.ArgumentParser(description="The tables of the documentation.")
    parser.add_argument("--write", action="store_true", help="put the tables in their places")
    parser.add_argument("--add", metavar="EXPERIMENT", help="add the FILES to the data")
    parser.add_argument("files", nargs="*", type=Path)
    arguments = parser.parse_args()
    if arguments.add:
        add(arguments.add, arguments.files)
    if arguments.write:
        draw_tabletop(ROOT / "docs" / "images" / "tabletop.png")
    for page in PAGES if arguments.write else ():
        content = page.read_text(encoding="utf-8")
        filled = MARK.sub(lambda m: f"<!-- table: {m[1]} -->\n{markdown(m[1])}", content)
        page.write_text(filled, encoding="utf-8")
    for name in TABLES if not (arguments.write or arguments.add) else ():
        print(f"{name}\n\n{markdown(name)}")


if __name__ == "__main__":
    main()
