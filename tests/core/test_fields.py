"""Settings whose types say which values they take."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from farstep.core.errors import FarstepError
from farstep.core.fields import Count, Probability, Range, check_fields


@dataclass(frozen=True, kw_only=True)
class Settings:
    name: str = "anything"
    share: Probability = 0.5
    rate: Annotated[float, Range(above=0, below=1)] = 0.1
    count: Count = 3
    flag: bool = False
    choice: Literal["one", "two"] = "one"
    widths: tuple[Count, ...] = (8,)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"share": 0},
        {"share": 1.0, "rate": 1e-9},
        {"count": 1, "flag": True, "choice": "two", "widths": (1, 2)},
    ],
)
def test_values_in_their_range_pass(values: dict[str, Any]):
    check_fields(Settings(**values))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"share": -1e-9}, "Settings: share must be at least 0 and at most 1, not -1e-09."),
        ({"share": True}, "share must be a finite number at least 0 and at most 1, not True."),
        ({"share": "0.5"}, "share must be a finite number at least 0 and at most 1, not '0.5'."),
        ({"rate": 1}, "rate must be above 0 and below 1, not 1."),
        ({"rate": float("nan")}, "rate must be a finite number above 0 and below 1, not nan."),
        ({"count": 0}, "count must be at least 1, not 0."),
        ({"count": 2.0}, "count must be a whole number at least 1, not 2.0."),
        ({"count": None}, "count must be a whole number at least 1, not None."),
        ({"flag": "yes"}, "flag must be True or False, not 'yes'."),
        ({"choice": "three"}, "choice must be one of 'one', 'two', not 'three'."),
        ({"choice": 1}, "choice must be one of 'one', 'two', not 1."),
        ({"widths": ()}, "widths must be a tuple of at least one value, not ()."),
        ({"widths": 8}, "widths must be a tuple of at least one value, not 8."),
        ({"widths": (8, 0)}, "widths must be at least 1, not 0."),
    ],
)
def test_other_values_are_refused_by_name_value_and_range(values: dict[str, Any], said: str):
    with pytest.raises(FarstepError) as refused:
        check_fields(Settings(**values))
    assert said in str(refused.value)
