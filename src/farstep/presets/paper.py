"""The settings that the papers publish."""

from __future__ import annotations

from farstep.presets.presets import Entry, Preset

MQE = "MQE (arXiv 2511.07730), Section 5 and Appendix"
OGBENCH = "OGBench (Park et al. 2025), hyperparameter tables"

PAPER = Preset(
    "paper",
    "the published settings: 512-wide networks, a million updates",
    (
        Entry("mqe", "*", {"policy_goals": "paired"}, f"{MQE}: as the released code samples goals"),
        Entry("mqe", "*maze*", {"diagonal_weight": 0.3}, f"{MQE}: w in 0.2 to 0.4 for locomotion"),
        Entry("mqe", "*cube-*", {"discount": 0.99}, f"{MQE}: γ for cube and scene"),
        Entry("mqe", "*scene-*", {"discount": 0.99}, f"{MQE}: γ for cube and scene"),
        Entry("mqe", "humanoidmaze-giant-stitch*", {"alpha": 0.01}, f"{MQE}: its ablations' α"),
        Entry("gcbc", "*", {"batch_size": 1024}, OGBENCH),
    ),
)
