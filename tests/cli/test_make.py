"""`farstep data make` as it is typed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tyro

for _module in ("gymnasium", "mujoco", "ogbench"):
    pytest.importorskip(_module)

from farstep.cli.main import main  # noqa: E402 (after the checks above)
from farstep.cli.make import DataMake, way_to  # noqa: E402
from farstep.core.errors import FarstepError  # noqa: E402
from farstep.data.table import open_dataset  # noqa: E402
from farstep.envs.catalog import DATASETS  # noqa: E402


def make(line: str) -> None:
    tyro.cli(DataMake, args=line.split()).run()


def test_a_data_set_is_made_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FARSTEP_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    make("pointmaze-large-navigate --episodes 3 --steps 12 --processes 1 --seed 2")
    dataset = open_dataset("pointmaze-large-navigate")
    assert dataset.name == "pointmaze-large-navigate-v0"
    assert dataset.environment == "pointmaze-large-v0"
    assert (dataset.train.num_episodes, dataset.train.num_steps) == (3, 36)
    assert dataset.val is not None
    assert dataset.val.num_episodes == 1
    shown = capsys.readouterr()
    assert "48 steps" in shown.err
    assert "episodes × steps: 3 × 12 (published: 1,000 × 1,001)" in shown.err
    main(["data", "info", "pointmaze-large-navigate"])
    assert "published: 1,000 × 1,001" in " ".join(capsys.readouterr().out.split())
    assert shown.out == ""
    with pytest.raises(FarstepError, match="already exists"):
        make("pointmaze-large-navigate --episodes 3 --steps 12 --processes 1")
    make("pointmaze-large-navigate-v0 --episodes 2 --steps 12 --processes 1 --overwrite")
    assert open_dataset("pointmaze-large-navigate").train.num_episodes == 2


def test_an_own_map(tmp_path: Path) -> None:
    rooms = tmp_path / "rooms.txt"
    rooms.write_text("######\n#....#\n#.##.#\n#....#\n######\n")
    out = tmp_path / "made"
    make(f"stitch --maze {rooms} --episodes 2 --steps 9 --noise 0.1 --processes 1 --out {out}")
    dataset = open_dataset(out)
    assert dataset.name == "pointmaze-rooms-stitch-v0"
    assert dataset.environment == f"pointmaze:{out / 'maze.txt'}"
    assert dataset.train.manifest.provenance["recipe"]["noise"] == 0.1
    make(f"stitch --maze {rooms} --episodes 2 --steps 9 --processes 1")
    assert (Path(os.environ["FARSTEP_DATA"]) / "pointmaze-rooms-stitch-v0").is_dir()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("pointmaze-meduim-stitch", "Did you mean 'pointmaze-medium-stitch-v0'"),
        ("visual-antmaze-large-stitch", "farstep data render antmaze-large-stitch"),
        ("antsoccer-arena-stitch", "farstep walker train antball) and give its file by --dribbler"),
        ("antmaze-large-stitch --dribbler nowhere", "--dribbler means nothing"),
        ("stitch --maze {rooms} --body antsoccer", "no body 'antsoccer'"),
        ("humanoidmaze-large-stitch", "farstep walker train humanoid"),
        ("antmaze-large-stitch --walker nowhere", "no walker at"),
        ("stitch", "needs a map"),
        ("pointmaze-medium-stitch --maze {rooms}", "has no behaviour 'pointmaze-medium-stitch'"),
        ("stitch --maze {rooms} --body snake", "no body 'snake'"),
        ("stitch --maze nowhere.txt", "cannot read the maze file"),
        ("pointmaze-medium-stitch --episodes 0", "at least 1 episode"),
        ("pointmaze-medium-stitch --steps 1", "at least 2 steps"),
        ("pointmaze-medium-stitch --processes 0", "--processes must be at least 1"),
        ("pointmaze-medium-stitch --seed -1", "--seed must be at least 0"),
    ],
)
def test_mistakes_are_explained(line: str, complaint: str, tmp_path: Path) -> None:
    rooms = tmp_path / "rooms.txt"
    rooms.write_text("#####\n#...#\n#####")
    with pytest.raises(FarstepError) as caught:
        make(line.format(rooms=rooms))
    assert complaint in str(caught.value)


def test_every_published_name_says_how_to_come_by_it(capsys: pytest.CaptureFixture[str]) -> None:
    for name in DATASETS:
        stem = name.removesuffix("-v0")
        ways = (
            f"farstep data make {stem}",
            f"farstep data render {stem.removeprefix('visual-')}, once that is made",
        )
        assert way_to(name).startswith(ways)
        assert ("--walker FILE" in way_to(name)) == stem.startswith("humanoidmaze")
        assert ("--dribbler FILE" in way_to(name)) == stem.startswith("antsoccer")
    main(["data", "list", "cube-octuple"])
    assert "5,000 × 1,001" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["data", "list", "snake"])
