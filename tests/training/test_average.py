"""A policy that acts by the average of its networks over updates."""

import numpy as np

import farstep
from farstep.agents.gcbc import GCBC
from farstep.core.trees import named_leaves

STEPS = 4
RATE = 0.3


def params_of(path, step):
    return named_leaves(farstep.load_policy(path, checkpoint=step).params)


def test_the_average_acts_is_exported_and_survives_a_stop(toy, tmp_path):
    training = farstep.TrainConfig(
        steps=STEPS, evaluation_episodes=0, checkpoint_every=1, keep_checkpoints=STEPS
    )
    plain, averaged = (
        farstep.train(
            toy,
            GCBC(hidden=(8,), batch_size=4, learning_rate=0.1, policy_average=rate),
            training,
            out=tmp_path / str(rate),
        )[0].path
        for rate in (0.0, RATE)
    )
    expected = params_of(averaged, 1)
    for step in range(2, STEPS + 1):
        now, kept = params_of(plain, step), min(RATE, step / (9 + step))
        expected = {name: kept * expected[name] + (1 - kept) * now[name] for name in now}
        for name, leaf in params_of(averaged, step).items():
            np.testing.assert_allclose(leaf, expected[name], rtol=1e-4, atol=1e-6)
            assert step < STEPS or np.abs(leaf - now[name]).max() > 1e-4
    farstep.load_policy(averaged).save(tmp_path / "export")
    exported = named_leaves(farstep.load_policy(tmp_path / "export").params)
    farstep.resume(averaged, from_step=2)
    for name, leaf in params_of(averaged, STEPS).items():
        np.testing.assert_array_equal(leaf, exported[name])
