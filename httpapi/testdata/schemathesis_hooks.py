"""Teaches schemathesis the media type that it does not know; TestSchemathesis names this file to it."""

import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(_, value):
    return value.encode() if isinstance(value, str) else (json.dumps(value) + "\n").encode()
