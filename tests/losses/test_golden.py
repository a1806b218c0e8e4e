"""Losses against float64 values and gradients worked out independently from the equations."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farstep.losses.invariance import action_invariance
from farstep.losses.linex import multistep_backup
from farstep.losses.policy import ddpg_bc
from farstep.networks.actors import Gaussian
from farstep.quasimetrics import mrn, pairwise_mrn

GOLDEN = sorted((Path(__file__).parent.parent / "golden").glob("mqe_golden_*.npz"))


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def golden(request):
    with np.load(request.param) as file:
        values = {name: file[name] for name in file.files}
    return {
        name: float(value) if value.ndim == 0 else jnp.asarray(value, jnp.float32)
        for name, value in values.items()
    }


def backup(golden, phi, goal):
    return multistep_backup(
        pairwise_mrn(phi, goal),
        jax.lax.stop_gradient(pairwise_mrn(golden["psi_w"], goal)),
        golden["k"],
        discount=golden["gamma"],
        clip=golden["t"],
        diagonal_weight=golden["diagonal_weight"],
    )


def assert_relative(found, expected, tolerance=1e-5):
    """Within `tolerance` of the largest magnitude: losses here are sums of cancelling terms."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_there_are_three_golden_vectors():
    assert len(GOLDEN) == 3


def test_backup_and_its_gradients(golden):
    (loss, metrics), gradients = jax.value_and_grad(
        lambda phi, goal: backup(golden, phi, goal), argnums=(0, 1), has_aux=True
    )(golden["phi"], golden["psi_g"])
    assert_relative(loss, golden["backup"])
    floor = golden["backup_floor"]
    assert_relative(metrics["backup/excess"], golden["backup"] - floor, 1e-4)
    assert_relative(gradients[0], golden["grad_phi"])
    assert_relative(gradients[1], golden["grad_psi_g"])


def test_action_invariance_and_its_gradients(golden):
    def loss(phi, state):
        return action_invariance(mrn(state, phi))[0]

    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(golden["phi"], golden["psi_s"])
    assert_relative(value, golden["invariance"])
    assert_relative(gradients[0], golden["inv_grad_phi"])
    assert_relative(gradients[1], golden["inv_grad_psi_s"])


def test_policy_loss(golden):
    q = -jnp.max(mrn(golden["phi_pi"], golden["psi_g"]), axis=0)
    log_probs = Gaussian(golden["mu"]).log_prob(golden["actions"])
    loss, _ = ddpg_bc(q, log_probs, alpha=golden["alpha"])
    assert_relative(loss, golden["actor"])
