import jax
import numpy as np
import pytest

from farstep.core.errors import FarstepError
from farstep.core.trees import FlatTree, from_named, named_leaves

TREE = {"critic": [np.zeros((2, 3), np.float32)], "actor": np.ones(4, np.float32)}


def test_leaves_go_by_their_path_and_come_back():
    named = named_leaves(TREE)
    assert set(named) == {"critic.0", "actor"}
    back = from_named(TREE, named, where="file")
    np.testing.assert_array_equal(back["critic"][0], TREE["critic"][0])


def test_a_flat_tree_is_the_same_tree_inside_a_program_and_outside():
    flat = FlatTree.flatten(TREE)
    assert jax.tree.structure(flat.tree) == jax.tree.structure(TREE)
    doubled = jax.jit(lambda flat: jax.tree.map(lambda leaf: 2 * leaf, flat.tree))(flat)
    np.testing.assert_array_equal(doubled["critic"][0], 2 * TREE["critic"][0])
    np.testing.assert_array_equal(doubled["actor"], 2 * TREE["actor"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda named: named.pop("actor"), "file lacks actor"),
        (lambda named: named.update(extra=np.zeros(1)), "file holds unexpected extra"),
        (lambda named: named.update(actor=np.ones(5, np.float32)), r"actor is float32\[5\]"),
        (lambda named: named.update(actor=np.ones(4)), r"actor is float64\[4\]"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    named = named_leaves(TREE)
    change(named)
    with pytest.raises(FarstepError, match=message):
        from_named(TREE, named, where="file")
