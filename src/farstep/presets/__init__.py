"""Published and tried hyperparameters, by name."""

from farstep.presets.bridge import BRIDGE
from farstep.presets.paper import PAPER
from farstep.presets.presets import Entry, Preset, find_preset
from farstep.presets.small import SMALL, TINY

PRESETS = {preset.name: preset for preset in (PAPER, SMALL, TINY, BRIDGE)}

__all__ = ["PRESETS", "Entry", "Preset", "find_preset"]
