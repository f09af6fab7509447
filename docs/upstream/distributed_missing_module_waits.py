"""A module that the scheduler has and the worker lacks. Should: be an error. Does: the result never comes.

Seen with distributed 2025.3.1: the worker closes, the task waits for another one, for ever if there is none.
"""

import logging
import sys
import time
import types

try:
    from distributed import Client, LocalCluster
except ImportError as error:
    print(error)
    raise SystemExit(77) from None


def main():
    module = types.ModuleType("only_here")
    exec("def twice(x):\n    return 2 * x", module.__dict__)
    sys.modules["only_here"] = module  # scheduler and client are this process
    muted = logging.CRITICAL + 1
    with (
        LocalCluster(n_workers=1, dashboard_address=":0", silence_logs=muted) as cluster,
        Client(cluster) as client,
    ):
        future = client.submit(module.twice, 21)
        deadline = time.monotonic() + 60
        while not future.done() and client.scheduler_info()["workers"] and time.monotonic() < deadline:
            time.sleep(0.1)
        workers = len(client.scheduler_info()["workers"])
        print(f"gave: the task is {future.status}, workers: {workers}. Should give a ModuleNotFoundError")
        if future.done():
            raise SystemExit(f"mended: {future.exception()!r}")


if __name__ == "__main__":
    main()
