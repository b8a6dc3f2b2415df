"""Draws in an environment of its own, which is made once: the plots need matplotlib, nothing else
does.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from brokers import ROOT, WORK, run


class NoPlots(Exception):
    """They cannot be drawn here, and why; what they show is there all the same."""


def draw(module, *arguments):
    """Runs `python -m module arguments` there."""
    venv, wanted = WORK / "venv", Path(__file__).with_name("requirements.txt")
    done = venv / "made-from"
    try:
        if not done.is_file() or done.read_bytes() != wanted.read_bytes():
            shutil.rmtree(venv, ignore_errors=True)
            run([sys.executable, "-m", "venv", str(venv)], capture_output=True)
            run([str(venv / "bin" / "pip"), "install", "--quiet", "--requirement", str(wanted)],
                capture_output=True)
            done.write_bytes(wanted.read_bytes())
        run([str(venv / "bin" / "python"), "-m", module, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": str(ROOT / "perf")}, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        lines = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise NoPlots(lines[-1] if lines else type(error).__name__) from error
