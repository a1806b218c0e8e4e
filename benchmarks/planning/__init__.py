"""Planners that are compared, the mazes that they are compared on, and what a relaxation gains."""
