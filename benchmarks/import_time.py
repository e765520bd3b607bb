"""Seconds of `import lrsc` against `import torch`, each in a fresh process. Target: 1.5 x.

python benchmarks/import_time.py [--rounds 7] [--json]
"""

import subprocess
import sys
import time

from report import arguments, median, show


def seconds(statement: str) -> float:
    """Wall time of a process that runs one statement."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - started


def main() -> None:
    options = arguments(__doc__.splitlines()[0], rounds=7)
    statements = {
        "torch": "import torch",
        "lrsc": "import lrsc",
        "lrsc, used": "import lrsc; lrsc.fit, lrsc.measure, lrsc.datasets.load",
    }
    times: dict[str, list[float]] = {name: [] for name in statements}
    for statement in statements.values():
        seconds(statement)  # from the disk's cache from here on
    for _ in range(options.rounds):
        for name, statement in statements.items():
            times[name].append(seconds(statement))
    show(
        [
            {
                "import": name,
                "seconds": median(values),
                "x torch": median(a / b for a, b in zip(values, times["torch"], strict=True)),
            }
            for name, values in times.items()
        ],
        options.json,
    )


if __name__ == "__main__":
    main()
