"""
The Celery application of the interop tests: what `celery -A app worker` runs, and what driver.py sends with.

Configured by JOBGLOT_APP, a JSON object: `broker`, `backend`, `name`, `config` (Celery's settings, lower case; task_queues may be
names or Queue arguments) and `prelude` (Python source run with `app` in scope, for what one test needs).

Every task exists twice: as py.<name>, which only this side has, and as both.<name>, which the Node worker has as well.
"""

import builtins
import json
import os
import time

from celery import Celery, signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from kombu import Exchange, Queue

import tagged

settings = tagged.from_json(json.loads(os.environ.get("JOBGLOT_APP", "{}")))

app = Celery(settings.get("name", "interop"), broker=settings.get("broker"), backend=settings.get("backend"))
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)


def queue_of(spec):
    if isinstance(spec, str):
        return Queue(spec)
    arguments = dict(spec)
    if isinstance(arguments.get("exchange"), dict):
        arguments["exchange"] = Exchange(**arguments["exchange"])
    elif isinstance(arguments.get("exchange"), str):
        arguments["exchange"] = Exchange(arguments["exchange"])
    return Queue(**arguments)


config = dict(settings.get("config") or {})
if config.get("task_queues"):
    config["task_queues"] = [queue_of(spec) for spec in config["task_queues"]]
app.conf.update(config)


class OutOfStock(Exception):
    """An exception of the application's own, with more than one argument."""


def task(**options):
    def register(function):
        for prefix in ("py", "both"):
            app.task(name=f"{prefix}.{function.__name__}", **options)(function)
        return function

    return register


@task()
def add(x, y):
    return x + y


@task()
def mul(x, y):
    return x * y


@task()
def tsum(numbers):
    return sum(numbers)


@task()
def echo(*args, **kwargs):
    return [list(args), kwargs]


@task()
def told(id):
    """An errback of the old style: called with the id of the task that failed."""
    return ["told", id]


@task()
def describe(*args, **kwargs):
    """What arrived, in Python's own words: exact for types JSON does not tell apart."""
    return [[f"{type(value).__name__}: {value!r}" for value in args], {key: repr(value) for key, value in kwargs.items()}]


@task()
def value(source):
    """A value written in Python: "datetime.datetime(2020, 1, 2)"."""
    import datetime
    import decimal
    import uuid

    return eval(source, {"datetime": datetime, "decimal": decimal, "uuid": uuid})


@task()
def fail(type="ValueError", message="on purpose", *more):
    raise getattr(builtins, type, None)(message, *more) if hasattr(builtins, type) else globals()[type](message, *more)


@task(bind=True, max_retries=5, default_retry_delay=0.1)
def retry_twice(self, countdown=0.1):
    if self.request.retries < 2:
        raise self.retry(countdown=countdown, exc=RuntimeError(f"attempt {self.request.retries + 1}"))
    return self.request.retries


@task(bind=True, max_retries=1, default_retry_delay=0.1)
def retry_out(self, countdown=0.1):
    raise self.retry(countdown=countdown, exc=ConnectionError("never up"))


@task()
def slow(seconds, result="slept"):
    time.sleep(seconds)
    return result


@task()
def slow_soft(seconds):
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "soft"
    return "slept"


@task(bind=True)
def progress(self, steps=2, seconds=0.2):
    for step in range(1, steps + 1):
        self.update_state(state="PROGRESS", meta={"step": step, "of": steps})
        time.sleep(seconds)
    return steps


@task(bind=True)
def gate(self, path, meta=None):
    """Waits until there is a file, which the test writes; in the state PROGRESS meanwhile, where it has a meta."""
    if meta is not None:
        self.update_state(state="PROGRESS", meta=meta)
    while not os.path.exists(path):
        time.sleep(0.01)
    return "passed"


@task()
def ignore():
    raise Ignore()


@task()
def reject(requeue=False):
    raise Reject("on purpose", requeue=requeue)


@task(bind=True)
def replace(self, x, y):
    """Becomes an add."""
    raise self.replace(app.signature("py.add", args=(x, y)))


@task(bind=True)
def replace_with_node(self, x):
    """Becomes a task of the other side."""
    raise self.replace(app.signature("node.mul", args=(x, 10), options={"queue": "node"}))


@task(bind=True)
def become(self, *args):
    """Becomes the signature that is its last argument; those before it go to the signature."""
    *values, successor = args
    signature = app.signature(successor)
    raise self.replace(signature if signature.subtask_type else signature.clone(args=tuple(values)))


@task(bind=True)
def grow(self, *args):
    """Adds the signature that is its last argument to its chord."""
    self.add_to_chord(app.signature(args[-1]))
    return "grown"


@task()
def spawn(*args):
    """Sends the signature that is its last argument on its own."""
    app.signature(args[-1]).apply_async()
    return "spawned"


@task(bind=True)
def stamps(self):
    """What the message is stamped with."""
    return [self.request.stamped_headers, self.request.stamps]


@task(bind=True)
def context(self):
    """What the message said about the task."""
    request = self.request
    return {
        "id": request.id,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "group": request.group,
        "group_index": getattr(request, "group_index", None),
        "correlation_id": request.correlation_id,
        "reply_to": request.reply_to,
        "retries": request.retries,
        "eta": request.eta,
        "expires": request.expires,
        "timelimit": list(request.timelimit) if request.timelimit else None,
        "origin": request.origin,
        "headers": request.headers,
        "delivery_info": request.delivery_info,
        "argsrepr": request.argsrepr,
        "kwargsrepr": request.kwargsrepr,
        "ignore_result": request.ignore_result,
        # A header of one's own is an attribute in every version, and in `headers` since 5.3.
        "x_tenant": getattr(request, "x_tenant", None),
    }


@task()
def write(path, text="ran"):
    """Appends a line to a file: an effect that can be counted. Returns how many lines there are."""
    with open(path, "a+") as file:
        file.write(text + "\n")
        file.seek(0)
        return len(file.readlines())


@task()
def write_error(request, exc, traceback, path):
    """An errback of the new style: called with the request, the exception and the traceback."""
    with open(path, "a") as file:
        file.write(json.dumps([request.id, type(exc).__name__, str(exc)]) + "\n")


@signals.worker_ready.connect
def say_ready(sender, **_):
    if sender.connection.transport.driver_type == "amqp":
        # So that its event loop wakes often: what it acknowledges of messages that came together, and that it is to stop, it
        # otherwise sees when something else wakes it, up to two seconds later.
        sender.timer.call_repeatedly(0.02, lambda: None)
    # Past Celery's redirection of the standard streams.
    os.write(2, b"jobglot: worker ready\n")


exec(settings.get("prelude") or "", globals())
