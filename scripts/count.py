#!/usr/bin/env python3
# /// runql
# description = "Counts in steps and tells its progress"
# timeout = "1h"
#
# [parameters.steps]
# type = "integer"
# default = 5
# minimum = 1
# maximum = 10000
# description = "How far to count"
#
# [parameters.delay]
# type = "number"
# default = 0.2
# minimum = 0
# maximum = 60
# description = "Seconds between two steps"
# ///
"""Counts in steps and tells its progress.

The parameters come as JSON in RUNQL_PARAMETERS; the defaults of the block above are in it already. They are repeated
below for whoever starts this file by hand.
"""

import json
import os
import time


def main() -> None:
    parameters = json.loads(os.environ.get("RUNQL_PARAMETERS", "{}"))
    steps = int(parameters.get("steps", 5))
    delay = parameters.get("delay", 0.2)

    started = time.monotonic()
    for step in range(1, steps + 1):
        time.sleep(delay)
        # What is printed into a pipe waits in a buffer unless it is flushed.
        print(f"::progress current={step} total={steps}::step {step}", flush=True)
        print(f"{step} of {steps}", flush=True)

    output = {"counted": steps, "seconds": round(time.monotonic() - started, 3)}
    with open(os.environ.get("RUNQL_OUTPUT", os.devnull), "w", encoding="utf-8") as file:
        json.dump(output, file)


if __name__ == "__main__":
    main()
