"""Tells CloudWatch what the marts say: gauges, alarms and dashboards."""
