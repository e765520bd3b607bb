"""Does the engine that trains a run change what it measures? Parity, LR 0.3, twenty seeds.

    python book/trials/engines.py

Trains the same runs one by one (`reference`) and side by side (`stacked`), and writes
book/results/engines.json: unbiased accuracies of each seed (fractions), and tests of equal means
(Welch) and spreads (Levene, about the median). The engines' sums differ in roundoff, which
training at a large LR makes larger: a seed need not agree, its distribution has to. Ten minutes on
one core.
"""

import argparse
import json
import logging
from pathlib import Path

import numpy as np
import torch
from scipy import stats

import lrsc
from lrsc import experiments

LR, SEEDS, ENGINES = 0.3, 20, ("reference", "stacked")


def main() -> None:
    """Train, measure, test, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parents[1] / "results" / "engines.json"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = experiments.run_config("parity", "fcn", LR, 0, "paper")
    data = lrsc.datasets.load("parity", **dict(config.data))
    found: dict[str, list[float]] = {}
    for engine in ENGINES:
        runs = lrsc.fit(
            "fcn", data, config.train, seeds=range(args.seeds), engine=engine, progress=False
        )
        each = [lrsc.measure(run, data, methods=[]) for run in runs]
        found[engine] = [float(one["unbiased_accuracy"]) for one in each]
        logging.info("%s: %s", engine, np.round(found[engine], 3))
    values = [found[engine] for engine in ENGINES]
    args.output.write_text(json.dumps({
        "dataset": "parity", "model": "fcn", "lr": LR, "n_train": len(data.train),
        "unbiased_accuracy": found,
        "equal_means_p": float(stats.ttest_ind(*values, equal_var=False).pvalue),
        "equal_spreads_p": float(stats.levene(*values, center="median").pvalue),
        "largest_difference": float(np.abs(np.subtract(*values)).max()),
        "torch": torch.__version__, "made_by": "book/trials/engines.py",
    }, indent=1) + "\n")  # fmt: skip


if __name__ == "__main__":
    main()
