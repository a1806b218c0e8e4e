"""Some dozens of the mutated files of `benchmarks/fuzz.py`, which holds thousands to the same."""

from __future__ import annotations

import pytest

from fuzz import KINDS, fuzz


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_logs_are_read_or_refused(kind: str) -> None:
    for module in ("h5py", "google_crc32c", "pyarrow", "av"):
        pytest.importorskip(module)
    outcomes = dict(fuzz(kind, 40, seed=1))
    assert {*outcomes.values()} <= {"read", "refused"}, outcomes
    assert "refused" in outcomes.values()
