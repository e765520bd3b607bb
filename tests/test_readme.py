"""The README's example runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_import_example_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.S)
    (code,) = (block for block in blocks if "unbiased accuracy" in block)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=1200
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("unbiased accuracy") == 2


def test_pictures_and_files_named_exist():
    text = README.read_text()
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        assert (README.parent / path).is_file(), path
    assert not re.search(r"@[A-Z]+@", text)
