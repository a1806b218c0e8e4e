"""Episodes that are kept until a data set is whole: by one process at a time."""

from __future__ import annotations

import pytest

from farstep.core.errors import FarstepError
from farstep.data.records import Records


def test_one_process_adds_to_a_data_set_and_the_next_goes_on_from_there(tmp_path):
    place = tmp_path / "records"
    with Records(place, {"seed": 1}) as records:
        records.append(b"first")
        for overwrite in (False, True):
            with pytest.raises(FarstepError, match="Another process makes the data set"):
                Records(place, {"seed": 2}, overwrite=overwrite)
        records.append(b"second")
    with pytest.raises(FarstepError, match="with other options"):
        Records(place, {"seed": 2})
    with (place / "episodes").open("ab") as file:
        file.write(b"a record that was cut off")
    with Records(place, {"seed": 1}) as records:
        assert records.count == 2
        records.append(b"third")
        assert list(records) == [b"first", b"second", b"third"]
    with Records(place, {"seed": 2}, overwrite=True) as records:
        assert list(records) == []
    assert not place.exists()
