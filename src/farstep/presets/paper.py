"""The settings that the papers publish."""

from __future__ import annotations

from farstep.presets import ogbench
from farstep.presets.presets import Entry, Preset, Remark

MQE = "MQE (arXiv 2511.07730), Section 5 and Appendix"
TMD = "TMD (arXiv 2509.20478), its release's defaults"
CMD = "CMD (Myers et al. 2024), as TMD's release runs it"
NSACBC = "Park et al. 2025 (arXiv 2506.04168): n of the n-step return"

BACKUP_ENTRIES = (Entry("nsacbc", "*maze*", {"backup_steps": 50}, NSACBC),)

REMARKS = (
    Remark(
        ("mqe",),
        "*",
        "the paper tunes α by environment, and gives w as ranges: 0.2 to 0.4 for locomotion, 0.5 "
        "to 1 for manipulation.",
    ),
    Remark(
        ("cmd", "tmd", "nsacbc"),
        "*",
        "no α by dataset is known to us: the method's own default stands.",
    ),
)

PAPER = Preset(
    "paper",
    "the published settings: 512-wide networks, a million updates",
    (
        Entry("mqe", "*", {"policy_goals": "paired"}, f"{MQE}: as the released code samples goals"),
        Entry("mqe", "*maze*", {"diagonal_weight": 0.3}, f"{MQE}: w in 0.2 to 0.4 for locomotion"),
        Entry("mqe", "*cube-*", {"discount": 0.99}, f"{MQE}: γ for cube and scene"),
        Entry("mqe", "*scene-*", {"discount": 0.99}, f"{MQE}: γ for cube and scene"),
        Entry("mqe", "humanoidmaze-giant-stitch*", {"alpha": 0.01}, f"{MQE}: its ablations' α"),
        Entry("mqe", "visual-cube-triple-play*", {"waypoint_one_step": 0.1, "alpha": 3.0}, MQE),
        *ogbench.SIZE_ENTRIES,
        *ogbench.POLICY_ENTRIES,
        *ogbench.HORIZON_ENTRIES,
        *ogbench.PIXEL_ENTRIES,
        Entry("cmd", "*", {"batch_size": 1024, "alpha": 0.1}, CMD),
        Entry("tmd", "*", {"batch_size": 512, "alpha": 0.1, "backup_weight": 0.05}, TMD),
        *BACKUP_ENTRIES,
    ),
    (*ogbench.REMARKS, *REMARKS),
)
