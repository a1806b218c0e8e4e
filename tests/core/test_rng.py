import jax

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
