"""The tables of `docs/theory.md`: the result of each critic against what it should estimate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from theory.backup import BackupLaw, backup_fixed_point
from theory.counterexamples import (
    DISCOUNT,
    STEP,
    Counterexample,
    all_counterexamples,
    stitching_by_chance,
    stitching_without_chance,
)
from theory.exact import (
    after_action,
    expectile_first_hit,
    first_hit,
    future_goals,
    greedy_policy,
    n_step_first_hit,
    nats,
    optimal_first_hit,
    shortest_steps,
    stationary_states,
)
from theory.fits import (
    Descent,
    fit_backup,
    fit_cmd,
    fit_crl,
    fit_gciql,
    fit_implicit_value,
    fit_mqe,
    fit_nsacbc,
    fit_qrl,
    fit_tmd,
)
from theory.gridworlds import gridworld
from theory.mdp import TabularMDP, uniform_policy

DRAWING = (".>a", "a..")
"""Five states, a one-way door and a teleport; every state can reach every other."""

SLIP = 0.3

CONTRASTED = 64
"""Rows of the contrastive batches."""

RELEASED_TEMPERATURE = 512**0.5
"""What TMD's released code divides its distances by before it contrasts them."""


@dataclass(frozen=True)
class Measurement:
    """One critic in one world.

    Attributes:
        critic: method and setting.
        estimates: what it is compared with.
        mean_error: mean absolute difference from that, in nats.
        largest_error: the largest.
        steps: mean d(s, g) over s ≠ g in environment steps, of critics that have it.
    """

    critic: str
    estimates: str
    mean_error: float
    largest_error: float
    steps: float | None


@dataclass(frozen=True)
class World:
    """A process with its uniform behaviour, and the mean steps between its states."""

    name: str
    mdp: TabularMDP

    @property
    def behaviour(self) -> np.ndarray:
        return uniform_policy(self.mdp)

    @property
    def behaviour_steps(self) -> float:
        """Mean of the behaviour's distance over s ≠ g, in steps."""
        return mean_steps(nats(first_hit(self.mdp, self.behaviour, DISCOUNT)))

    @property
    def optimal_steps(self) -> float:
        """Mean of the optimal distance over s ≠ g, in steps."""
        return mean_steps(nats(optimal_first_hit(self.mdp, DISCOUNT)))


def worlds() -> list[World]:
    """The worlds of the table."""
    return [
        World("certain", gridworld(DRAWING).mdp),
        World(f"slip {SLIP}", gridworld(DRAWING, slip=SLIP).mdp),
    ]


def mean_steps(distances: np.ndarray) -> float:
    """Mean over s ≠ g of distances in nats, in steps."""
    return float(distances[~np.eye(len(distances), dtype=bool)].mean() / STEP)


def measure(world: World, how: Descent) -> Iterator[Measurement]:
    """Every critic in one world, as it comes out."""
    yield from measure_mqe(world, how)
    yield from measure_contrastive(world, how)
    yield from measure_values(world, how)
    yield from measure_qrl(world, how)


def measure_mqe(world: World, how: Descent) -> Iterator[Measurement]:
    """The backup alone; the whole critic is `settle_mqe`'s."""
    mdp, behaviour = world.mdp, world.behaviour
    one_step = BackupLaw(DISCOUNT, one_step=1.0)
    mixture = BackupLaw(DISCOUNT)
    own = replace(mixture, diagonal_weight=0.5)

    exact = first_hit(mdp, behaviour, DISCOUNT)
    learned = fit_backup(mdp, behaviour, one_step, how)
    yield compared(
        "MQE, backup alone, one step",
        "behaviour's distance",
        (learned.states, nats(exact)),
        (learned.actions, nats(after_action(mdp, exact, DISCOUNT))),
    )
    for name, law in (("Eq. 8", mixture), ("Eq. 8, w = 0.5", own)):
        learned = fit_backup(mdp, behaviour, law, how)
        states, actions = backup_fixed_point(mdp, behaviour, law)
        yield compared(
            f"MQE, backup alone, {name}",
            "its fixed point, longer",
            (learned.states, nats(states)),
            (learned.actions, nats(actions)),
        )


@dataclass(frozen=True)
class Settled:
    """Where MQE's whole critic came to rest, from several beginnings.

    Attributes:
        setting: waypoints, and weight of own goals.
        steps: least and largest mean d(s, g) over s ≠ g, in steps.
        best_action: the same at the fixed point by the best action.
        behaviour: the same at the fixed point of the backup alone.
        between: share of pairs, over all beginnings, whose distance is neither shorter than the
            optimal nor longer than at the fixed point of the backup alone, by a quarter of a step.
        worst_gain: the least of V^π_g(s) − V^β_g(s), π being greedy on d((s, a), g).
    """

    setting: str
    steps: tuple[float, float]
    best_action: float
    behaviour: float
    between: float
    worst_gain: float


def settle_mqe(world: World, how: Descent) -> Iterator[Settled]:
    """MQE's critic by waypoints and weight of own goals, from two seeds and a small scale."""
    mdp, behaviour = world.mdp, world.behaviour
    optimal = nats(optimal_first_hit(mdp, DISCOUNT))
    apart = ~np.eye(mdp.states, dtype=bool)
    beginnings = (how, replace(how, seed=how.seed + 1), replace(how, scale=how.scale / 100))
    for waypoints, one_step in (("Eq. 8", 0.2), ("one step", 1.0)):
        for own in (0.5, 0.0):
            law = BackupLaw(DISCOUNT, one_step=one_step, diagonal_weight=own)
            longest, best = (
                nats(backup_fixed_point(mdp, behaviour, law, link=link)[0])
                for link in ("behaviour", "best")
            )
            fits = [fit_mqe(mdp, behaviour, law, each) for each in beginnings]
            states = np.stack([fit.states for fit in fits])
            between = (states >= optimal - STEP / 4) & (states <= longest + STEP / 4)
            before = first_hit(mdp, behaviour, DISCOUNT)
            gains = [first_hit(mdp, greedy_policy(fit.actions), DISCOUNT) - before for fit in fits]
            means = [mean_steps(each) for each in states]
            yield Settled(
                f"{waypoints}, w = {own:g}",
                (min(means), max(means)),
                mean_steps(best),
                mean_steps(longest),
                float(between[:, apart].mean()),
                float(np.min(gains)),
            )


def measure_contrastive(world: World, how: Descent) -> Iterator[Measurement]:
    """CRL's logits, and the distances of CMD and TMD up to a constant of each goal."""
    mdp, behaviour = world.mdp, world.behaviour
    goals = future_goals(mdp, behaviour, DISCOUNT)
    marginal = np.einsum("s,sa,sag->g", stationary_states(mdp, behaviour), behaviour, goals)
    ratio = np.log(goals / marginal) - np.log(CONTRASTED - 1)
    logits = fit_crl(mdp, behaviour, DISCOUNT, how, batch_size=CONTRASTED)
    yield compared("CRL", "log p(g given s, a)/p(g) − log(B − 1)", (logits, ratio))

    exact = nats(after_action(mdp, first_hit(mdp, behaviour, DISCOUNT), DISCOUNT))
    target = "behaviour's distance + c(g)"
    distances = fit_cmd(mdp, behaviour, DISCOUNT, how, batch_size=CONTRASTED)
    yield compared("CMD", target, (centred(distances), centred(exact)))
    for name, weight, temperature in (
        ("TMD, contrast alone", 0.0, 1.0),
        ("TMD", 1.0, 1.0),
        ("TMD, logits −d/√512", 1.0, RELEASED_TEMPERATURE),
    ):
        learned = fit_tmd(
            mdp,
            behaviour,
            DISCOUNT,
            how,
            backup_weight=0.05 * weight,
            invariance_weight=weight,
            temperature=temperature,
        )
        measured = compared(name, target, (centred(learned.actions), centred(exact)))
        yield replace(measured, steps=mean_steps(learned.states))


def measure_values(world: World, how: Descent) -> Iterator[Measurement]:
    """The expectiles of GCIVL, HIQL and GCIQL, and n-step SAC+BC's Q, as distances."""
    mdp, behaviour = world.mdp, world.behaviour
    for name, expectile in (("GCIVL, κ = 0.9", 0.9), ("HIQL, κ = 0.7", 0.7)):
        exact = expectile_first_hit(mdp, behaviour, DISCOUNT, expectile, over="outcomes")
        values = fit_implicit_value(mdp, behaviour, DISCOUNT, expectile, how)
        yield compared(name, "expectile over outcomes", (_value_to_nats(values), nats(exact)))
    exact = expectile_first_hit(mdp, behaviour, DISCOUNT, 0.9, over="actions")
    learned = fit_gciql(mdp, behaviour, DISCOUNT, 0.9, how)
    yield compared(
        "GCIQL, κ = 0.9",
        "expectile over actions",
        (_value_to_nats(learned.states), nats(exact)),
    )
    best = greedy_policy(nats(after_action(mdp, optimal_first_hit(mdp, DISCOUNT), DISCOUNT)))
    exact = n_step_first_hit(mdp, behaviour, best, DISCOUNT, 2)
    q = fit_nsacbc(mdp, behaviour, best, DISCOUNT, 2, how)
    yield compared(
        "n-SAC+BC, n = 2, best policy", "behaviour for n steps, then policy", (nats(q), nats(exact))
    )


def measure_qrl(world: World, how: Descent) -> Iterator[Measurement]:
    """QRL's distance at the margin of the paper, and at one that is nearly none."""
    exact = STEP * shortest_steps(world.mdp)
    for margin in (0.05, 0.001):
        steps = fit_qrl(world.mdp, how, margin=margin)
        yield compared(f"QRL, ε = {margin}", "fewest steps", (STEP * steps, exact))


def compared(critic: str, estimates: str, *pairs: tuple[np.ndarray, np.ndarray]) -> Measurement:
    """Errors over all pairs of (learned, exact); steps from the first, if it is (S, G)."""
    errors = np.concatenate([np.abs(learned - exact).ravel() for learned, exact in pairs])
    first = pairs[0][0]
    steps = mean_steps(first) if first.ndim == 2 else None
    return Measurement(critic, estimates, float(errors.mean()), float(errors.max()), steps)


def centred(distances: np.ndarray) -> np.ndarray:
    """Distances (S, A, G) less their mean for each goal."""
    return distances - distances.mean(axis=(0, 1))


def critics_table(world: World, measurements: Sequence[Measurement]) -> str:
    """Markdown."""
    lines = [
        f"| {world.name}: behaviour {world.behaviour_steps:.1f} steps, best"
        f" {world.optimal_steps:.1f} | compared with | mean error | largest | mean steps |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {m.critic} | {m.estimates} | {_error(m.mean_error)} | {_error(m.largest_error)} |"
        f" {'' if m.steps is None else f'{m.steps:.2f}'} |"
        for m in measurements
    ]
    return "\n".join(lines)


def settled_table(world: World, settled: Sequence[Settled]) -> str:
    """Markdown."""
    lines = [
        f"| {world.name} | mean steps | by the best action | by the backup alone | between |"
        " worst gain |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {s.setting} | {s.steps[0]:.1f}–{s.steps[1]:.1f} | {s.best_action:.1f} |"
        f" {s.behaviour:.1f} | {s.between:.0%} | {s.worst_gain:+.2f} |"
        for s in settled
    ]
    return "\n".join(lines)


def counterexamples_table(examples: Sequence[Counterexample] | None = None) -> str:
    """Markdown: what dropping each assumption of Theorem 1 costs."""
    lines = [
        "| assumption | behaviour | extracted with it | without it |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {e.dropped} | {e.behaviour:.3f} | {e.kept:.3f} | **{e.without:.3f}** |"
        for e in examples or all_counterexamples()
    ]
    return "\n".join(lines)


def stitching_table() -> str:
    """Markdown: what relaxing adds, without chance and with it."""
    lines = [
        "| world | behaviour | greedy on the fit | on the relaxed fit | promised | optimal |",
        "|---|---|---|---|---|---|",
    ]
    for name, s in (("certain", stitching_without_chance()), ("a coin", stitching_by_chance())):
        lines.append(
            f"| {name} | {s.behaviour:.3f} | {s.unrelaxed:.3f} | {s.relaxed:.3f} |"
            f" {s.promised:.3f} | {s.optimal:.3f} |"
        )
    return "\n".join(lines)


def _error(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}" if value < 0.1 else f"{value:.2f}"


def _value_to_nats(values: np.ndarray) -> np.ndarray:
    return nats(1 + (1 - DISCOUNT) * values)
