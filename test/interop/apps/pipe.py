"""
Operations of Python, driven over a pipe: a request a line in, a reply a line out, one at a time.

    {"id": 1, "op": "send", "params": {"name": "node.add", "args": [2, 3]}}   →   {"id": 1, "value": "<task id>"}

Values cross as tagged.py has them. What an operation raises is {"id", "error": {type, message, traceback}}.
Import it before anything that may print.
"""

import json
import os
import sys
import traceback

import tagged

# Whatever prints to stdout must not get between the replies.
replies = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
os.dup2(2, 1)


def serve(versions, *operations):
    """Answers until stdin ends; says which versions it is made of first."""
    by_name = {function.__name__: function for function in (versions, *operations)}

    def answer(request):
        try:
            value = by_name[request["op"]](**tagged.from_json(request.get("params") or {}))
            return {"id": request["id"], "value": tagged.to_json(value)}
        except Exception as error:
            return {
                "id": request["id"],
                "error": {"type": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()},
            }

    print(json.dumps({"id": 0, "value": versions()}), file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=replies, flush=True)
