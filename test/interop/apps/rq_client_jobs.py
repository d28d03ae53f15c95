"""What the tests of the client have Python's workers run."""

from rq import get_current_job

calls = 'calls'


def add(x, y):
    return x + y


def describe(*args, **kwargs):
    return [[f'{type(one).__name__}: {one!r}' for one in args], {name: repr(one) for name, one in kwargs.items()}]


def fail(message):
    raise ValueError(message)


def nothing():
    return None


def progress():
    job = get_current_job()
    job.meta['step'] = 2
    job.save_meta()
    return job.meta


def flaky(key):
    """Fails the first time."""
    connection = get_current_job().connection
    if connection.incr(key) == 1:
        raise RuntimeError('the first time')
    return 'then'


def on_success(job, connection, result, *args, **kwargs):
    connection.rpush(calls, f'success {job.id} {result!r}')


def on_failure(job, connection, type, value, traceback):
    connection.rpush(calls, f'failure {job.id} {type.__name__}')
