"""Fetch MNIST, verify it and lay it out as <root>/MNIST/raw, torchvision's layout.

    python data_scripts/mnist.py [--root FOLDER] [--check]

MNIST, Y. LeCun, C. Cortes, C. Burges; CC BY-SA 3.0. 12 MB to fetch, 55 MB on disk.
"""

import argparse
import gzip
import hashlib
import sys
import urllib.error
import urllib.request
from pathlib import Path

from lrsc.datasets.sources import MNIST_FILES, data_root, mnist_folder
from lrsc.results import atomic

MIRRORS = (  # the mirrors that torchvision uses; both serve the published .gz files
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


def main(argv: list[str] | None = None) -> int:
    """Lay out what is missing; 0 if all four files stand verified at the end, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="data root (default $LRSC_DATA)")
    parser.add_argument("--check", action="store_true", help="verify what is there, fetch nothing")
    args = parser.parse_args(argv)
    folder = mnist_folder(data_root(args.root))
    wrong = 0
    for name, (_, md5) in MNIST_FILES.items():
        problem = check(folder / name, md5)
        if problem and not args.check:
            problem = fetch(folder / name, md5)
        wrong += bool(problem)
        print(f"{name}: {problem or 'verified'}")
    if not wrong:
        print(f"MNIST is complete in {folder}")
    return 1 if wrong else 0


def check(path: Path, md5: str) -> str:
    """What is wrong with a file, or nothing."""
    if not path.is_file():
        return f"not found in {path.parent}"
    found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    return "" if found == md5 else f"MD5 is {found}, expected {md5}"


def fetch(path: Path, md5: str) -> str:
    """Download, unpack, verify and put a file in place; what went wrong, or nothing."""
    problems = []
    for mirror in MIRRORS:
        try:
            with urllib.request.urlopen(mirror + path.name + ".gz", timeout=30) as answer:
                data = gzip.decompress(answer.read())
        except (urllib.error.URLError, OSError, EOFError) as error:
            problems.append(f"{mirror}{path.name}.gz: {error}")
            continue
        found = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if found != md5:
            problems.append(f"{mirror}{path.name}.gz: MD5 of the content is {found}")
            continue
        with atomic(path) as part:
            part.write_bytes(data)
        return ""
    return (
        "could not be fetched.\n  " + "\n  ".join(problems) + f"\n  Without a network: put "
        f"{path.name} (unpacked, MD5 {md5}) into {path.parent} yourself."
    )


if __name__ == "__main__":
    sys.exit(main())
