"""AWS for the sandbox: moto's server with S3, CloudWatch and SNS, on loopback, in memory.

Moto accepts what AWS refuses (a thousand metrics in one call, year-old timestamps, NaN) and never
evaluates alarms. Real AWS is used instead wherever AWS_ENDPOINT_URL or credentials are set.
"""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

import boto3
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from sandbox.port_files import write_port


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    arguments = argparse.ArgumentParser(prog="sandbox.aws_server")
    arguments.add_argument("--port-file", type=Path, required=True)
    arguments.add_argument("--bucket", action="append", default=[], help="made at the start")
    options = arguments.parse_args()

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    for bucket in options.bucket:
        _make_bucket(port, bucket)
    write_port(options.port_file, port)
    stop.wait()


def _make_bucket(port: int, bucket: str) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="driftline-sandbox",
        aws_secret_access_key="driftline-sandbox",  # noqa: S106 - opens nothing
    )
    client.create_bucket(Bucket=bucket)
    client.close()


if __name__ == "__main__":
    main()
