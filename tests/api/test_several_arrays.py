"""Observations of several named arrays, an image and a vector, with stacked frames: from a file to
a policy that acts in its environment."""

import math
from dataclasses import replace

import equinox as eqx
import gymnasium
import numpy as np
import pytest

import farstep
from farstep.cli.main import main
from farstep.core.errors import FarstepError
from farstep.core.frames import LastFrames
from farstep.envs.specs import EnvironmentSpec
from farstep.networks.mlp import Linear
from farstep.serving.session import Session, SessionOptions

SIDE, FRAMES = 8, 2


def shown(place):
    """A walker on a line as a camera and a sensor tell it."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[:, min(int(place), SIDE - 1)] = 255
    return {"image": image, "state": np.array([place, 100 - place, 3.0], np.float32)}


class Line(gymnasium.Env):
    """Walk along a line, as far as the action says; keys in another order, and one more."""

    def __init__(self):
        box = gymnasium.spaces.Box
        self.observation_space = gymnasium.spaces.Dict(
            {
                "state": box(-np.inf, np.inf, (3,), np.float32),
                "clock": box(0, np.inf, (1,), np.float32),
                "image": box(0, 255, (SIDE, SIDE, 3), np.uint8),
            }
        )
        self.action_space = box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.place = 0.0
        return self._seen(), {"goal": {"clock": np.zeros(1, np.float32), **shown(SIDE - 1.0)}}

    def step(self, action):
        self.place = float(np.clip(self.place + action[0], 0, SIDE - 1))
        return self._seen(), 0.0, False, False, {"success": self.place > SIDE - 2}

    def _seen(self):
        return {"clock": np.zeros(1, np.float32), **shown(self.place)}


class Flat(farstep.Encoder):
    """Pixels side by side: it compiles in no time."""

    project: Linear
    features: int = eqx.field(static=True)

    def __init__(self, shape, *, key):
        self.features = 4
        self.project = Linear(math.prod(shape), self.features, key=key)

    def __call__(self, observations):
        return self.project(observations.reshape(len(observations), -1) / 255)


LINE = EnvironmentSpec(name="line", entry_point=f"{__name__}:Line", max_episode_steps=3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The data as they were imported, the directory, and a policy trained for two updates."""
    path, rng = tmp_path_factory.mktemp("line"), np.random.default_rng(0)
    places = np.concatenate([np.cumsum(rng.uniform(0, 1, 8)) for _ in range(6)])
    rows = [shown(place) for place in places]
    np.savez(
        path / "walks.npz",
        image=np.stack([row["image"] for row in rows]),
        state=np.stack([row["state"] for row in rows]),
        actions=rng.uniform(0, 1, (48, 1)).astype(np.float32),
        terminals=np.arange(48) % 8 == 7,
    )
    keys = ("--observation-key", "image", "--observation-key", "state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FARSTEP_DATA", str(path / "data"))
        main(["data", "import", str(path / "walks.npz"), *keys])
        data = farstep.open_dataset("walks")
    assert data.name == "walks"
    np.testing.assert_array_equal(data.train.observations["state"][:, 0], places.astype("f4"))
    farstep.register_encoder("flat", "image", Flat)
    sizes = {"hidden": (8,), "latent": 8, "groups": 2, "batch_size": 4}
    agent = farstep.make_agent("mqe", crops=0.5, policy_goals="cross", encoder=("flat",), **sizes)
    training = farstep.TrainConfig(steps=2, log_every=1, evaluation_episodes=0, normalize=True)
    (run,) = farstep.train(data, agent, training, frames=FRAMES, out=path / "run")
    return data, path, farstep.load_policy(run.path)


@pytest.mark.slow  # Evaluation and a law of frames in NumPy are covered below.
def test_plans_go_over_stacked_frames_of_several_arrays(trained, tmp_path):
    data, _, policy = trained
    options = farstep.GraphOptions(landmarks=8, edge_cutoff=1e6, replan_every=1)
    planned = farstep.plan(policy, data, options)
    assert planned.graph.landmarks.observations.dtype == policy.spaces.observation.row
    replace(policy, landmarks=planned.graph.landmarks).save(tmp_path / "planned")
    plan = farstep.load_policy(tmp_path / "planned").plan(data.train.observations[3])
    assert plan.act(data.train.observations[0]).shape == (1,)
    assert set(plan.path.dtype.names or ()) == {"state", "image"}
    result = farstep.evaluate(planned, LINE, episodes=2, slots=2, workers=0)
    assert [episode.steps for episode in result.episodes] == [3, 3]


def test_an_image_beside_a_vector_from_a_file_to_its_environment(trained, tmp_path, capsys):
    data, _, policy = trained
    main(["data", "info", str(data.path), "--verify"])
    told = capsys.readouterr().out
    assert "image (8, 8, 3) uint8" in told
    assert "Every checksum matches" in told
    assert policy.spaces.observation.keys["image"].shape == (SIDE, SIDE, 3 * FRAMES)

    # What the networks see is what the data say, standardised before it is stacked.
    seen = policy.normalization.apply(data.train.frames(np.array([8, 13]), FRAMES))
    statistics = data.train.manifest.statistics["observations/state"]
    assert statistics.std[2] == 0  # It never changes, and is only centred.
    std = np.where(np.arange(3) == 2, 1, statistics.std)
    scaled = (data.train.observations["state"] - statistics.mean) / std
    np.testing.assert_allclose(seen["state"], scaled[[[8, 8], [12, 13]]].reshape(2, -1), atol=1e-5)
    images = data.train.observations["image"]
    np.testing.assert_array_equal(seen["image"][1], np.concatenate(images[12:14], axis=-1))

    # Acting needs the last frames, one by one, and none of another shape.
    frames = LastFrames(FRAMES)
    walk = data.train.observations[8:12]
    frames.begin(np.zeros(1, int), walk[:1])
    stacks = np.concatenate([frames.push(row[None]) for row in walk])
    np.testing.assert_array_equal(stacks, data.train.frames(np.arange(8, 12), FRAMES))
    goal = frames.repeated(walk[-1:])[0]
    by_name = {"state": stacks["state"], "image": stacks["image"]}
    actions = policy.act(by_name, goal)
    assert actions.shape == (4, 1)
    with pytest.raises(FarstepError, match="observations must be image, state by name"):
        policy.act(by_name["image"], goal)

    policy.save(tmp_path / "export")
    exported = farstep.load_policy(tmp_path / "export")
    np.testing.assert_array_equal(exported.act(stacks, goal), actions)
    # A client sends single frames; the session keeps the last ones.
    session = Session(exported, SessionOptions())
    for index, row in enumerate(walk):
        request = {"observation": {"image": row["image"], "state": row["state"]}}
        goal_too = (
            {} if index else {"goal": {"image": walk[-1]["image"], "state": walk[-1]["state"]}}
        )
        reply = session.answer(request | goal_too)
        np.testing.assert_allclose(reply["actions"][0], actions[index], atol=1e-5)
    result = farstep.evaluate(policy, LINE, episodes=2, slots=2, workers=0)
    assert [episode.steps for episode in result.episodes] == [3, 3]
