"""`farstep plot calibration`, as it is typed."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from matplotlib.image import imread

from farstep.agents.gcbc import GCBC
from farstep.agents.mqe import MQE
from farstep.analysis.calibration import HeldOutCalibration
from farstep.cli.main import main
from farstep.core.goals import WHOLE
from farstep.core.rng import root_key
from farstep.core.types import Actions, Space, Spaces
from farstep.data.normalize import Normalization
from farstep.data.table import open_dataset
from farstep.data.writer import TableWriter
from farstep.serving.policy import Policy


def export(path, toy, agent=None, scale=1.0):
    dataset = open_dataset(toy)
    agent = agent or MQE(latent=8, groups=2, hidden=(8,))
    spaces = dataset.train.spaces
    params = jax.jit(lambda: agent.networks(spaces, root_key(0)))()
    policy = Policy(
        agent=agent,
        params=jax.tree.map(lambda leaf: scale * leaf, params),
        spaces=spaces,
        normalization=Normalization.identity(spaces),
        dataset=str(toy),
        environment=None,
        step=7,
    )
    policy.save(path)
    return str(path)


def test_it_writes_a_picture_and_the_numbers(toy, tmp_path, capsys):
    run = export(tmp_path / "policy", toy)
    main(["plot", "calibration", run])
    printed = capsys.readouterr().out
    assert "logged steps" in printed
    assert "Trusted up to" in printed
    assert imread(tmp_path / "policy" / "plots" / "calibration.png").shape[0] > 300


@pytest.mark.parametrize(
    ("agent", "scale", "words", "said"),
    [
        (GCBC(hidden=(8,)), 1.0, [], "GCBC has learned a policy only"),
        (None, np.nan, [], "the training has diverged"),
        (None, 1.0, ["--dataset", "nothing-v0"], "nothing-v0"),
        (None, 1.0, ["--out", "picture.bmpp"], "picture.bmpp"),
    ],
)
def test_what_cannot_be_drawn_is_refused(toy, tmp_path, capsys, agent, scale, words, said):
    run = export(tmp_path / "policy", toy, agent, scale)
    with pytest.raises(SystemExit) as stopped:
        main(["plot", "calibration", run, *words])
    assert stopped.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "policy" / "plots").exists()


class Clock:
    """A distance that is exactly the steps between two states of a walk along a line."""

    rule = WHOLE
    spaces = Spaces.from_observation(Space((2,)), Actions(2))

    def between(self, starts, goals):
        return np.abs(goals[:, 0] - starts[:, 0])


def test_a_distance_that_counts_steps_lies_on_the_diagonal(tmp_path):
    with TableWriter(tmp_path / "line" / "train", (2,), "float32", 2) as writer:
        for first in range(5):
            states = np.stack([first + np.arange(65.0), np.zeros(65)], axis=1)
            writer.append(states.astype(np.float32), np.zeros((65, 2), np.float32))
    table = open_dataset(tmp_path / "line").train
    found = HeldOutCalibration.measure(Clock(), table)  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(found.curve.steps, np.repeat(found.curve.gaps[:, None], 3, axis=1))
    # Doubling adds as much each time, to the longest gap.
    assert found.trusted == found.curve.gaps[-1]
    assert 10 < found.apart < 40
