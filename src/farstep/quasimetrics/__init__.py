"""Distances that satisfy the triangle inequality and need not be symmetric."""

from farstep.quasimetrics.iqe import iqe
from farstep.quasimetrics.mrn import mrn
from farstep.quasimetrics.pairwise import pairwise_mrn
from farstep.quasimetrics.registry import Quasimetric, make_quasimetric, register_quasimetric
from farstep.quasimetrics.rowwise import in_lanes, mrn_both_ways, out_of_lanes, rowwise_mrn

__all__ = [
    "Quasimetric",
    "in_lanes",
    "iqe",
    "make_quasimetric",
    "mrn",
    "mrn_both_ways",
    "out_of_lanes",
    "pairwise_mrn",
    "register_quasimetric",
    "rowwise_mrn",
]
