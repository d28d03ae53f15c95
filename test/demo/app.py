"""
A real Python Celery application that sends tasks to a Node worker, by name, and prints what came back.

Run by `npm run demo`. It knows nothing of Node: a broker, a result backend, a queue, and the names of five tasks.
"""

import os
import sys
import time
from urllib.parse import urlsplit

import celery
from celery import Celery

broker, backend, queue = (os.environ[name] for name in ("DEMO_BROKER", "DEMO_BACKEND", "DEMO_QUEUE"))

app = Celery("demo", backend=backend)
if broker.startswith("filesystem://"):
    folder = urlsplit(broker).path
    app.conf.broker_url = "filesystem://"
    app.conf.broker_transport_options = {
        "data_folder_in": folder,
        "data_folder_out": folder,
        "control_folder": os.path.join(folder, "control"),
        "store_processed": False,
    }
else:
    app.conf.broker_url = broker
app.conf.task_default_queue = queue

failures = []


def step(number, title, name, args=(), kwargs=None, expect=None, **options):
    """Send, wait, print one line. `expect` says what is wrong with what came back, or nothing."""
    started = time.monotonic()
    result = app.send_task(name, args=args, kwargs=kwargs, **options)
    try:
        value = result.get(timeout=30, interval=0.05, propagate=False)
        seconds = time.monotonic() - started
        wrong = expect(value, result, seconds)
        # As `raise` would show it: for an exception its class and its message.
        shown = f"raised {type(value).__name__}: {value}" if isinstance(value, BaseException) else repr(value)
    except celery.exceptions.TimeoutError:
        shown, seconds, wrong = "nothing", time.monotonic() - started, f"no result within 30 s (state {result.state})"
    words = ", ".join([repr(arg) for arg in args] + [f"{key}={value!r}" for key, value in (kwargs or {}).items()])
    print(f"  {'✗' if wrong else '✓'} {number}. {title}: {name}({words}) → {shown}   [{result.state}, {seconds:.2f} s]", flush=True)
    if wrong:
        print(f"       wrong: {wrong}", flush=True)
        failures.append(title)
    if backend != "rpc://":
        result.forget()


def equals(expected):
    return lambda value, result, seconds: None if value == expected and type(value) is type(expected) else f"expected {expected!r}"


def failed(kind, message):
    def check(value, result, seconds):
        if result.state != "FAILURE" or not isinstance(value, Exception):
            return "expected a failure"
        if type(value).__name__ != kind or str(value) != message:
            return f"expected {kind}: {message}"
        if kind not in (result.traceback or ""):
            return "expected the traceback of the Node side"

    return check


def late(value, result, seconds):
    if not isinstance(value, dict) or value.get("text") != "tea is ready":
        return "expected the text to come back"
    if seconds < 2:
        return "it ran before its time"


STEPS = [
    dict(title="a sum", name="demo.add", args=(2, 3), expect=equals(5)),
    dict(title="a failure", name="demo.fail", args=("tea",), expect=failed("OutOfStock", "no tea left")),
    dict(title="a countdown of 2 s", name="demo.remind", kwargs={"text": "tea is ready"}, countdown=2, expect=late),
    dict(title="two retries", name="demo.flaky", expect=equals("worked at attempt 3")),
    dict(title="a 64-bit integer", name="demo.next", args=(2**63 - 2,), expect=equals(2**63 - 1)),
]

def leave_nothing():
    """The queue is the demo's own, the broker perhaps somebody else's."""
    with app.connection_for_write() as connection:
        # Declared first: kombu deletes a binding that this connection knows of.
        own = app.amqp.queues[queue].bind(connection.default_channel)
        own.declare()
        own.delete()
        if connection.transport.driver_type == "amqp":
            own.exchange.delete()


if sys.argv[1:] == ["clean"]:
    leave_nothing()
    sys.exit()

print(f"Python {sys.version.split()[0]}, Celery {celery.__version__}: sending to a Node worker", flush=True)
try:
    for number, one in enumerate(STEPS, 1):
        step(number, **one)
except KeyboardInterrupt:
    sys.exit(130)

if failures:
    print(f"{len(STEPS) - len(failures)} of {len(STEPS)} came back right; wrong: {', '.join(failures)}")
    sys.exit(1)
print(f"{len(STEPS)} of {len(STEPS)} came back right: Python sent, Node ran, Python has the results.")
