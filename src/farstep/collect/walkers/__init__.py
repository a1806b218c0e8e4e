"""Directional walkers: policies of a body that walk where they are told.

Training needs JAX and the simulator; the trained walker is plain NumPy, for worker processes.
"""
