"""Fill gpu/kit with what a GPU machine without a network lacks: wheels, MNIST, CIFAR-10.

    LRSC_DATA=... python gpu/kit.py          (make gpu-kit)

The folder is ignored by git and stays under 45 MiB. Wheels are for Python 3.12 on Linux x86-64, in
the versions of requirements.lock; which ones: MISSING, what `gpu/rehearse.py` finds absent.
"""

import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

MISSING = ("h5netcdf", "pytorch-optimizer", "captum", "platformdirs", "filelock")
MOST = 45 * 2**20
HERE = Path(__file__).parent
KIT = HERE / "kit"


def main() -> None:
    root = os.environ.get("LRSC_DATA")
    shutil.rmtree(KIT, ignore_errors=True)
    lock = (HERE.parent / "requirements.lock").read_text()
    wanted = [re.search(rf"^{name}==\S+", lock, re.MULTILINE).group() for name in MISSING]
    subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
            "--only-binary=:all:", "--python-version", "3.12", "--platform",
            "manylinux_2_28_x86_64", "--dest", str(KIT / "wheels"), *wanted,
        ], check=True,
    )  # fmt: skip
    if root:
        pack_data(Path(root))
    else:
        print("without data: set LRSC_DATA to the folder that holds MNIST/raw")
    size = sum(path.stat().st_size for path in KIT.rglob("*") if path.is_file())
    print(f"{KIT}: {size / 2**20:.1f} MiB")
    if size > MOST:
        sys.exit(f"larger than {MOST / 2**20:.0f} MiB: it may not travel")


def pack_data(root: Path) -> None:
    """MNIST as it is published, compressed, and CIFAR-10's images where they are."""
    images = KIT / "data" / "MNIST" / "raw"
    images.mkdir(parents=True)
    for path in sorted((root / "MNIST" / "raw").iterdir()):
        if path.suffix == ".gz":
            shutil.copyfile(path, images / path.name)
        else:
            with gzip.open(images / f"{path.name}.gz", "wb") as file:
                file.write(path.read_bytes())
    for path in root.glob("cifar10-jpeg.tar.xz"):
        shutil.copyfile(path, KIT / "data" / path.name)


if __name__ == "__main__":
    main()
