"""The configuration of a run, `config.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Annotated

import numpy as np

from farstep.agents.base import Agent
from farstep.agents.registry import agent_from_dict, agent_to_dict
from farstep.core.errors import FarstepError
from farstep.core.fields import Count, Range, check_fields, dataclass_from_dict
from farstep.core.seeds import check_seed
from farstep.core.types import Spaces
from farstep.data.normalize import Normalization

FORMAT = "farstep-run"
VERSION = 6

CONTINUABLE = (
    *("steps", "log_every", "checkpoint_every", "keep_checkpoints"),
    *("evaluate_every", "evaluation_episodes", "validation_batches"),
)
"""Options that may change when a run is continued."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long to train and how often to look.

    Attributes:
        steps: gradient updates in all.
        seed: root of every random draw of the run, in [0, 2³²).
        log_every: updates between lines of `metrics.jsonl`, each a mean over them.
        checkpoint_every: updates between checkpoints.
        keep_checkpoints: number of latest checkpoints to keep, besides the best.
        evaluate_every: updates between evaluations in the environment; 0 evaluates at the end only.
        evaluation_episodes: episodes a task in each of those evaluations; 0 turns them off.
        validation_batches: batches of held-out data behind each validation metric.
        normalize: standardise vector observations by the training table's mean and deviation.
    """

    steps: Count = 1_000_000
    seed: int = 0
    log_every: Count = 1_000
    checkpoint_every: Count = 10_000
    keep_checkpoints: Count = 2
    evaluate_every: Annotated[int, Range(least=0)] = 100_000
    evaluation_episodes: Annotated[int, Range(least=0)] = 20
    validation_batches: Count = 16
    normalize: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        check_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class DatasetReference:
    """The data that a run was trained on.

    Attributes:
        name: the dataset's name.
        path: its path at the time.
        digest: digest of the training table's content.
        environment: the environment it comes from, if known.
    """

    name: str
    path: str
    digest: str
    environment: str | None


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run: an agent with its hyperparameters, trained on a table in a certain way."""

    agent: Agent
    training: TrainConfig
    dataset: DatasetReference
    spaces: Spaces
    normalization: Normalization

    def to_json(self) -> str:
        """The text of `config.json`."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "agent": agent_to_dict(self.agent),
            "training": asdict(self.training),
            "dataset": asdict(self.dataset),
            "spaces": asdict(self.spaces),
            "normalization": {
                field.name: getattr(self.normalization, field.name).tolist()
                for field in fields(Normalization)
            },
        }
        return json.dumps(document, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: str) -> RunConfig:
        """Read `to_json` back.

        Raises:
            FarstepError: not such a document; says which key of `where` is wrong.
        """
        try:
            document = json.loads(text)
            if document["format"] != FORMAT:
                raise FarstepError(f"{where} is not a run's configuration.")
            if document["version"] != VERSION:
                raise FarstepError(
                    f"{where} has version {document['version']}, this farstep reads {VERSION}."
                )
            return cls(
                agent=agent_from_dict(document["agent"], where=where),
                training=dataclass_from_dict(TrainConfig, document["training"], where=where),
                dataset=dataclass_from_dict(DatasetReference, document["dataset"], where=where),
                spaces=dataclass_from_dict(Spaces, document["spaces"], where=where),
                normalization=Normalization(
                    *(
                        np.asarray(document["normalization"][field.name], np.float32)
                        for field in fields(Normalization)
                    )
                ),
            )
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise FarstepError(f"{where} is not a run's configuration: {error!r}.") from error

    def differences(self, other: RunConfig, *, ignore: Sequence[str] = CONTINUABLE) -> list[str]:
        """Differences that keep a run of `self` from being continued as `other`, one line each.

        Args:
            ignore: training options that may differ. The data's path may, too.
        """
        mine, theirs = json.loads(self.to_json()), json.loads(other.to_json())
        for document in (mine, theirs):
            del document["dataset"]["path"]
            for name in ignore:
                del document["training"][name]
        return [
            f"{section}.{key}: {mine[section].get(key)!r} before, {theirs[section].get(key)!r} now"
            for section in ("agent", "training", "dataset", "spaces", "normalization")
            for key in {**mine[section], **theirs[section]}
            if mine[section].get(key) != theirs[section].get(key)
        ]
