"""OGBench's hyperparameters by agent and dataset (Park et al. 2025).

The tables of its appendix, as its repository spells them out (`impls/hyperparameters.sh`): of what
varies between datasets. What holds for all of them is the agents' own default.
"""

from __future__ import annotations

from farstep.presets.presets import Entry, Remark

SOURCE = "OGBench (arXiv 2410.20092), hyperparameter tables"

AGENTS = ("gcivl", "gciql", "qrl", "crl")
"""Agents whose α the table gives; HIQL has two inverse temperatures."""

ALPHA: tuple[tuple[tuple[str, ...], tuple[float, ...]], ...] = (
    # α of                                          gcivl gciql   qrl    crl
    (("pointmaze-*",), (10.0, 0.003, 0.0003, 0.03)),
    (("*antmaze-*",), (10.0, 0.3, 0.003, 0.1)),
    (("*antmaze-*-explore*",), (10.0, 0.01, 0.001, 0.003)),
    (("*humanoidmaze-*",), (10.0, 0.1, 0.001, 0.1)),
    (("antsoccer-*",), (10.0, 0.1, 0.003, 0.3)),
    (("*cube-*-play*", "*scene-play*", "*puzzle-*-play*"), (10.0, 1.0, 0.3, 3.0)),
    (("*cube-*-noisy*", "*scene-noisy*", "*puzzle-*-noisy*"), (10.0, 0.03, 0.03, 0.1)),
    (("powderworld-*",), (3.0, 3.0, 3.0, 3.0)),
)
"""The table calls by one name the weight of cloning in DDPG+BC and the inverse temperature of AWR,
which GCIVL has everywhere and the others have on Powderworld."""

LONG_HORIZONS = ("*maze-giant-*", "*humanoidmaze-*")
"""Datasets on which γ is 0.995; it is 0.99 elsewhere."""

PIXELS = ("visual-*", "powderworld-*")

MANIPULATION = ("*cube-*", "*scene-*", "*puzzle-*")

POLICY_ENTRIES = (
    *(
        Entry(
            agent,
            datasets,
            {
                "inverse_temperature"
                if agent == "gcivl" or datasets == "powderworld-*"
                else "alpha": alpha
            },
            SOURCE,
        )
        for patterns, alphas in ALPHA
        for datasets in patterns
        for agent, alpha in zip(AGENTS, alphas, strict=True)
    ),
    *(
        Entry(agent, "powderworld-*", {"extraction": "awr"}, SOURCE)
        for agent in ("gciql", "qrl", "crl")
    ),
    *(
        Entry(agent, datasets, {"policy_random": share}, SOURCE)
        for datasets, share in (("*-stitch*", 0.5), ("*-explore*", 1.0))
        for agent in (*AGENTS, "hiql")
    ),
    Entry(
        "hiql",
        "*antmaze-*-explore*",
        {"high_inverse_temperature": 10.0, "low_inverse_temperature": 10.0},
        SOURCE,
    ),
)
"""How a policy is extracted, and the share of its goals that are drawn from all states."""

HORIZON_ENTRIES = (
    *(
        Entry(agent, datasets, {"discount": 0.995}, SOURCE)
        for datasets in LONG_HORIZONS
        for agent in (*AGENTS, "hiql")
    ),
    Entry("hiql", "*humanoidmaze-*", {"subgoal_steps": 100}, SOURCE),
    *(
        Entry("hiql", datasets, {"subgoal_steps": 10}, SOURCE)
        for datasets in (*MANIPULATION, "powderworld-*")
    ),
)
"""How far the values and HIQL's subgoals look."""

SIZE_ENTRIES = (
    Entry("gcbc", "*", {"batch_size": 1024}, SOURCE),
    *(
        Entry(agent, datasets, {"batch_size": 256}, SOURCE)
        for datasets in PIXELS
        for agent in ("gcbc", *AGENTS, "hiql")
    ),
)
"""Rows of a batch."""

PIXEL_ENTRIES = (
    *(
        Entry("hiql", datasets, {"low_representation_gradient": True}, SOURCE)
        for datasets in PIXELS
    ),
    *(
        Entry(agent, f"visual-{datasets}", {"crops": 0.5}, SOURCE)
        for datasets in ("cube-*", "scene-*", "puzzle-*")
        for agent in ("gcbc", *AGENTS, "hiql")
    ),
)
"""Settings for pictures alone."""

REMARKS = (
    Remark(
        ("gcbc", *AGENTS, "hiql"),
        "visual-*",
        "OGBench trains for 500,000 updates on pixels: an option of 'farstep train', --steps.",
    ),
)
