"""Print the tables of `docs/theory.md`; a few minutes on two CPU cores.

python benchmarks/check_theory.py
"""

from theory.fits import Descent
from theory.report import (
    counterexamples_table,
    critics_table,
    measure,
    settle_mqe,
    settled_table,
    stitching_table,
    worlds,
)


def main() -> None:
    """The tables in the order of the page."""
    print(counterexamples_table(), end="\n\n")
    print(stitching_table(), flush=True)
    for world in worlds():
        print("\n" + critics_table(world, list(measure(world, Descent()))), flush=True)
    for world in worlds():
        print("\n" + settled_table(world, list(settle_mqe(world, Descent()))), flush=True)


if __name__ == "__main__":
    main()
