"""Time of `import dak_diff` over that of `import dask_awkward`, each in processes of its own, in turns.

    python -m benchmarks.run_import

Bytecode is written before the first measured import, as pip does when it installs a package.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial

from benchmarks.measure import best_seconds, versions

ROUNDS = 15


def main() -> None:
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        runs = {
            name: partial(
                subprocess.run, [sys.executable, "-c", f"import {name}"], env=environment, check=True
            )
            for name in ("dask_awkward", "dak_diff")
        }
        for run in runs.values():
            run()
        seconds = best_seconds(runs, ROUNDS)
    print(versions())
    for name, best in seconds.items():
        print(f"import {name:<14}{best:>7.3f} s{best / seconds['dask_awkward']:>7.2f}")


if __name__ == "__main__":
    main()
