"""Peak resident memory of code in a process of its own."""

from __future__ import annotations

import subprocess
import sys

PEAK_BYTES = "int(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))) * 1024"
"""Python expression. VmHWM begins anew with the program; ru_maxrss would still hold the peak of the parent."""


def peak_of(code: str, *args: str) -> int:
    """Run code in a new interpreter and return its peak, bytes."""
    command = [sys.executable, "-c", f"{code}\nprint({PEAK_BYTES})", *args]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
