"""Settings for BridgeData V2: pictures of a robot's camera, goals that are pictures."""

from __future__ import annotations

from typing import Any

from farstep.presets.presets import Entry, Preset, Remark

MQE = "MQE (arXiv 2511.07730): its BridgeData experiments"
POLICIES = "BridgeData V2 (arXiv 2308.12952): its training code"

PICTURES: dict[str, Any] = {
    "encoder": ("resnet34",),
    "augmentation": "bridge",
    "batch_size": 128,
    "hidden": (256, 256, 256),
}
EMBEDDED = PICTURES | {"latent": 256, "discount": 0.98}

BRIDGE = Preset(
    "bridge",
    "BridgeData V2: ResNet-34, its augmentation, and MQE beside the baselines of its experiments",
    (
        Entry("mqe", "*", EMBEDDED | {"groups": 8, "waypoint_lambda": 0.95}, MQE),
        Entry("mqe", "*", {"waypoint_one_step": 0.2}, MQE),
        Entry("gcbc", "*", PICTURES, POLICIES),
        Entry("gcbc", "*", {"warmup_steps": 2_000, "decay_steps": 500_000}, POLICIES),
        Entry("gciql", "*", PICTURES | {"discount": 0.98, "expectile": 0.7}, POLICIES),
        Entry("tra", "*", EMBEDDED | {"film": True}, MQE),
    ),
    (
        Remark(
            ("mqe", "gcbc", "gciql", "tra"),
            "*",
            "500,000 updates are published: an option of 'farstep train', --steps. GCBC's cosine "
            "ends there.",
        ),
        Remark(
            ("mqe",),
            "*",
            "the paper's encoders begin with ImageNet's weights: --encoder resnet34_frozen "
            "--encoder-weights FILE. α is not published for the robot: the default stands.",
        ),
    ),
)
