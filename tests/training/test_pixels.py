"""From a table of pixels to a policy that acts, measures and plans on them."""

import numpy as np
import pytest

from farstep.cli.main import main
from farstep.core.trees import named_leaves
from farstep.data.table import TableWriter, open_dataset
from farstep.sampling import stream
from farstep.serving.policy import load_policy

SIDE = 8
SMALL = {
    "gcbc": ["--hidden", "8", "--batch-size", "4"],
    "mqe": ["--hidden", "8", "--latent", "16", "--ensemble-size", "1", "--batch-size", "4"],
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A dot that wanders over a black square."""
    path = tmp_path_factory.mktemp("pixels") / "dots"
    rng = np.random.default_rng(0)
    with TableWriter(path / "train", (SIDE, SIDE, 3), "uint8", 2) as writer:
        for _ in range(6):
            moves = rng.integers(-1, 2, (12, 2))
            places = np.clip(np.cumsum(moves, axis=0) + SIDE // 2, 0, SIDE - 1)
            images = np.zeros((12, SIDE, SIDE, 3), np.uint8)
            images[np.arange(12), places[:, 0], places[:, 1]] = 255
            writer.append(images, moves.astype(np.float32))
    return path


def train(pictures, agent, out, *more):
    words = ["train", str(pictures), "--agent", agent, "--out", str(out), "--steps", "6"]
    main([*words, "--log-every", "3", "--checkpoint-every", "3", *SMALL[agent], *more])


@pytest.fixture(scope="module")
def streamed(pictures, tmp_path_factory):
    """A run on cropped pictures that stay on disk."""
    out = tmp_path_factory.mktemp("runs") / "streamed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "CHUNK_UPDATES", 2)
        train(pictures, "gcbc", out, "--crops", "0.5", "--data-location", "stream")
    return out


def test_a_policy_on_pixels_acts_and_is_exported(pictures, streamed, tmp_path):
    main(["export", str(streamed), "--out", str(tmp_path / "policy")])
    run, exported = load_policy(streamed), load_policy(tmp_path / "policy")
    images = open_dataset(pictures).train.observations
    actions = run.act(images[:4], images[4:8])
    assert actions.shape == (4, 2)
    assert np.ptp(actions[:, 0]) > 0
    np.testing.assert_array_equal(exported.act(images[:4], images[4:8]), actions)


@pytest.mark.slow
def test_pixels_are_streamed_and_cropped_as_they_are_in_memory(pictures, streamed, tmp_path):
    train(pictures, "gcbc", tmp_path / "run", "--crops", "0.5", "--data-location", "device")
    mine, theirs = (named_leaves(load_policy(run).params) for run in (streamed, tmp_path / "run"))
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


@pytest.mark.slow
def test_a_distance_of_pixels_measures_and_plans(pictures, tmp_path):
    train(pictures, "mqe", tmp_path / "run", "--crops", "1")
    images = open_dataset(pictures).train.observations
    words = ["--landmarks", "20", "--edge-cutoff", "1e3", "--out", str(tmp_path / "policy")]
    main(["export", str(tmp_path / "run"), *words])
    run, exported = load_policy(tmp_path / "run"), load_policy(tmp_path / "policy")
    for policy in (run, exported):
        actions = policy.act(images[:4], images[4:8])
        assert actions.shape == (4, 2)
        assert np.all(np.abs(actions) <= 1)
        assert np.ptp(actions[:, 0]) > 0
        steps = policy.distance(images[0], images[9])
        assert steps.shape == ()
        assert steps > 0
    np.testing.assert_array_equal(run.act(images[0], images[5]), exported.act(images[0], images[5]))
    assert exported.landmarks is not None
    assert exported.landmarks.observations.dtype == np.uint8
    assert exported.plan(images[9]).act(images[0]).shape == (2,)


def test_crops_of_vectors_are_refused(toy, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", str(toy), "--crops", "0.5", "--out", str(tmp_path / "run")])
    assert caught.value.code == 2
    assert "leave --crops at 0" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
