"""Enqueue with real Celery.

produce.py one N     apply_async, one by one; prints seconds and CPU microseconds per job as JSON
produce.py bulk N    group of 500, Celery's own bulk
produce.py template TASK ARGS-JSON ON|OFF    one message, for the queue filler to clone; ON keeps the result
"""

import json
import sys
import time

from celery import group

from app import add, app

GROUP = 500


def one(count):
    for i in range(count):
        add.apply_async((i, i + 1), ignore_result=True)


def bulk(count):
    for start in range(0, count, GROUP):
        group(add.s(i, i + 1) for i in range(start, min(count, start + GROUP))).apply_async(ignore_result=True)


if __name__ == "__main__":
    mode = sys.argv[1]
    if mode == "template":
        _, _, task, args, results = sys.argv
        app.tasks[task].apply_async(json.loads(args), ignore_result=results != "ON")
    else:
        run, count = {"one": one, "bulk": bulk}[mode], int(sys.argv[2])
        run(max(GROUP, count // 10))  # connections open, code paths warm
        wall, cpu = time.perf_counter(), time.process_time()
        run(count)
        print(
            json.dumps(
                {
                    "jobsPerSecond": count / (time.perf_counter() - wall),
                    "cpuMicrosPerJob": (time.process_time() - cpu) / count * 1e6,
                }
            )
        )
