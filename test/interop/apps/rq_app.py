"""
The functions of RQ's interop tests, as a Python worker imports them: `rq_app.add`. The Node worker has handlers of the same names
(rq-tasks.ts); `rq_py.py` has what only Python knows.
"""

import datetime
import decimal
import json
import os
import signal
import time
import uuid

from rq import get_current_job


class OutOfStock(Exception):
    """An exception of the application's own, with more than one argument."""


def add(x, y):
    return x + y


def total(*numbers):
    return sum(numbers)


def nothing(*args, **kwargs):
    return None


def echo(*args, **kwargs):
    """The one argument, or all of them."""
    return args[0] if len(args) == 1 and not kwargs else [list(args), kwargs]


def describe(*args, **kwargs):
    """What arrived, in Python's own words."""
    return [[f"{type(value).__name__}: {value!r}" for value in args], {key: repr(value) for key, value in kwargs.items()}]


def value(source):
    """A value written in Python: "datetime.datetime(2020, 1, 2)"."""
    return eval(source, {"datetime": datetime, "decimal": decimal, "uuid": uuid})


def fail(message="on purpose", *more):
    raise ValueError(message, *more)


def out_of_stock(item, left):
    raise OutOfStock(item, left)


def fail_until(path, runs):
    """Fails until it was run so many times."""
    run = write(path)
    if run < runs:
        raise RuntimeError(f"run {run}")
    return run


def once_more(max=1, interval=0):
    """Asks to be run again by what it returns, RQ 2.1 and later."""
    from rq import Retry

    job = get_current_job()
    return "enough" if (job.number_of_retries or 0) >= max else Retry(max=max, interval=interval)


def slow(seconds, result="slept"):
    time.sleep(seconds)
    return result


def gate(path):
    """Waits until there is a file, which the test writes."""
    while not os.path.exists(path):
        time.sleep(0.01)
    return "passed"


def progress(steps=2):
    job = get_current_job()
    for step in range(1, steps + 1):
        job.meta["progress"] = step
        job.save_meta()
    return steps


def result_of(id):
    """What another job returned."""
    job = get_current_job()
    return type(job).fetch(id, connection=job.connection).return_value()


def who():
    """The language that runs it."""
    return "python"


def write(path, text="ran"):
    """Appends a line to a file: an effect that can be counted. Returns how many lines there are."""
    with open(path, "a+") as file:
        file.write(text + "\n")
        file.seek(0)
        return len(file.readlines())


def count(seconds=0):
    """Counts its runs in Redis, by job and by language."""
    job = get_current_job()
    job.connection.hincrby("runs", job.id, 1)
    job.connection.hincrby("runs-by", "python", 1)
    time.sleep(seconds)
    return "counted"


def die():
    signal.raise_signal(signal.SIGKILL)


def _called(connection, name, job, *more):
    connection.rpush("callbacks", json.dumps([name, job.id, *more]))


def on_success(job, connection, result, *args, **kwargs):
    _called(connection, "success", job, repr(result))


def on_failure(job, connection, type, value, traceback):
    _called(connection, "failure", job, type.__name__, str(value))


def on_stopped(job, connection):
    _called(connection, "stopped", job)


def on_success_fails(job, connection, result, *args, **kwargs):
    raise RuntimeError("the callback broke")
