"""Environments by name, mazes and environments of your own, and many of them together.

Importing this registers the colossal mazes and the tabletop with Gymnasium, if Gymnasium has been
imported before.
"""

import sys

from farstep.envs.catalog import (
    environment,
    environment_of,
    make,
    own_maze,
    register_environment,
)
from farstep.envs.mazes import MazeMap
from farstep.envs.pool import EnvironmentPool
from farstep.envs.registration import register, register_maze
from farstep.envs.specs import EnvironmentSpec

__all__ = [
    "EnvironmentPool",
    "EnvironmentSpec",
    "MazeMap",
    "environment",
    "environment_of",
    "make",
    "own_maze",
    "register",
    "register_environment",
    "register_maze",
]

if "gymnasium" in sys.modules:
    register()
