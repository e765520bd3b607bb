"""Configuration of one run: frozen dataclasses, their canonical JSON, and the run's name."""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from lrsc.errors import check_names

SOURCES = ("auto", "real", "embedded")


def _named_fields_only(cls):
    """Let the constructor answer an unknown field with its nearest valid name."""
    init = cls.__init__

    @functools.wraps(init)
    def checked(self, *args, **fields):
        check_names(f"{cls.__name__} field", fields, (f.name for f in dataclasses.fields(cls)))
        init(self, *args, **fields)

    cls.__init__ = checked
    return cls


@_named_fields_only
@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a training beside data, model and seed (paper, section 4.2).

    lr: learning rate, constant. batch_size: samples a step. momentum, weight_decay: of SGD.
    max_epochs, max_steps: the cap, whichever comes first. stop_at_accuracy: training accuracy
    (a fraction, eval mode, end of an epoch) at which the run has converged; None trains to the cap.
    Raises ValueError naming the field for a value out of range.
    """

    lr: float = 0.1
    batch_size: int = 100
    momentum: float = 0.0
    weight_decay: float = 0.0
    max_epochs: int = 1000
    max_steps: int | None = None
    stop_at_accuracy: float | None = 1.0

    def __post_init__(self) -> None:
        _number(self, "lr", "a finite number > 0", lambda v: v > 0)
        _number(self, "momentum", "a number in [0, 1)", lambda v: 0 <= v < 1)
        _number(self, "weight_decay", "a finite number >= 0", lambda v: v >= 0)
        _whole(self, "batch_size", 1)
        _whole(self, "max_epochs", 1)
        if self.max_steps is not None:
            _whole(self, "max_steps", 1)
        if self.stop_at_accuracy is not None:
            _number(self, "stop_at_accuracy", "None or in (0, 1]", lambda v: 0 < v <= 1)


@_named_fields_only
@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One run: data set and its options, model and its options, training, and the run seed.

    data: options of `datasets.load` (rho, seed, n_train, ...) that differ from its defaults;
    model_options: options of `models.build`; both mappings, kept as sorted pairs so that the
    whole is hashable. seed: weights and order. source: 'auto', 'real' or 'embedded'.
    """

    dataset: str
    model: str
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    seed: int = 0
    data: Any = ()
    model_options: Any = ()
    source: str = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.train, Mapping):
            object.__setattr__(self, "train", TrainConfig(**self.train))
        _whole(self, "seed", 0)
        check_names("source", [self.source], SOURCES)
        for name in ("data", "model_options"):
            pairs = sorted((str(k), _plain(v)) for k, v in dict(getattr(self, name)).items())
            object.__setattr__(self, name, tuple(pairs))

    def to_json(self) -> str:
        """Canonical JSON of the non-default fields: a new field with a default changes nothing."""
        return json.dumps(_non_default(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "RunConfig":
        """The inverse of `to_json`."""
        return cls(**json.loads(text))


def run_id(config: RunConfig, source: str, versions: Mapping[str, int]) -> str:
    """Name of a run: 16 hex digits of the SHA-256 over all that determines its training.

    source: the resolved data source and the checksum of its decoded content
    ('mnist:<sha256>'), which replaces the asked-for `config.source`. versions: integer versions
    of the data set's and model's code.
    """
    fields = _non_default(dataclasses.replace(config, source="auto"))
    fields |= {"source": source, "versions": dict(versions)}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _non_default(config) -> dict:
    fields = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            if inner := _non_default(value):
                fields[field.name] = inner
        elif value != field.default:
            pairs = field.name in ("data", "model_options")
            fields[field.name] = dict(value) if pairs else value
    return fields


def _plain(value):
    if isinstance(value, list | tuple):
        return tuple(_plain(v) for v in value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(
        f"options of a run must be numbers, strings or lists of these, found {value!r}"
    )


def _number(config, name: str, expected: str, valid) -> None:
    value = getattr(config, name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not valid(value):
        raise ValueError(f"{name} must be {expected}, found {value!r}")
    object.__setattr__(config, name, float(value))


def _whole(config, name: str, least: int) -> None:
    value = getattr(config, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number >= {least}, found {value!r}")
