"""Real RQ as a client, driven over a pipe: see pipe.py. RQ_URL says which Redis."""

import os
import sys
import time

from pipe import serve

import datetime
import decimal
import uuid

import redis
import rq
from rq import Queue, Worker, command, registry, suspension
from rq.job import Job, Retry
from rq.serializers import JSONSerializer

import rq_app

connection = redis.Redis.from_url(os.environ["RQ_URL"])
ENDED = {"finished", "failed", "stopped", "canceled"}


def versions():
    version = getattr(rq, "__version__", None) or rq.VERSION
    return {"rq": version, "redis": redis.__version__, "python": sys.version.split()[0]}


def enqueue(name, args=(), kwargs=None, queue="default", options=None):
    """By name: the id."""
    return Queue(queue, connection=connection).enqueue(name, args=tuple(args), kwargs=kwargs or {}, **(options or {})).id


def state(id):
    """What Python sees of a job."""
    job = Job.fetch(id, connection=connection)
    return {
        "status": str(getattr(job.get_status(), "value", job.get_status())),
        "func": job.func_name,
        "args": list(job.args),
        "kwargs": job.kwargs,
        "origin": job.origin,
        "description": job.description,
        "meta": job.meta,
        "timeout": job.timeout,
        "ttl": job.ttl,
        "result_ttl": job.result_ttl,
        "failure_ttl": job.failure_ttl,
        "retries_left": job.retries_left,
        "worker_name": job.worker_name,
        "created_at": job.created_at and job.created_at.isoformat(),
        "enqueued_at": job.enqueued_at and job.enqueued_at.isoformat(),
        "started_at": job.started_at and job.started_at.isoformat(),
        "ended_at": job.ended_at and job.ended_at.isoformat(),
        "dependency_ids": list(job._dependency_ids),
    }


def results(id):
    """The history, newest first."""
    return [
        {
            "type": result.type.name,
            "value": result.return_value,
            "exc": result.exc_string,
            "worker": getattr(result, "worker_name", None),
        }
        for result in Job.fetch(id, connection=connection).results()
    ]


def outcome(id, timeout=30):
    """How it ended, once it has."""
    deadline = time.monotonic() + timeout
    while True:
        job = Job.fetch(id, connection=connection)
        status = job.get_status()
        status = str(getattr(status, "value", status))
        if status in ENDED:
            break
        if time.monotonic() > deadline:
            raise TimeoutError(f"{id} is {status} after {timeout} s")
        time.sleep(0.02)
    latest = job.latest_result()
    value = job.return_value()
    return {
        "status": status,
        "value": value,
        "repr": repr(value),
        "exc": latest.exc_string if latest else None,
        "type": latest.type.name if latest else None,
    }


def registries(queue="default", cleanup=True):
    """The ids in each; counting them cleans them, as every tool of RQ's does."""
    q = Queue(queue, connection=connection)
    made = {}
    for name in ("started", "finished", "failed", "deferred", "scheduled", "canceled"):
        one = getattr(q, f"{name}_job_registry")
        made[name] = list(one.get_job_ids()) if cleanup else [id.decode() for id in connection.zrange(one.key, 0, -1)]
    return {**made, "queued": q.get_job_ids()}


def workers():
    return [
        {
            "name": worker.name,
            "state": str(getattr(worker.get_state(), "value", worker.get_state())),
            "queues": worker.queue_names(),
            "pid": worker.pid,
            "hostname": worker.hostname,
            "version": worker.version,
            "current_job": worker.get_current_job_id() if hasattr(worker, "get_current_job_id") else None,
            "successful": worker.successful_job_count,
            "failed": worker.failed_job_count,
        }
        for worker in Worker.all(connection=connection)
    ]


def run(source, values=None):
    """Runs Python source with RQ's names and `values` in scope; gives back what it left in `result`."""
    scope = {
        **{name: getattr(rq, name) for name in ("Callback", "Group", "Repeat", "SimpleWorker") if hasattr(rq, name)},
        **{"rq": rq, "rq_app": rq_app, "connection": connection, "redis": redis},
        **{"Queue": Queue, "Worker": Worker, "Job": Job, "Retry": Retry},
        **{"JSONSerializer": JSONSerializer, "command": command, "registry": registry, "suspension": suspension},
        **{"datetime": datetime, "decimal": decimal, "uuid": uuid, "time": time},
        **(values or {}),
    }
    newer = {"Dependency": "rq.job", "Callback": "rq.job", "Group": "rq.group", "Repeat": "rq.repeat", "Webhook": "rq.webhook"}
    for name, module in newer.items():
        try:
            scope.setdefault(name, getattr(__import__(module, fromlist=[name]), name))
        except (ImportError, AttributeError):
            pass
    exec(source, scope)
    return scope.get("result")


serve(versions, enqueue, state, results, outcome, registries, workers, run)
