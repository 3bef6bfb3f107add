"""What a process of its own measures for another: it is given a request, and tells what it finds as soon as it knows.

So what runs out of memory, crashes or takes too long costs the others nothing, and what was found before is there. Both
sides need nothing but Python's own library.
"""

import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent
# Of one timing, in seconds: so many calls are made in a row, without waiting for each, that it takes as long.
_SPAN = 0.2
# The line with which a program of ours, or Python, says what ended it.
_ERROR = re.compile(r"error: |(\w+\.)*\w+(Error|Exception)\b")


def ask(module: str, request: Mapping[str, Any], limit: float) -> dict[str, Any]:
    """What a module tells of a request, in a process of its own.

    Args:
      module: what comes behind `python -m`; its `main` is to read `requested()`.
      request: what goes through JSON. It is given `began` as well, the time at which the process starts.
      limit: in seconds, after which it is killed.

    Returns:
      All that it told, and `error`, one line, where it did not end as it should.
    """
    command = [sys.executable, "-m", module, json.dumps({**request, "began": time.time()})]
    with subprocess.Popen(
        command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="backslashreplace"
    ) as process:
        try:
            output, errors = process.communicate(timeout=limit)
            failure = _failure(process.returncode, errors)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            failure = f"took more than {limit:g} s"
        except BaseException:
            process.kill()
            raise
    found = {}
    for line in output.splitlines():
        if line.startswith("{"):
            found |= json.loads(line)
    return found | ({"error": failure} if failure else {})


def _failure(code: int, errors: str) -> str:
    """Why a process ended with an exit code, in one line; '' where all is well."""
    if not code:
        return ""
    if code < 0:
        return f"killed by signal {-code}"
    lines = [line.strip() for line in errors.splitlines() if line.strip()] or [f"exit code {code}"]
    # What ended it, behind warnings and before what Python and JAX add to it.
    begins = [place for place, line in enumerate(lines) if _ERROR.match(line)] or [len(lines) - 1]
    reason, text = lines[begins[-1]].removeprefix("error: "), "\n".join(lines[begins[-1] :])
    memory = "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()
    return f"out of memory: {reason}"[:300] if memory else reason[:300]


def requested() -> dict[str, Any]:
    """The request of the process that asks this one."""
    return json.loads(sys.argv[1])


def tell(**facts: Any) -> None:
    """Tells the process that asks this one what has been found."""
    print(json.dumps(facts), flush=True)


def seconds_a_call(run: Callable[[int], None], repeats: int, span: float = _SPAN) -> list[float]:
    """How long a call takes, by each of several timings.

    Args:
      run: makes so many calls, one behind the other, and waits for the last.
      repeats: how many timings.
      span: how long one should take, in seconds; one call at least.
    """
    begin = time.perf_counter()
    run(1)
    calls = max(1, math.ceil(span / (time.perf_counter() - begin)))
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run(calls)
        seconds.append((time.perf_counter() - begin) / calls)
    return seconds
