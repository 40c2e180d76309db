"""How a run of dbt ended, from the events that dbt prints as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# dbt's events for the end of a node, with its number and how many there are.
_RESULTS = {
    *("LogModelResult", "LogTestResult", "LogSeedResult", "LogSnapshotResult", "LogNodeResult"),
    # Exposures: dbt has nothing to do for them, and counts them.
    "LogNodeNoOpResult",
    "SkippingDetails",
}

SHOWN_ERRORS = 20


@dataclass
class DbtOutcome:
    """How a run of dbt ended: nodes by status (ok, pass, warn, error, fail, skip, no-op).

    `warnings` are the nodes that warn, `errors` dbt's own lines about those that failed.
    """

    exit_code: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """The counts in words."""
        return ", ".join(f"{count} {status}" for status, count in self.statuses.items())

    @property
    def failure(self) -> str:
        """Say what failed, in dbt's words."""
        return "\n".join([f"dbt: {self.summary}", *self.errors[:SHOWN_ERRORS]])

    def read(
        self,
        event: Mapping[str, Any],
        on_progress: Callable[[int, int], None] = lambda _done, _of: None,
    ) -> None:
        """Take one event of dbt into account; report (done, of) where it ends a node."""
        info, data = event["info"], event["data"]
        if info.get("level") == "error":
            self.errors.append(info["msg"].strip())
        if info.get("name") not in _RESULTS:
            return
        named = {"SkippingDetails": "skip", "LogNodeNoOpResult": "no-op"}
        status = named.get(info["name"]) or str(data.get("status", ""))
        # A seed says SUCCESS, a model "OK created …", a test pass.
        status = {"success": "ok"}.get(status.lower(), status.split(" ")[0].lower())
        self.statuses[status] += 1
        if status == "warn":
            self.warnings.append(str(data.get("node_info", {}).get("node_name", "")))
        # The end of a test calls the total by another name.
        total = data.get("total") or data.get("num_models") or 0
        on_progress(int(data.get("index", 0)), int(total))
