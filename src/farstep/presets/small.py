"""Settings for a laptop: narrow networks that learn a maze in minutes on two cores."""

from __future__ import annotations

from farstep.presets.presets import Entry, Preset

SIZES = {"hidden": (256, 256, 256), "batch_size": 128, "learning_rate": 5e-4}

SMALL = Preset(
    "small",
    "256-wide networks for two CPU cores: minutes, not days",
    (
        Entry("mqe", "*", SIZES | {"latent": 128, "diagonal_weight": 0.3}, "tried here"),
        Entry("mqe", "*maze*", {"alpha": 0.03}, "tried here on pointmaze-large-stitch"),
        Entry("mqe", "*maze-medium-*", {"discount": 0.99}, "tried here"),
        Entry("gcbc", "*", SIZES, "as mqe, for equal footing"),
    ),
)
