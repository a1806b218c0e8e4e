"""`farstep walker`: train a directional walker or a dribbler, and test one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from farstep.cli.console import plain_console
from farstep.collect.walkers.bodies import walker_body
from farstep.collect.walkers.errands import Errand, errands
from farstep.collect.walkers.fitness import Dribbling, Walking, fitness
from farstep.collect.walkers.policy import Walker, shipped_walker
from farstep.core.errors import FarstepError
from farstep.core.seeds import check_seed


@dataclass(frozen=True)
class WalkerTrain:
    """Train a body to walk in a commanded direction, or to dribble a ball, for collecting data.

    `farstep walker train ant --out runs/ant`

    `farstep walker train ant --out runs/ant --resume` goes on where it was cut off, bit for bit.

    The directory gets metrics.jsonl, checkpoint.safetensors and walker.safetensors; give the last
    to 'farstep data make' by --walker, or by --dribbler if it is the antball's.

    Attributes:
        body: ant, humanoid, or antball: the ant that dribbles a ball.
        out: the run's directory; runs/walker-BODY by default.
        steps: simulator steps, over all bodies; the recipe's unless told otherwise.
        updates: updates after every step of all bodies.
        bodies: bodies stepped together.
        random_steps: steps of random actions before the first update.
        capacity: steps that the replay buffer holds.
        batch: rows of an update's batch.
        learning_rate: Adam's.
        seed: root of everything random.
        test_every: simulator steps between fitness tests.
        resume: go on with the run in --out, by its own recipe.
    """

    body: tyro.conf.Positional[str]
    out: Path | None = None
    steps: int | None = None
    updates: int | None = None
    bodies: int | None = None
    random_steps: int | None = None
    capacity: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    seed: int | None = None
    test_every: int = 50_000
    resume: bool = False

    def run(self) -> None:
        from farstep.collect.walkers.sac import RECIPES, WalkerRecipe
        from farstep.collect.walkers.training import stored_recipe, train

        name = walker_body(self.body).name
        own = {field.name for field in dataclasses.fields(WalkerRecipe)} - {"body"}
        given = {n: v for n, v in vars(self).items() if n in own and v is not None}
        path = self.out or Path("runs") / f"walker-{name}"
        if self.test_every < 1:
            raise FarstepError(f"--test-every must be at least 1, not {self.test_every}")
        if self.resume:
            recipe = stored_recipe(path)
            changed = [n for n, v in given.items() if getattr(recipe, n) != v]
            if changed or recipe.body != name:
                raise FarstepError(
                    f"{path} is a run of the {recipe.body} by a recipe of its own: resume it "
                    f"without {', '.join('--' + n.replace('_', '-') for n in changed) or name}"
                )
        else:
            recipe = dataclasses.replace(RECIPES[name], **given)
        console = plain_console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(f"walker {name}", total=recipe.steps)

            def report(line: Mapping[str, float]) -> None:
                step = int(line["step"])
                told = (
                    f"{step:,} steps, {line['steps_per_second']:.0f}/s, "
                    f"{line['train/speed']:.2f} m/s"
                )
                bar.update(task, completed=step, description=told)
                test = [
                    f"{name.removeprefix('test/').replace('_', ' ')} {value:.4g}"
                    for name, value in line.items()
                    if name.startswith("test/")
                ]
                if test:
                    bar.console.print(
                        f"{told} in training; test: {', '.join(test)}", soft_wrap=True
                    )

            train(path, recipe, resume=self.resume, test_every=self.test_every, reporter=report)
        console.print(
            f"the {walker_body(name).role} is in {path / 'walker.safetensors'}", soft_wrap=True
        )


@dataclass(frozen=True)
class WalkerTest:
    """Measure a walker: speed along the command, falls, turning through 180°.

    Of a dribbler: goals that the ball reaches, steps until then, falls.

    `farstep walker test ant` measures the walker that farstep ships; `farstep walker test
    runs/ant/walker.safetensors` one of your own.

    `farstep walker test ant --environment antmaze-giant-v0` has it walk the tasks of a maze by the
    shortest way.

    Attributes:
        walker: a body's name, or a walker's file.
        environment: a maze whose tasks it is to walk, in place of open ground.
        episodes: episodes: of 1,000 steps, with the command reversed every 100; of 200 with a goal
            for the ball; or of each task.
        noise: standard deviation of the noise on actions; data are collected with 0.2.
        seed: root of everything random.
    """

    walker: tyro.conf.Positional[str]
    environment: str | None = None
    episodes: int = 20
    noise: float = 0.0
    seed: int = 0

    def run(self) -> None:
        check_seed(self.seed, "--seed")
        if self.episodes < 1 or not self.noise >= 0:
            raise FarstepError("--episodes must be at least 1, and --noise at least 0")
        path = Path(self.walker)
        walker = Walker.load(path if path.suffix else shipped_walker(self.walker))
        with Progress(console=plain_console(stderr=True), transient=True) as bar:
            task = bar.add_task("episodes", total=None)
            options: dict[str, Any] = {
                "episodes": self.episodes,
                "noise": self.noise,
                "seed": self.seed,
                "progress": lambda done, total: bar.update(task, completed=done, total=total),
            }
            if self.environment is None:
                lines = _on_ground(fitness(walker, **options))
            else:
                lines = _in_maze(errands(walker, self.environment, **options))
        print("\n".join(lines))


def _on_ground(found: Walking | Dribbling) -> list[str]:
    if isinstance(found, Dribbling):
        return [
            f"goals that the ball reaches {found.reached:.1%} of {found.episodes}",
            f"  steps until then          {found.steps:.0f}",
            f"episodes with a fall        {found.falls:.1%} of {found.episodes}",
        ]
    return [
        f"speed along the command   {found.speed:.2f} m/s",
        f"  from 30 steps on        {found.steady_speed:.2f} m/s",
        f"turns through 180° in     {found.turning_steps:.0f} steps",
        f"episodes with a fall      {found.falls:.1%} of {found.episodes}",
    ]


def _in_maze(found: list[Errand]) -> list[str]:
    lines = ["task  cells  success  steps"]
    lines += [f"{e.task:>4}{e.cells:>7}{e.success:>9.0%}{e.steps:>7.0f}" for e in found]
    mean = sum(errand.success for errand in found) / len(found)
    return [*lines, f"mean{mean:>16.0%}"]
