"""A script without a main guard that starts processes is refused in one line."""

import subprocess
import sys
import time

import pytest

SETUP = """
import lrsc
run = lrsc.RunConfig('parity', 'fcn', lrsc.TrainConfig(max_epochs=1), data={'n_train': 200})
def start():
    %s
"""
CALLS = {
    "dask": "lrsc.sweep.run([run], executor='dask', root='r')",
    "campaign": "from lrsc.sweep import campaign; campaign.run(0.5, root='r', workers=1)",
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("end", ["start()", "for _ in range(1):\n    start()"])
def test_a_script_without_a_guard_is_refused_before_any_process(call, end, tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(SETUP % CALLS[call] + end + "\n")
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1 and not (tmp_path / "r").exists()
    last = done.stderr.strip().splitlines()[-1]
    assert "mine.py starts processes" in last and "__main__" in last
    assert done.stderr.count("Traceback") == 1 and time.monotonic() - began < 200


@pytest.mark.parametrize("test", ["__name__ == '__main__'", '"__main__" == __name__'])
def test_a_guarded_script_trains(test, tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(SETUP % CALLS["dask"] + f"if {test}:\n    start()\n    print('done')\n")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.endswith("done\n"), done.stderr
