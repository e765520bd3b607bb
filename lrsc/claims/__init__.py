"""The paper's claims as tests on results: by trends in rows, or by runs if a claim is about few."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lrsc import significance
from lrsc.claims import learning_rates, networks, scorecard, settings
from lrsc.claims.evidence import Open
from lrsc.config import STATISTICS
from lrsc.experiments import PAPER_STATISTICS

LEVEL = 0.05  # after Holm's correction over all claims; fixed before any result


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a claim says, what its effect is, how it is tested, and where its evidence comes from.

    little: an effect too small to count. variants: named options of the test, each of which has a
    verdict in the field `by`; the claim's own verdict is that of the first.
    """

    text: str
    effect: str
    test: Callable[..., dict]  # of an Open
    needs: str  # experiments, with further options of the sweep; or what else
    little: float = 0.1
    by: str = ""
    variants: Mapping[str, dict] = dataclasses.field(default_factory=lambda: {"": {}})


def _trend(*variables: str, **options) -> Callable[..., dict]:
    return functools.partial(learning_rates.trend, variables=variables, **options)


_SWEEP = "lrsc sweep {} --profile desk"
_GRID = " or ".join(map(_SWEEP.format, learning_rates.GRID))
_RISE = "largest LR less smallest"
_STANDARD = {"names": ("standard_classification",)}
_OTHERS = {"names": ("optimizers_schedules",), "hyperparameters": learning_rates.OTHERS}
_SCHEDULES = _SWEEP.format("optimizers_schedules")
_ACCURACY = settings.MARGINS["unbiased_accuracy"]  # little, of an accuracy
_STATISTICS = dict.fromkeys((PAPER_STATISTICS, *STATISTICS))

CLAIMS = {
    "C1": Claim("unbiased accuracy rises with the LR", _RISE, _trend("unbiased_accuracy"), _GRID,
                _ACCURACY),
    "C2": Claim("prunability rises with the LR", _RISE, _trend("prunability"), _GRID,
                by="by_statistics", variants={s: {"statistics": s} for s in _STATISTICS}),
    "C3": Claim("activations become compressible", _RISE,
                _trend("activation_compressibility"), _GRID),
    "C4": Claim("class selectivity and separation rise", _RISE + ", mean of both",
                _trend("csi", "class_separation"), _GRID),
    "C5": Claim("a large LR gains at least as much as other hyperparameters",
                "accuracy, prunability and CSI, mean, less the strongest other's",
                settings.against_others, _SWEEP.format("hyperparameters")),
    "C6": Claim("L2 on top of a high LR gains more",
                "accuracy, prunability and CSI, mean, less those of the LR alone",
                settings.with_l2, _SWEEP.format("hyperparameters")),
    "C7": Claim("accuracy goes with the largest loss ratio", "rank correlation over runs",
                learning_rates.loss_ratio, _GRID, by="by_definition", variants={
                    "mini-batches": {"variable": "max_loss_ratio"},
                    "fixed samples": {"variable": "max_loss_ratio_fixed"},
                }),
    "C8": Claim("the gain grows with the network", "gain of the largest less that of the smallest",
                learning_rates.size, _SWEEP.format("semi_synthetic"), _ACCURACY),
    "C9": Claim("attributions concentrate",
                "fall of entropy or background share, as a share; the smaller",
                networks.concentration,
                _SWEEP.format("standard_classification") + ", then lrsc results contrast "
                "--dataset cifar10 --model resnet18 --lrs 0.01,0.1"),
    "C10": Claim("accuracy and prunability rise before sparsity does",
                 "log10 of the LRs of half the rise", learning_rates.order, _GRID),
    "C11": Claim("the effect is set early", "accuracy after a switch less the mean of both LRs'",
                 settings.switched, f"{_SCHEDULES} --dataset cifar10 --model resnet18", _ACCURACY),
    "C12": Claim("it holds under other optimisers and schedules", _RISE + ", mean of three",
                 _trend("unbiased_accuracy", "prunability", "activation_compressibility",
                        **_OTHERS), _SCHEDULES),
    "C13": Claim("losses of the two groups are closer at a low LR",
                 "smaller / larger loss, low LR less high", networks.closeness,
                 _SWEEP.format("mechanism")),
    "C14": Claim("soups separate robustness from compressibility",
                 "gain in accuracy less that in compressibility, over its networks",
                 settings.soups, _SWEEP.format("standard_classification") + " --dataset cifar10 "
                 "--model resnet18 --raw, then lrsc results soup --dataset cifar10 "
                 "--model resnet18 --lrs 0.01,0.1", _ACCURACY),
    "C15": Claim("class selectivity agrees with attribution shares",
                 "rank correlation over LRs, mean over seeds", networks.attribution,
                 _SWEEP.format("attribution")),
    "C16": Claim("training longer changes little", "share of the margin that is left",
                 settings.longer, f"{_SCHEDULES} --dataset colored_mnist --model resnet18"),
    "C17": Claim("class-dominant neurons persist", "share kept, class- less bias-dominant",
                 networks.dominance, _SWEEP.format("mechanism")),
    "C18": Claim("a high LR helps standard accuracy", _RISE,
                 _trend("unbiased_accuracy", **_STANDARD),
                 _SWEEP.format("standard_classification"), _ACCURACY),
}  # fmt: skip


def verdicts(root: str | Path | None = None) -> list[dict]:
    """All claims: id, text, verdict, effect, low, high, smallest, small, p, rows and more.

    Effects are positive in the claim's direction. low, high: the 95 % interval; smallest: half its
    width, the smallest effect that the data at hand could have shown. An interval without width
    counts as none. small: the claim is supported, by less than `Claim.little` in every row.
    rows: the effect in each of n_rows rows of experiments that count, or in each part of the claim
    there. Quick runs and stand-ins never count.

    `decisions.decide` says how rows and seeds become one p: nine or more rows are tested by their
    signs; of fewer, each is tested over its seeds, and all have to agree. p is corrected for the
    number of tests by Holm. The verdict is the first that holds of

    - not measured: there is no row;
    - supported, contradicted: p for it, or against it, is below LEVEL;
    - no effect seen: the effect is not positive; or, known well enough, it is little: the interval
      includes 0 and lies within `Claim.little` of it, with fewer than nine rows in each of them;
    - same direction, too few: the effect is positive, but rows or seeds are too few to decide.

    A claim with variants has the verdict of each in its field `by_...`, and that of the first.
    """
    opened = Open(root)
    found = {
        (name, variant): claim.test(opened, **options)
        for name, claim in CLAIMS.items() for variant, options in claim.variants.items()
    }  # fmt: skip
    up, down = (significance.holm({k: v[p] for k, v in found.items()}) for p in ("up", "down"))
    decided = []
    for name, claim in CLAIMS.items():
        each = {
            variant: _verdict(name, found[name, variant], up[name, variant], down[name, variant])
            for variant in claim.variants
        }
        kept = ("verdict", "effect", "low", "high", "small", "p", "rows", "n_rows")
        beside = {variant: {k: one[k] for k in kept} for variant, one in each.items()}
        decided.append(next(iter(each.values())) | ({claim.by: beside} if claim.by else {}))
    return decided


def _verdict(name: str, found: dict, up: float, down: float) -> dict:
    claim, low, high = CLAIMS[name], found["low"], found["high"]
    verdict = "same direction, too few"
    if not found["rows"]:
        verdict = "not measured"
    elif up < LEVEL or down < LEVEL:
        verdict = "supported" if up < LEVEL else "contradicted"
    elif not found["effect"] > 0 or (low <= 0 and found["reach"] <= claim.little):
        verdict = "no effect seen"
    numbers = {"effect": found["effect"], "low": low, "high": high, "smallest": (high - low) / 2}
    return {
        "id": name, "text": claim.text, "verdict": verdict,
        **{k: _known(v) for k, v in numbers.items()}, "effect_is": claim.effect,
        "small": verdict == "supported" and bool(found["reach"] <= claim.little),
        "p": _known(up), "needs": claim.needs, "n_rows": found["n_rows"],
        "rows": [{k: _known(v) for k, v in row.items()} for row in found["rows"]],
    }  # fmt: skip


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
