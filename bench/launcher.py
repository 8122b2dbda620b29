"""Run one command and write what it took: ``python -S bench/launcher.py RESULT COMMAND ...``.

A process of its own, and a small one: the kernel counts the memory of the process that starts a
command as the command's, until that holds more. Standard library only.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    result, command = Path(sys.argv[1]), sys.argv[2:]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    taken = {
        "real_s": round(time.perf_counter() - began, 4),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 4),
        "peak_mib": round(usage.ru_maxrss / 1024, 1),  # Linux counts KiB
        "exit_code": process.returncode,
    }
    result.write_text(json.dumps(taken), encoding="utf-8")
