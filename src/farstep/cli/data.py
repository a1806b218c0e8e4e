"""`farstep data import`, `info` and `get`: datasets on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import tyro
from rich.progress import TaskID
from rich.table import Table as Grid

from farstep.cli.console import plain_console, progress_bar
from farstep.cli.make import against_published
from farstep.core.arrays import part
from farstep.core.errors import FarstepError
from farstep.core.files import format_bytes
from farstep.core.types import Space
from farstep.data.check import RULES, Finding, check_dataset, check_splits
from farstep.data.download import Patience, get, mirror_list
from farstep.data.episodes import Episode
from farstep.data.records import unfinished
from farstep.data.sources.base import ImportOptions
from farstep.data.sources.registry import Imported, default_name, import_source, open_source
from farstep.data.table import Dataset, Table, canonical_name, data_root, open_dataset
from farstep.envs.catalog import DATASETS, environment, environment_of
from farstep.envs.specs import EnvironmentSpec


@dataclass(frozen=True)
class DataImport:
    """Import logs as a dataset: .npz, HDF5 (Minari, D4RL, robomimic), RLDS, LeRobot, raw Bridge.

    An .npz file holds `observations` (N, …), `actions` (N, A) and `terminals` (N,), which is 1 on
    the last observation of each episode; `timeouts`, `truncations` and the like are read too.
    `my-val.npz` beside `my.npz` becomes the validation table; of a directory, all files are read
    in name order.

    `farstep data import my.npz --name my-robot`

    Attributes:
        source: an .npz or HDF5 file or a directory of them; the directory of a Minari, RLDS,
            LeRobot or raw Bridge dataset.
        format: the kind of files; recognised from the files by default.
        name: the dataset's name; by default that of the file.
        environment: the environment to evaluate in; known for published names.
        reading: facts that the data do not hold.
        check: write nothing, and name the episodes that look wrong.
        overwrite: replace a dataset of this name.
    """

    source: tyro.conf.Positional[Path]
    format: str | None = None
    name: str | None = None
    environment: str | None = None
    reading: tyro.conf.OmitArgPrefixes[tyro.conf.UseAppendAction[ImportOptions]] = field(
        default_factory=ImportOptions
    )
    check: bool = False
    overwrite: bool = False

    def run(self) -> None:
        name = self.name or default_name(self.source)
        published = _published_environment(name)
        known = self.environment or published
        spec = None if known is None else environment(known)
        options = replace(
            self.reading,
            out_of_range=self.reading.out_of_range or ("keep" if published else "scale"),
            num_actions=self.reading.num_actions or (None if spec is None else spec.num_actions),
        )
        if self.check:
            self._check(replace(options, one_step_episodes="drop"))
            return
        try:
            with _Bars() as bars:
                imported = import_source(
                    self.source,
                    name,
                    format=self.format,
                    environment=None if spec is None else spec.name,
                    options=options,
                    overwrite=self.overwrite,
                    progress=bars.on_import,
                )
        except (KeyboardInterrupt, SystemExit):
            if unfinished(data_root() / name).exists():
                print("stopped; the same command goes on from here", file=sys.stderr)
            raise
        _print_imported(imported)

    def _check(self, options: ImportOptions) -> None:
        count = 0

        def episodes(split: str) -> Iterable[Episode]:
            nonlocal count
            for episode in open_source(self.source, options, self.format).splits[split].episodes:
                count += episode.ends
                yield episode

        splits = open_source(self.source, options, self.format).splits
        findings = check_splits({split: partial(episodes, split) for split in splits})
        # Every episode was read twice.
        _print_findings(findings, count // 2)


@dataclass(frozen=True)
class DataGet:
    """Download a published dataset of OGBench and import it.

    An interrupted download resumes. Proxies are taken from the environment (https_proxy). Further
    mirrors may be named in FARSTEP_MIRRORS, separated by commas.

    `farstep data get pointmaze-medium-stitch`

    Attributes:
        name: a published dataset, such as pointmaze-medium-stitch.
        mirror: a URL or directory to try first; may be given several times.
        offline: request nothing; import a file that was put there by hand.
        sha256: checksum that the training file must have.
        val_sha256: checksum that the validation file must have.
        keep_files: keep the downloaded files after the import.
        timeout: seconds without a byte after which a connection is given up.
        attempts: tries per mirror.
        overwrite: import again where the dataset exists already.
    """

    name: tyro.conf.Positional[str]
    mirror: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    offline: bool = False
    sha256: str | None = None
    val_sha256: str | None = None
    keep_files: bool = True
    timeout: float = 30.0
    attempts: int = 5
    overwrite: bool = False

    def run(self) -> None:
        if self.timeout <= 0 or self.attempts < 1:
            raise FarstepError("--timeout must be positive, and --attempts at least 1.")
        published = _published_environment(self.name)
        if published is None and not self.mirror:
            # Says which names are near.
            environment_of(self.name)
        with _Bars() as bars:
            imported = get(
                self.name,
                mirrors=mirror_list(self.mirror),
                offline=self.offline,
                sha256=self.sha256,
                val_sha256=self.val_sha256,
                environment=published,
                num_actions=None if published is None else environment(published).num_actions,
                overwrite=self.overwrite,
                keep_files=self.keep_files,
                patience=Patience(timeout=self.timeout, attempts=self.attempts),
                on_download=bars.on_download,
                on_import=bars.on_import,
            )
        _print_imported(imported)


@dataclass(frozen=True)
class DataInfo:
    """Show what a dataset holds: episodes, ranges, where it comes from.

    `farstep data info pointmaze-medium-stitch --picture coverage.png`

    Attributes:
        name: a dataset's name or directory.
        verify: compare every file with its checksum.
        picture: draw where in the maze the training episodes have been.
    """

    name: tyro.conf.Positional[str]
    verify: bool = False
    picture: Path | None = None

    def run(self) -> None:
        console = plain_console()
        dataset = open_dataset(self.name, verify=self.verify)
        console.print(f"{dataset.name}  ({dataset.path})")
        console.print(info_grid(dataset))
        if self.verify:
            console.print("Every checksum matches.")
        if self.picture is not None:
            _draw(dataset, self.picture)
            console.print(f"Coverage drawn to {self.picture}")


@dataclass(frozen=True)
class DataCheck:
    """Name the episodes that look wrong, and say by which rule. Exits with 1 if there are any.

    `farstep data check my-robot`

    Logs are checked before their import by `farstep data import PATH --check`.

    Attributes:
        name: a dataset's name or directory.
        json: print the findings as JSON.
    """

    name: tyro.conf.Positional[str]
    json: bool = False

    def run(self) -> None:
        dataset = open_dataset(self.name)
        episodes = dataset.train.num_episodes + (dataset.val.num_episodes if dataset.val else 0)
        _print_findings(check_dataset(dataset), episodes, self.json)


def _print_findings(findings: list[Finding], episodes: int, as_json: bool = False) -> None:
    """Print what was found; exits with 1 if there is anything."""
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        console = plain_console()
        if findings:
            grid = Grid()
            for name in ("split", "episode", "step", "rule", "seen"):
                grid.add_column(name, overflow="fold")
            for one in findings[:SHOWN]:
                step = "–" if one.step is None else str(one.step)
                grid.add_row(one.split, str(one.episode), step, one.rule, one.what)
            console.print(grid)
            if len(findings) > SHOWN:
                console.print(f"… {len(findings) - SHOWN:,} more; --json prints all.")
            for rule in dict.fromkeys(one.rule for one in findings):
                console.print(f"{rule}: {RULES[rule]}.")
        wrong = len({(one.split, one.episode) for one in findings})
        console.print(f"{wrong:,} of {episodes:,} episodes look wrong.")
    if findings:
        raise SystemExit(1)


SHOWN = 50
"""Findings that are printed as a table."""


def info_grid(dataset: Dataset) -> Grid:
    """The table of `farstep data info`: a row per fact, a column per split."""
    splits = {"train": dataset.train} | ({"val": dataset.val} if dataset.val else {})
    grid = Grid()
    grid.add_column("")
    for split in splits:
        grid.add_column(split, overflow="fold")
    facts = [_facts(table) for table in splits.values()]
    for name in facts[0]:
        grid.add_row(name, *(column[name] for column in facts))
    return grid


def _facts(table: Table) -> dict[str, str]:
    manifest, spaces = table.manifest, table.spaces
    lengths = table.episode_lengths
    size = sum(path.stat().st_size for path in table.path.iterdir() if path.is_file())
    actions = (
        f"{spaces.action.size} discrete" if spaces.action.discrete else f"({spaces.action.size},)"
    )
    outside = manifest.actions_out_of_range
    facts = {
        "episodes": f"{table.num_episodes:,}",
        "steps": f"{table.num_steps:,}",
        "transitions": f"{table.num_steps - table.num_episodes:,}",
        "episode length": (
            f"{lengths.min():,} to {lengths.max():,}, median {np.median(lengths):,.0f}"
        ),
        "observation": _observation(spaces.observation),
        "observation range": "\n".join(
            _range(table, part("observations", key)) for key in spaces.observation.arrays
        ),
        "action": actions,
        "action range": _range(table, "actions"),
        "actions outside [-1, 1]": (
            "–"
            if spaces.action.discrete
            else f"{outside:,} ({outside / table.num_steps:.2%})"
            + (", scaled from their bounds" if manifest.action_bounds else "")
        ),
        "made": "\n".join(against_published(table)) if "recipe" in manifest.provenance else "–",
        "tasks": f"{len(manifest.tasks):,}" if manifest.tasks else "–",
        "extras": ", ".join(
            f"{name} {array.shape[1:]} {array.dtype}" for name, array in table.extras.items()
        )
        or "–",
        "environment": manifest.environment or "unknown",
        "provenance": _provenance(table),
        "size on disk": format_bytes(size),
        "digest": table.digest[:16],
    }
    return facts


def _observation(space: Space) -> str:
    arrays = space.arrays.items()
    return "\n".join(f"{name} {each.shape} {each.dtype}".strip() for name, each in arrays)


def _range(table: Table, name: str) -> str:
    statistics = table.manifest.statistics[name]
    return f"{min(statistics.min):.4g} to {max(statistics.max):.4g}"


def _provenance(table: Table) -> str:
    lines = []
    for key, value in table.manifest.provenance.items():
        if key == "files":
            for file in value:
                lines.append(f"{file['name']}, {format_bytes(file['bytes'])}")
        else:
            lines.append(f"{key}: {value}")
    return "\n".join(lines) or "unknown"


def _draw(dataset: Dataset, path: Path) -> None:
    # matplotlib takes a while to import, and only the picture needs it.
    from farstep.analysis.coverage import draw_coverage
    from farstep.analysis.figures import save_figure

    spec = _environment_spec(dataset)
    maze = spec.maze_map
    if maze is None:
        raise FarstepError(f"{spec.name} is not a maze; there is no coverage to draw.")
    figure = draw_coverage(maze, _positions(dataset.train, spec), dataset.name)
    save_figure(figure, path)


def _environment_spec(dataset: Dataset) -> EnvironmentSpec:
    if dataset.environment is None:
        raise FarstepError(
            f"{dataset.name} does not say which environment it comes from. Import it again with"
            " --environment."
        )
    return environment(dataset.environment)


def _positions(table: Table, spec: EnvironmentSpec) -> np.ndarray:
    """x and y of the body, (N, 2): the first numbers of its state and of qpos alike."""
    if not spec.pixels:
        return np.asarray(table.observations[:, :2])
    if "qpos" not in table.extras:
        raise FarstepError(f"{table.path} holds pictures and no qpos, so positions are unknown.")
    return np.asarray(table.extras["qpos"][:, :2])


def _published_environment(name: str) -> str | None:
    """The environment's name, if `name` is that of a published dataset."""
    return DATASETS.get(canonical_name(name))


def _print_imported(imported: Imported) -> None:
    notes = plain_console(stderr=True)
    for note in imported.notes:
        notes.print(f"note: {note}")
    dataset = open_dataset(imported.path)
    console = plain_console()
    console.print(
        f"{dataset.name}: {dataset.train.num_episodes:,} episodes,"
        f" {dataset.train.num_steps:,} steps"
        + (f", and {dataset.val.num_episodes:,} to validate" if dataset.val else "")
    )
    console.print(f"in {imported.path}")


class _Bars:
    """A progress bar for each file that is fetched, and one for the import. A context manager."""

    def __init__(self) -> None:
        self._progress = progress_bar("{task.fields[amount]}")
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_download(self, filename: str, received: int, total: int | None) -> None:
        amount = format_bytes(received) + (f" of {format_bytes(total)}" if total else "")
        self._show(filename, received, total, amount)

    def on_import(self, steps: int, total: int) -> None:
        self._show("import", steps, total, f"{steps:,} of {total:,} steps")

    def _show(self, name: str, done: int, total: int | None, amount: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, amount="")
        self._progress.update(self._tasks[name], completed=done, total=total, amount=amount)
