"""Real Celery as a client, driven over a pipe: see pipe.py. `{"op": "send", "params": {"name": "node.add", "args": [2, 3]}}`"""

import json
import sys

from pipe import serve

import celery  # noqa: E402
import kombu  # noqa: E402
from celery import chain, chord, chunks, group, xmap, xstarmap  # noqa: E402
from celery.exceptions import TimeoutError as CeleryTimeout  # noqa: E402
from celery.result import GroupResult  # noqa: E402

from app import app  # noqa: E402

# Group and chord results are more than their id.
results = {}


def result_of(id):
    return results.get(id) or app.AsyncResult(id)


def versions():
    import redis

    return {"celery": celery.__version__, "kombu": kombu.__version__, "redis": redis.__version__, "python": sys.version.split()[0]}


def send(name, args=(), kwargs=None, options=None):
    """send_task: by name, as for a task of another application."""
    return app.send_task(name, args=args, kwargs=kwargs, **(options or {})).id


def call(name, args=(), kwargs=None, options=None):
    """apply_async of a task this application has itself."""
    return app.tasks[name].apply_async(args=args, kwargs=kwargs, **(options or {})).id


def get(id, timeout=10):
    result = result_of(id)
    try:
        # A group looks at its members each half a second unless told otherwise.
        value = result.get(timeout=timeout, propagate=False, interval=0.01)
    except CeleryTimeout:
        return {"kind": "timeout", "state": getattr(result, "state", None)}
    if isinstance(value, BaseException):
        return {
            "kind": "error",
            "state": getattr(result, "state", None),
            "type": type(value).__name__,
            "module": type(value).__module__,
            "bases": [base.__name__ for base in type(value).__mro__[1:]],
            "args": list(value.args),
            "message": str(value),
            "traceback": getattr(result, "traceback", None),
        }
    return {"kind": "value", "state": getattr(result, "state", None), "value": value, "repr": repr(value)}


def state(id):
    return result_of(id).state


def info(id):
    """What the state carries: the meta of PROGRESS, the result of SUCCESS."""
    return result_of(id).info


def meta(id):
    """The stored record, as the backend decodes it."""
    return app.backend.get_task_meta(id, cache=False)


def children(id):
    return [child.id for child in result_of(id).children or []]


def forget(id):
    result_of(id).forget()
    results.pop(id, None)


def build(spec):
    """{"task", "args", "kwargs", "options", "immutable", "link", "link_error"} | {"chain": […]} | {"group": […]} | {"chord": […], "body": …} | {"map" | "starmap" | "chunks": …, "it", "n"}"""
    if "chain" in spec:
        made = chain(*map(build, spec["chain"]))
    elif "group" in spec:
        made = group(*map(build, spec["group"]))
    elif "chord" in spec:
        made = chord(list(map(build, spec["chord"])), build(spec["body"]))
    elif "map" in spec:
        made = xmap(build(spec["map"]), spec["it"], app=app, **(spec.get("options") or {}))
    elif "starmap" in spec:
        made = xstarmap(build(spec["starmap"]), spec["it"], app=app, **(spec.get("options") or {}))
    elif "chunks" in spec:
        made = chunks(build(spec["chunks"]), spec["it"], spec["n"], app=app).group()
    else:
        made = app.signature(
            spec["task"],
            args=spec.get("args") or [],
            kwargs=spec.get("kwargs") or {},
            options=spec.get("options") or {},
            immutable=spec.get("immutable", False),
        )
    for link in spec.get("link") or []:
        made.link(build(link))
    for link in spec.get("link_error") or []:
        made.link_error(build(link))
    return made


def apply(spec, options=None):
    """Sends a canvas. `id` is what `get` takes; `parents` the ids before it in a chain; `members` those of a group."""
    result = build(spec).apply_async(**(options or {}))
    results[result.id] = result
    parents = []
    parent = result.parent
    while parent is not None:
        results.setdefault(parent.id, parent)
        parents.append(parent.id)
        parent = parent.parent
    members = [member.id for member in result.results] if isinstance(result, GroupResult) else []
    return {"id": result.id, "parents": parents, "members": members}


def signature(spec):
    """The dictionary Celery makes of a canvas: what would be inside a message."""
    return json.loads(json.dumps(build(spec), default=repr))


def revoke(id, options=None):
    app.control.revoke(id, **(options or {}))


def control(command, arguments=None, options=None):
    """A broadcast to the workers; their replies with `reply: True`."""
    return app.control.broadcast(command, arguments=arguments, **(options or {}))


def inspect(command, arguments=None, options=None):
    """`celery inspect <command>`: replies by worker, or None."""
    return getattr(app.control.inspect(**(options or {})), command)(*(arguments or []))


def ping(options=None):
    return app.control.ping(**(options or {}))


def purge():
    return app.control.purge()


def run(source, values=None):
    """Runs Python source with `app`, `celery`, `kombu` and `values` in scope; gives back what it left in `result`."""
    scope = {"app": app, "celery": celery, "kombu": kombu, "results": results, **(values or {})}
    exec(source, scope)
    return scope.get("result")


serve(
    versions,
    *(send, call, get, state, info, meta, children, forget),
    *(apply, signature, revoke, control, inspect, ping, purge, run),
)
