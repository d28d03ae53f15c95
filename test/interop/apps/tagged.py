"""Values that JSON cannot hold, crossing the pipe to the tests as {"$": tag, "v": text or list}. The mirror of test/support/tagged.ts."""

import base64
import datetime
import decimal
import math
import uuid

SAFE = 2**53 - 1


def to_json(value):
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if -SAFE <= value <= SAFE else tag("int", str(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else tag("float", repr(value))
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value) and "$" not in value:
            return {key: to_json(item) for key, item in value.items()}
        return tag("dict", [[to_json(key), to_json(item)] for key, item in value.items()])
    if isinstance(value, (tuple, set, frozenset)):
        return tag(type(value).__name__, [to_json(item) for item in value])
    if isinstance(value, (bytes, bytearray, memoryview)):
        return tag("bytes", base64.b64encode(bytes(value)).decode())
    if isinstance(value, datetime.datetime):
        return tag("datetime", value.isoformat())
    if isinstance(value, datetime.date):
        return tag("date", value.isoformat())
    if isinstance(value, datetime.time):
        return tag("time", value.isoformat())
    if isinstance(value, datetime.timedelta):
        return tag("timedelta", repr(value.total_seconds()))
    if isinstance(value, decimal.Decimal):
        return tag("decimal", str(value))
    if isinstance(value, uuid.UUID):
        return tag("uuid", str(value))
    if isinstance(value, BaseException):
        return tag("exception", [type(value).__name__, type(value).__module__, to_json(list(value.args))])
    return tag("repr", f"{type(value).__name__}: {value!r}")


def from_json(value):
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$" not in value:
        return {key: from_json(item) for key, item in value.items()}
    return READERS[value["$"]](value["v"])


def tag(name, content):
    return {"$": name, "v": content}


READERS = {
    "int": int,
    "float": float,
    "dict": lambda pairs: {from_json(key): from_json(item) for key, item in pairs},
    "tuple": lambda items: tuple(from_json(item) for item in items),
    "set": lambda items: {from_json(item) for item in items},
    "frozenset": lambda items: frozenset(from_json(item) for item in items),
    "bytes": base64.b64decode,
    # Python before 3.11 does not read a final Z.
    "datetime": lambda text: datetime.datetime.fromisoformat(text.replace("Z", "+00:00")),
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timedelta": lambda text: datetime.timedelta(seconds=float(text)),
    "decimal": decimal.Decimal,
    "uuid": uuid.UUID,
}
