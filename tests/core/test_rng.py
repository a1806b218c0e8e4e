import jax
import numpy as np
import pytest

from farstep.core.errors import FarstepError
from farstep.core.rng import root_key, stream_generator, stream_key


def test_streams_depend_on_root_name_and_step_alone():
    root = root_key(3)
    draws = {
        (seed, stream, step): float(jax.random.uniform(stream_key(root_key(seed), stream, step)))
        for seed in (3, 4)
        for stream in ("batch", "update")
        for step in (0, 1)
    }
    assert len(set(draws.values())) == len(draws)
    assert draws[3, "batch", 1] == float(jax.random.uniform(stream_key(root, "batch", 1)))


def test_host_generators_are_told_apart_by_indices():
    first = stream_generator(0, "episode", 1, 2).random()
    assert first == stream_generator(0, "episode", 1, 2).random()
    assert first != stream_generator(0, "episode", 2, 1).random()
    assert first != stream_generator(1, "episode", 1, 2).random()


@pytest.mark.parametrize("seed", [2**31 - 1, 2**31, 2**32 - 1])
def test_every_seed_of_32_bits_gives_a_stream_of_its_own(seed):
    keys = [np.asarray(jax.random.key_data(root_key(s))).tolist() for s in (0, seed - 1, seed)]
    assert len({str(key) for key in keys}) == 3
    assert keys[2] == np.asarray(jax.random.key_data(jax.jit(root_key)(np.uint32(seed)))).tolist()


@pytest.mark.parametrize("seed", [-1, 2**32])
@pytest.mark.parametrize("use", [root_key, lambda seed: stream_generator(seed, "episode")])
def test_a_seed_that_would_repeat_another_is_refused(seed, use):
    with pytest.raises(FarstepError, match=r"seed must be at least 0 and below 2³²"):
        use(seed)
