"""`farstep study`: MQE's ablations on any dataset, each setting trained by `farstep.train`."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self

import tyro
from matplotlib.figure import Figure
from rich.console import Console

from farstep.agents.base import Agent
from farstep.analysis import studies
from farstep.analysis.comparison import Comparison, compare
from farstep.analysis.comparison_tables import curve_cells, run_cells
from farstep.analysis.curves import Curve, learning_curve
from farstep.analysis.figures import save_figure
from farstep.analysis.horizon import (
    horizon_curve,
    pair_distances,
    spread_pairs,
    task_distances,
)
from farstep.analysis.scores import LAST_EVALUATIONS, run_score
from farstep.analysis.studies import Study, Variant
from farstep.analysis.study_report import (
    draw_curves,
    draw_grid,
    draw_study,
    horizon_cells,
    study_cells,
    study_markdown,
)
from farstep.analysis.tables import Cells, csv_table, latex_table, rich_table
from farstep.cli.compare import WIDEST
from farstep.cli.console import plain_console
from farstep.cli.reporting import TrainingReporter
from farstep.cli.train import Train
from farstep.core.errors import FarstepError
from farstep.core.files import write_text
from farstep.data.table import Dataset, open_dataset
from farstep.envs.catalog import environment as find_environment
from farstep.envs.mazes import MazeMap
from farstep.envs.specs import EnvironmentSpec
from farstep.evaluation.results import Evaluation
from farstep.evaluation.rollout import evaluate
from farstep.serving.policy import load_policy
from farstep.sweeps.job import Job
from farstep.training.loop import Interrupted

OWN = ("agent", "out", "seed", "seeds", "resume", "from-step", "overwrite", "max-minutes")
"""Options of `farstep train` that a study sets itself."""

FORWARDED = (
    "Options that are not listed go to 'farstep train', the same for every setting: --preset small "
    "--steps 20000 --evaluate-every 2000 ... A finished run is not repeated and a stopped one "
    "continues, so the same command can be given again at any time."
)

TABLE4_METHODS = ("mqe", "tmd", "cmd", "crl", "qrl", "gciql", "hiql", "nsacbc")


@dataclass(frozen=True)
class Results:
    """A study's picture, and tables besides that of its settings by title."""

    figure: Figure
    tables: Mapping[str, Cells] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StudyCommand(abc.ABC):
    """Every study trains each setting with each seed, then writes a table and a figure."""

    dataset: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
    """Name of a dataset, or its directory."""
    seeds: int = 3
    """How many seeds, trained together."""
    seed: int = 0
    """The first seed."""
    out: Path | None = None
    """Directory of the study; studies/STUDY-DATASET by default."""
    evaluations: int = LAST_EVALUATIONS
    """Number of last evaluations whose mean is a run's number."""
    training: Annotated[tuple[str, ...], tyro.conf.Suppress] = field(default=())

    @classmethod
    def parse(cls, program: str, words: Sequence[str]) -> Self:
        """Read the study's own options; the rest are `farstep train`'s."""
        asked, rest = tyro.cli(
            cls,
            prog=program,
            description=f"{inspect.getdoc(cls)}\n\n{FORWARDED}",
            args=list(words),
            return_unknown_args=True,
        )
        return replace(asked, training=tuple(rest))

    @abc.abstractmethod
    def design(self) -> Study:
        """The settings to compare."""

    @cached_property
    def study(self) -> Study:
        """The design, made once."""
        return self.design()

    def results(self, comparison: Comparison) -> Results:
        """The figure and tables of the runs, besides the table of settings."""
        return Results(draw_study(self.study, comparison))

    def run(self) -> None:
        console = plain_console()
        dataset = open_dataset(self.dataset)
        self.check(dataset)
        try:
            for variant in self.study.variants:
                job = self._job(variant)
                # Settings compare only if they were evaluated at the same steps.
                job.check(ignore=["steps"])
                with TrainingReporter(console, job.training.steps) as reporter:
                    job.execute(reporter)
        except Interrupted as interruption:
            console.print(f"Saved and {interruption}. Continue by the same command.")
            raise SystemExit(128 + interruption.signal_number) from None
        self._report(console)

    @property
    def directory(self) -> Path:
        """Where the study's runs and results lie."""
        return self.out or Path("studies") / f"{self.study.name}-{Path(self.dataset).name}"

    def runs(self, variant: Variant) -> list[Path]:
        """The run directories of one setting, a seed each."""
        seeds = range(self.seed, self.seed + self.seeds)
        return [self.directory / variant.directory / f"s{seed}" for seed in seeds]

    def _asked(self, variant: Variant) -> Train[Agent]:
        """The options of one setting's training."""
        asked = Train.parse(
            "farstep study", [self.dataset, "--agent", variant.agent, *self.training]
        )
        return replace(asked, hyperparameters=variant.applied_to(asked.hyperparameters))

    def check(self, dataset: Dataset) -> None:
        """Before any work: every setting's options are understood, and runs can be measured."""
        if self.seeds < 1 or self.evaluations < 1:
            raise FarstepError("--seeds and --evaluations must be at least 1.")
        if dataset.environment is None:
            raise FarstepError(
                f"{dataset.name} names no environment, so that there is no success to compare."
            )
        given = {word.partition("=")[0] for word in self.training}
        taken = {f"--{name}": "the study" for name in OWN}
        for variant in self.study.variants:
            options = (f"--{name.replace('_', '-')}" for name in variant.options)
            taken |= dict.fromkeys(options, f"setting '{variant.name}'")
        for option in sorted(given & taken.keys()):
            raise FarstepError(f"{option} is set by {taken[option]}; leave it out.")
        for variant in self.study.variants:
            if self._asked(variant).training.evaluation_episodes == 0:
                raise FarstepError("--evaluation-episodes 0 leaves nothing to compare.")

    def _job(self, variant: Variant) -> Job:
        """The training of one setting, seeds in the same state together."""
        asked = self._asked(variant)
        directory = self.directory / variant.directory
        return Job(
            name=variant.name,
            directory=directory,
            log=directory / "log",
            dataset=self.dataset,
            agent=asked.hyperparameters,
            training=replace(asked.training, seed=self.seed),
            seeds=self.seeds,
            goal=asked.goal or "observation",
            frames=asked.frames,
            execution=asked.execution,
        )

    def _report(self, console: Console) -> None:
        scores = [
            run_score(path, variant.name, evaluations=self.evaluations)
            for variant in self.study.variants
            for path in self.runs(variant)
        ]
        comparison = compare(scores)
        results = self.results(comparison)
        cells = study_cells(self.study, comparison)
        out = self.directory
        texts = {
            "study.md": study_markdown(self.study, comparison, results.tables),
            "study.tex": "\n\n".join(map(latex_table, (cells, *results.tables.values()))) + "\n",
            "study.csv": csv_table(cells),
            "runs.csv": csv_table(run_cells(comparison)),
            "curves.csv": csv_table(curve_cells(comparison)),
        }
        for name, text in texts.items():
            write_text(out / name, text)
        save_figure(results.figure, out / "study.png")
        title = f"Success by updates\n{comparison.datasets[0]}"
        learned = [learning_curve(cell) for cell in comparison.cells]
        save_figure(draw_curves(title, learned, "updates"), out / "curves.png")
        wide = plain_console(max(console.width, WIDEST))
        for title, table in {f"{self.study.title}, success in %": cells, **results.tables}.items():
            console.print(f"\n{title}", style="bold", highlight=False)
            wide.print(rich_table(table, summary=False))
        for note in comparison.notes:
            console.print(f"Note: {note}", highlight=False, markup=False, soft_wrap=True)
        files = ", ".join([*texts, "study.png", "curves.png"])
        console.print(f"Written to {out}: {files}", highlight=False, soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class InvarianceStudy(StudyCommand):
    """Action invariance: with it, without it, and an expectile value loss instead (Table 1a)."""

    def design(self) -> Study:
        return studies.ablation_invariance()


@dataclass(frozen=True, kw_only=True)
class WaypointStudy(StudyCommand):
    """The laws by which MQE draws its waypoints (Table 1b)."""

    def design(self) -> Study:
        return studies.ablation_waypoint()


@dataclass(frozen=True, kw_only=True)
class GridStudy(StudyCommand):
    """MQE's p, probability of a one-step waypoint, against λ, as a heat map (Figure 6)."""

    p: tuple[float, ...] = (0.0, 0.1, 0.2, 0.5)
    """Values of p."""
    lambdas: Annotated[tuple[float, ...], tyro.conf.arg(name="lambda")] = (0.9, 0.95, 0.99)
    """Values of λ."""

    def design(self) -> Study:
        return studies.p_lambda_grid(self.p, self.lambdas)

    def results(self, comparison: Comparison) -> Results:
        return Results(draw_grid(comparison, self.p, self.lambdas))


@dataclass(frozen=True, kw_only=True)
class HorizonStudy(StudyCommand):
    """Success of several methods by how far the goal is, as curves (Figure 3b).

    In a maze the distance is the shortest way in metres; elsewhere tasks are numbered.
    """

    agents: tuple[str, ...] = TABLE4_METHODS
    """The methods."""
    pairs: int = 0
    """In a maze, the number of pairs of cells to measure the trained policies on, from neighbours
    to the farthest, in place of the environment's own tasks."""
    episodes: int = 10
    """Episodes of each of those pairs."""

    def design(self) -> Study:
        return studies.horizon(self.agents, Path(self.dataset).name)

    def check(self, dataset: Dataset) -> None:
        super().check(dataset)
        if self.pairs and dataset.environment is not None:
            self._maze_of_pairs(find_environment(dataset.environment))

    def results(self, comparison: Comparison) -> Results:
        curves, unit = self._curves(comparison)
        title = f"{self.study.title}\n{comparison.datasets[0]}"
        distance = f"shortest way from start to goal ({unit})" if unit else "task"
        return Results(
            draw_curves(title, curves, distance),
            {"Success in % by distance": horizon_cells(curves, unit)},
        )

    def _curves(self, comparison: Comparison) -> tuple[list[Curve], str]:
        """The curves, and the unit of their distances; empty where tasks are numbered."""
        score = comparison.cells[0].scores[0]
        spec = find_environment(score.protocol["environment"])
        runs = {cell.method: [one.tasks for one in cell.scores] for cell in comparison.cells}
        distances = task_distances(spec)
        if self.pairs:
            maze = self._maze_of_pairs(spec)
            runs = {
                variant.name: [self._on_pairs(path, spec, maze) for path in self.runs(variant)]
                for variant in self.study.variants
            }
            distances = pair_distances(maze)
        curves = [horizon_curve(method, tasks, distances) for method, tasks in runs.items()]
        return curves, "" if distances is None else "m"

    def _maze_of_pairs(self, spec: EnvironmentSpec) -> MazeMap:
        maze = spec.maze_map
        if maze is None or spec.body is None or spec.ball:
            raise FarstepError(f"--pairs is for mazes, and {spec.name} is none.")
        # The draw must be the same for all methods and seeds, however often this is called.
        return replace(maze, tasks=tuple(spread_pairs(maze, self.pairs, seed=0)))

    def _on_pairs(self, path: Path, spec: EnvironmentSpec, maze: MazeMap) -> dict[int, float]:
        """The success of a run's last policy by pair, measured once and kept in the run."""
        kept = path / f"pairs-{self.pairs}x{self.episodes}.json"
        policy = load_policy(path)
        if kept.exists():
            result = Evaluation.load(kept)
        if not kept.exists() or result.protocol["updates"] != policy.step:
            result = evaluate(
                policy,
                spec.in_maze(maze),
                episodes_per_task=self.episodes,
                spaces=policy.spaces,
            )
            result = replace(result, protocol={**result.protocol, "updates": policy.step})
            result.save(kept)
        return {task.task: task.success_rate for task in result.tasks}


@dataclass(frozen=True, kw_only=True)
class PolicyGoalsStudy(StudyCommand):
    """Goals of the policy's q term, other rows' (Eq. 15) or the row's own, for several agents."""

    agents: tuple[str, ...] = studies.agents_with("policy_goals")
    """Agents whose policies climb a critic."""

    def design(self) -> Study:
        return studies.policy_goals(self.agents)


@dataclass(frozen=True, kw_only=True)
class PolicyLeversStudy(StudyCommand):
    """MQE's policy: a Gaussian, two kinds of flows, chunks of actions, and averaged parameters."""

    chunk: int = 5
    """Actions of a chunk."""
    average: float = 0.999
    """Rate of the moving average of parameters that acts."""

    def design(self) -> Study:
        return studies.policy_levers(self.chunk, self.average)
