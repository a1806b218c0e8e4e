"""Settings for a laptop: narrow networks that learn a maze in minutes on two cores."""

from __future__ import annotations

from farstep.presets import ogbench
from farstep.presets.paper import BACKUP_ENTRIES
from farstep.presets.presets import Entry, Preset

SIZES = {"hidden": (256, 256, 256), "batch_size": 128, "learning_rate": 5e-4}
LATENT = SIZES | {"latent": 128}

EQUAL = "sizes as mqe's, for equal footing"

SMALL = Preset(
    "small",
    "256-wide networks for two CPU cores: minutes, not days",
    (
        Entry("mqe", "*", LATENT | {"diagonal_weight": 0.3}, "tried here"),
        Entry("mqe", "*maze*", {"alpha": 0.03}, "tried here on pointmaze-large-stitch"),
        Entry("mqe", "*maze-medium-*", {"discount": 0.99}, "tried here"),
        Entry("gcbc", "*", SIZES, EQUAL),
        Entry("gcivl", "*", SIZES, EQUAL),
        Entry("gciql", "*", SIZES, EQUAL),
        Entry("qrl", "*", LATENT | {"groups": 16}, f"{EQUAL}; groups of 8 as published"),
        Entry("crl", "*", LATENT, EQUAL),
        Entry("hiql", "*", SIZES, EQUAL),
        Entry("cmd", "*", LATENT, EQUAL),
        Entry("tmd", "*", LATENT, EQUAL),
        Entry("nsacbc", "*", SIZES, EQUAL),
        Entry("tra", "*", LATENT, EQUAL),
        *ogbench.POLICY_ENTRIES,
        *ogbench.HORIZON_ENTRIES,
        *ogbench.PIXEL_ENTRIES,
        *BACKUP_ENTRIES,
    ),
    ogbench.REMARKS,
)
