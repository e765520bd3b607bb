"""The paper's claims as tests on results: by trends in rows, or by runs where a claim is of few."""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path

from lrsc import significance
from lrsc.claims import learning_rates, networks, scorecard, settings
from lrsc.claims.evidence import Open
from lrsc.config import STATISTICS
from lrsc.experiments import PAPER_STATISTICS

APART = ("C2",)  # claims with a verdict in each of the statistics of batch normalisation
LEVEL = 0.05  # after Holm's correction over all claims; fixed before any result


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a claim says, what its effect is, the test of it, and where its evidence comes from."""

    text: str
    effect: str
    test: Callable[..., dict]  # of an Open
    needs: str  # experiments, with further options of the sweep; or what else


def _trend(*variables: str, **options) -> Callable[..., dict]:
    return functools.partial(learning_rates.trend, variables=variables, **options)


_SWEEP = "lrsc sweep {} --profile desk"
_GRID = " or ".join(map(_SWEEP.format, learning_rates.GRID))
_GRID_RESNET18 = _SWEEP.format("semi_synthetic") + " --dataset colored_mnist --model resnet18"
_RISE = "largest LR less smallest"
_STANDARD = {"names": ("standard_classification",)}
_OTHERS = {"names": ("optimizers_schedules",), "hyperparameters": learning_rates.OTHERS}
_SCHEDULES = _SWEEP.format("optimizers_schedules")

CLAIMS = {
    "C1": Claim("unbiased accuracy rises with the LR", _RISE, _trend("unbiased_accuracy"), _GRID),
    "C2": Claim("prunability rises with the LR", _RISE, _trend("prunability"), _GRID),
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
                learning_rates.loss_ratio, _GRID),
    "C8": Claim("the gain grows with the network", "gain of the largest less that of the smallest",
                learning_rates.size, _SWEEP.format("semi_synthetic")),
    "C9": Claim("attributions concentrate",
                "fall of entropy or background share, as a share; the smaller",
                networks.concentration,
                _SWEEP.format("standard_classification") + ", then lrsc results contrast "
                "--dataset cifar10 --model resnet18 --lrs 0.001,0.1"),
    "C10": Claim("accuracy and prunability rise before sparsity does",
                 "log10 of the LRs of half the rise", learning_rates.order, _GRID),
    "C11": Claim("the effect is set early", "accuracy after a switch less the mean of both LRs'",
                 settings.switched, f"{_SCHEDULES} --dataset cifar10 --model resnet18"),
    "C12": Claim("it holds under other optimisers and schedules", _RISE + ", mean of three",
                 _trend("unbiased_accuracy", "prunability", "activation_compressibility",
                        **_OTHERS), _SCHEDULES),
    "C13": Claim("losses of the two groups are closer at a low LR",
                 "smaller / larger loss, low LR less high", networks.closeness,
                 _SWEEP.format("mechanism")),
    "C14": Claim("soups separate robustness from compressibility",
                 "gain in accuracy less that in compressibility, over its networks",
                 settings.soups, _GRID_RESNET18 + " --raw, then lrsc results soup "
                 "--dataset colored_mnist --model resnet18 --lrs 0.001,0.015,0.15"),
    "C15": Claim("class selectivity agrees with attribution shares",
                 "rank correlation over LRs, mean over seeds", networks.attribution,
                 _SWEEP.format("attribution")),
    "C16": Claim("training longer changes little", "share of the margin that is left",
                 settings.longer, f"{_SCHEDULES} --dataset colored_mnist --model resnet18"),
    "C17": Claim("class-dominant neurons persist", "share kept, class- less bias-dominant",
                 networks.dominance, _SWEEP.format("mechanism")),
    "C18": Claim("a high LR helps standard accuracy", _RISE,
                 _trend("unbiased_accuracy", **_STANDARD),
                 _SWEEP.format("standard_classification")),
}  # fmt: skip


def verdicts(root: str | Path | None = None) -> list[dict]:
    """All claims: id, text, verdict, effect with its interval, p after Holm, rows, what it needs.

    effect_is: what the effect is; positive is in the claim's direction. rows: the effect in each
    row of experiments that counts. A claim about many rows is tested by signs over them, one about
    few by their runs: see the function of each. Quick runs and stand-ins never count. A claim that
    depends on how batch normalisation is evaluated (APART) has a verdict for each of the three
    statistics in `by_statistics`, each from the rows measured so; its own is that in the paper's.
    """
    opened = Open(root)
    found = {name: claim.test(opened) for name, claim in CLAIMS.items() if name not in APART}
    for name in APART:
        for mode in STATISTICS:
            found[f"{name} {mode}"] = CLAIMS[name].test(functools.partial(opened, statistics=mode))
    up, down = (significance.holm({k: v[p] for k, v in found.items()}) for p in ("up", "down"))
    decided = {key: _verdict(key, found[key], up[key], down[key]) for key in found}
    for name in APART:
        apart = {mode: decided[f"{name} {mode}"] for mode in STATISTICS}
        decided[name] = apart[PAPER_STATISTICS] | {"by_statistics": {
            mode: {k: v[k] for k in ("verdict", "effect", "low", "high", "p", "rows")}
            for mode, v in apart.items()
        }}  # fmt: skip
    return [decided[name] for name in CLAIMS]


def _verdict(key: str, found: dict, up: float, down: float) -> dict:
    name = key.split()[0]
    claim = CLAIMS[name]
    verdict = "inconclusive" if found["rows"] else "not measured"
    if up < LEVEL:
        verdict = "supported"
    elif down < LEVEL:
        verdict = "contradicted"
    return {
        "id": name, "text": claim.text, "verdict": verdict,
        **{k: _known(found[k]) for k in ("effect", "low", "high")}, "effect_is": claim.effect,
        "p": _known(up), "rows": found["rows"], "needs": claim.needs,
    }  # fmt: skip


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
