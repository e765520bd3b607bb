"""gpu/run.sh without a GPU: in an environment with only what the GPU machine has, and a tiny plan.

    python gpu/rehearse.py OUT [MINUTES]          (6: it ends when its plan is done)

The environment is this one, of which only the packages of gpu/machine.txt are to be seen: what is
missing there and not in gpu/kit fails here. Fails unless every stage ends well, a row of parity is
whole, and the packs merge and fill it in a results folder elsewhere.
"""

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).parent
PLAN = """weight,experiment,dataset,model,row,profile,values,seeds
2,synthetic,parity,fcn,lr,quick,0.1 0.75,0 1
1,semi_synthetic,colored_mnist,resnet18,lr,quick,0.1,0
"""


def main(out: str, minutes: str = "6") -> None:
    if not (HERE / "kit").is_dir():
        subprocess.run([sys.executable, str(HERE / "kit.py")], check=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plan.csv").write_text(PLAN)
        environment = os.environ | {
            "PYTHON": str(bare(folder / "venv")), "PLAN": str(folder / "plan.csv"),
            "CUDA_VISIBLE_DEVICES": "",
        }  # fmt: skip
        environment.pop("VIRTUAL_ENV", None)
        subprocess.run(
            ["bash", str(HERE / "run.sh"), minutes, out, "cpu"], env=environment, check=True
        )
        log = (Path(out) / "log.txt").read_text()
        ends = [line for line in log.splitlines() if line.startswith("===") and "exit" in line]
        failed = [line for line in ends if "exit 0" not in line]
        manifest = json.loads((Path(out) / "manifest.json").read_text())
        if failed or len(ends) != 7 or len(manifest["runs"]) < 4:
            sys.exit(f"the rehearsal failed: {failed or ends}, {manifest}")
    print(f"rehearsed: {len(manifest['runs'])} runs, {len(manifest['cut_off'])} cut off")


def bare(folder: Path) -> Path:
    """A Python that sees only the packages of machine.txt, by links to those of this one."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    place = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    lines = (HERE / "machine.txt").read_text().splitlines()
    seen = {name for line in lines if not line.startswith("#") for name in line.split()}
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if path.name.partition(".")[0] in seen or path.suffix in (".libs", ".dist-info"):
            (Path(place) / path.name).symlink_to(path)
    return python


if __name__ == "__main__":
    main(*sys.argv[1:])
