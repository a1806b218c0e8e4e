"""`farstep data check`: each rule finds the episode that breaks it, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farstep.cli.main import main
from farstep.data.check import RULES, Finding, check_dataset, check_splits
from farstep.data.episodes import Episode
from farstep.data.table import open_dataset

LENGTH = 40


def good(count: int = 8, cameras: bool = False) -> list[dict[str, np.ndarray]]:
    """Smooth episodes with noise, some of whose pictures come twice, as from a slow camera."""
    rng = np.random.default_rng(0)
    episodes = []
    for _ in range(count):
        actions = rng.normal(0, 0.2, (LENGTH, 2)).clip(-1, 1)
        states = rng.normal(size=3) + 0.1 * np.cumsum(rng.normal(size=(LENGTH, 3)), axis=0)
        frames = np.repeat(rng.integers(0, 255, (LENGTH // 2, 8, 8, 3), np.uint8), 2, axis=0)
        one = {"observations": states, "actions": actions}
        episodes.append(one | ({"camera": frames} if cameras else {}))
    return episodes


def spoil(rule: str, episodes: list[dict[str, np.ndarray]]) -> None:
    """Make episode 5 break the rule; first at step 7, if it is a step."""
    one = episodes[5]
    match rule:
        case "not finite":
            one["observations"][7, 1] = np.nan
        case "one step":
            episodes[5] = {name: array[:1] for name, array in one.items()}
        case "short":
            episodes[5] = {name: array[:3] for name, array in one.items()}
        case "still":
            one["observations"][:] = one["observations"][0]
        case "same action":
            one["actions"][:-1] = one["actions"][0]
        case "frozen camera":
            one["camera"][7:] = one["camera"][0]
        case "jump":
            one["observations"][7, 1] += 300
        case "action far out":
            one["actions"][7, 1] = 30
        case "action out of range":
            one["actions"][7, 1] = 1.2


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("pieces", [LENGTH, 4])
def test_each_rule_names_the_episode(rule: str, pieces: int) -> None:
    def episodes() -> Any:
        for one in chosen:
            for start in range(0, len(one["actions"]), pieces):
                rows = {name: array[start : start + pieces] for name, array in one.items()}
                ends = start + pieces >= len(one["actions"])
                yield Episode(rows.pop("observations"), rows.pop("actions"), rows, ends)

    chosen = good(cameras=True)
    in_range = rule != "action far out"
    assert check_splits({"train": episodes}, in_range=in_range) == []
    spoil(rule, chosen)
    findings = check_splits({"train": episodes}, in_range=in_range)
    assert [(one.episode, one.rule) for one in findings] == [(5, rule)]
    at = findings[0].step
    assert at == (7 if rule not in ("one step", "short", "still", "same action") else None)


def test_logs_are_checked_before_their_import_and_the_bad_episode_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FARSTEP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    episodes = good()
    spoil("not finite", episodes)
    terminals = np.tile(np.arange(LENGTH) == LENGTH - 1, len(episodes))
    log = {name: np.concatenate([one[name] for one in episodes]) for name in episodes[0]}
    path = str(tmp_path / "log.npz")
    np.savez(path, terminals=terminals, **log)  # pyright: ignore[reportArgumentType]
    with pytest.raises(SystemExit) as ended:
        main(["data", "import", path, "--check"])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "1 of 8 episodes look wrong." in said
    assert RULES["not finite"] in said
    assert not (tmp_path / "data").exists()
    main(["data", "import", path, "--leave-out", "5"])
    assert open_dataset("log").train.num_episodes == 7
    assert check_dataset(open_dataset("log")) == []
    main(["data", "check", "log"])
    assert "0 of 7 episodes look wrong." in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["data", "import", path, "--name", "no", "--leave-out", "5", "--leave-out", "8"])
    assert "Episode 8 cannot be left out: there are 8" in capsys.readouterr().err
    episodes[5]["observations"][7, 1] = 300
    log = {name: np.concatenate([one[name] for one in episodes]) for name in episodes[0]}
    np.savez(path, terminals=terminals, **log)  # pyright: ignore[reportArgumentType]
    main(["data", "import", path, "--overwrite"])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["data", "check", "log", "--json"])
    (found,) = json.loads(capsys.readouterr().out)
    assert Finding(**found) == Finding("train", 5, 7, "jump", found["what"]), (
        "a viewer reads the same"
    )
