"""Distances that hold the triangle inequality without being symmetric."""

from farstep.quasimetrics.iqe import iqe
from farstep.quasimetrics.mrn import mrn
from farstep.quasimetrics.pairwise import pairwise_mrn
from farstep.quasimetrics.rowwise import in_lanes, mrn_both_ways, out_of_lanes, rowwise_mrn

__all__ = [
    "in_lanes",
    "iqe",
    "mrn",
    "mrn_both_ways",
    "out_of_lanes",
    "pairwise_mrn",
    "rowwise_mrn",
]
