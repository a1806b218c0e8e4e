"""Environments by name, mazes of your own, and many environments stepped together.

Importing this registers the colossal mazes with Gymnasium if Gymnasium has been imported before.
"""

import sys

from farstep.envs.catalog import EnvironmentSpec, environment, environment_of, make
from farstep.envs.mazes import MazeMap
from farstep.envs.registration import register, register_maze
from farstep.envs.vector import VectorEnv

__all__ = [
    "EnvironmentSpec",
    "MazeMap",
    "VectorEnv",
    "environment",
    "environment_of",
    "make",
    "register",
    "register_maze",
]

if "gymnasium" in sys.modules:
    register()
