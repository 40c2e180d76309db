from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from typer.testing import CliRunner

from dashboard.command_line import is_loopback
from driftline.command_line import app


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("192.168.1.2", False), ("example.com", False)],  # noqa: S104
)  # fmt: skip
def test_only_this_machine_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_other_hosts_are_refused_unless_the_risk_is_named() -> None:
    result = CliRunner().invoke(app, ["dashboard", "--host", "::", "--port", "0"])
    assert result.exit_code == 1
    assert "--expose-without-authentication" in result.output


def test_taken_port_is_an_error_with_a_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(app, ["dashboard", "--port", port])
    assert result.exit_code == 1
    assert f"error: cannot listen on 127.0.0.1:{port}" in result.output


def test_help_does_not_load_the_web_framework() -> None:
    code = (
        "import sys; from driftline.command_line import app; "
        "print([name for name in ('dash', 'plotly', 'flask') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_page_is_served_on_loopback_without_any_warehouse_until_ended(
    ending: signal.Signals,
) -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CLICKHOUSE_", "DRIFTLINE_"))
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "driftline", "dashboard", "--port", "0"],
        env={**environment, "DRIFTLINE_TARGET": "prod", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", said)
        assert found, said
        with urllib.request.urlopen(found[0]) as response:  # noqa: S310
            assert "<title>driftline</title>" in response.read().decode()
            assert response.headers["X-Frame-Options"] == "DENY"
        # Another site's name that was made to point here.
        foreign = urllib.request.Request(found[0], headers={"Host": "evil.example"})  # noqa: S310
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(foreign)  # noqa: S310
        assert refused.value.code == 400
        process.send_signal(ending)
        rest, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "the dashboard is down" in rest
        assert "Traceback" not in rest
    finally:
        process.kill()
        process.wait()
