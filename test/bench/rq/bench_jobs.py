"""The RQ side: the functions every system of this bench runs, and one job of each for the filler to clone.

bench_jobs.py template FUNCTION ARGS-JSON    one job in the queue
bench_jobs.py one N                          Queue.enqueue, one by one; prints jobs a second and CPU microseconds a job as JSON
bench_jobs.py bulk N                         Queue.enqueue_many of 500
"""

import json
import os
import sys
import time

import redis

connection = redis.Redis.from_url(os.environ["BENCH_REDIS"])
MANY = 500


def add(x, y):
    return x + y


def wait(seconds):
    time.sleep(seconds)


def mark(n):
    """CLOCK_MONOTONIC is one clock for every process of a machine; Node's hrtime reads the same one."""
    now = time.monotonic_ns()
    connection.lpush("bench.marks", now)


def main(mode, *rest):
    from rq import Queue

    queue = Queue("bench", connection=connection)

    def one(count):
        for i in range(count):
            queue.enqueue("bench_jobs.add", i, i + 1)

    def bulk(count):
        for start in range(0, count, MANY):
            queue.enqueue_many(
                [Queue.prepare_data("bench_jobs.add", (i, i + 1)) for i in range(start, min(count, start + MANY))]
            )

    if mode == "template":
        function, args = rest
        print(queue.enqueue(f"bench_jobs.{function}", *json.loads(args)).id)
        return
    run, count = {"one": one, "bulk": bulk}[mode], int(rest[0])
    run(max(MANY, count // 10))  # connections open, code paths warm
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


if __name__ == "__main__":
    main(*sys.argv[1:])
