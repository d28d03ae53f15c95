"""The Celery 5.6 side: the tasks every system of this bench runs, set up by environment variables."""

import os
import time

import redis
from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_BROKER"], backend=os.environ.get("BENCH_BACKEND") or None)
app.conf.task_ignore_result = os.environ.get("BENCH_RESULTS") != "1"
app.conf.task_acks_late = os.environ.get("BENCH_ACKS_LATE") == "1"
app.conf.worker_prefetch_multiplier = int(os.environ.get("BENCH_PREFETCH", "4"))
app.conf.broker_connection_retry_on_startup = True

if os.environ.get("BENCH_CONFIRMS") == "1":
    app.conf.broker_transport_options = {"confirm_publish": True}

marks = redis.Redis.from_url(os.environ["BENCH_REDIS"])


@app.task(name="bench.add")
def add(x, y):
    return x + y


@app.task(name="bench.wait")
def wait(seconds):
    time.sleep(seconds)


@app.task(name="bench.mark")
def mark(n):
    """CLOCK_MONOTONIC is one clock for every process of a machine; Node's hrtime reads the same one."""
    now = time.monotonic_ns()
    marks.lpush("bench.marks", now)
