"""Settings for a laptop: narrow networks that learn a maze in minutes on two cores."""

from __future__ import annotations

from farstep.presets import ogbench
from farstep.presets.paper import BACKUP_ENTRIES
from farstep.presets.presets import Entry, Preset

EQUAL = "sizes as mqe's, for equal footing"


def _preset(name: str, summary: str, width: int, latent: int) -> Preset:
    """Networks of three layers of one width for every agent, so that methods compare."""
    sizes = {"hidden": (width,) * 3, "batch_size": 128, "learning_rate": 5e-4}
    embedded = sizes | {"latent": latent}
    return Preset(
        name,
        summary,
        (
            Entry("mqe", "*", embedded | {"diagonal_weight": 0.3}, "tried here"),
            Entry("mqe", "*maze*", {"alpha": 0.03}, "tried here on pointmaze-large-stitch"),
            Entry("mqe", "*maze-medium-*", {"discount": 0.99}, "tried here"),
            Entry("gcbc", "*", sizes, EQUAL),
            Entry("gcivl", "*", sizes, EQUAL),
            Entry("gciql", "*", sizes, EQUAL),
            Entry(
                "qrl", "*", embedded | {"groups": latent // 8}, f"{EQUAL}; groups of 8 as published"
            ),
            Entry("crl", "*", embedded, EQUAL),
            Entry("hiql", "*", sizes, EQUAL),
            Entry("cmd", "*", embedded, EQUAL),
            Entry("tmd", "*", embedded, EQUAL),
            Entry("nsacbc", "*", sizes, EQUAL),
            Entry("tra", "*", embedded, EQUAL),
            *ogbench.POLICY_ENTRIES,
            *ogbench.HORIZON_ENTRIES,
            *ogbench.PIXEL_ENTRIES,
            *BACKUP_ENTRIES,
        ),
        ogbench.REMARKS,
    )


SMALL = _preset("small", "256-wide networks for two CPU cores: minutes, not days", 256, 128)
TINY = _preset("tiny", "128-wide networks, for studies of many runs on two CPU cores", 128, 64)
