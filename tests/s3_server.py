"""A local S3 server for tests of stores in buckets: moto's, in a thread of the test process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen


@contextmanager
def s3_server() -> Iterator[str]:
    """Yields its endpoint, with a bucket named "bucket"."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    with urlopen(Request(f"{endpoint}/bucket", method="PUT")):
        pass
    yield endpoint
    server.stop()


def environment(endpoint: str) -> dict[str, str]:
    """The environment variables with which a process reaches it as s3://bucket."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
