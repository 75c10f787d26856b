"""What a test turns and looks at: the control interface of `taskcreds exec --control`."""

import json
import os
import urllib.request

import pytest


@pytest.fixture
def control():
    def ask(method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(os.environ["TASKCREDS_CONTROL"] + path, data, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    ask("DELETE", "/journal")
    yield ask
    ask("DELETE", "/faults")
