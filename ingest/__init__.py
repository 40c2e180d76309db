"""Capture: from the model server to raw tables in ClickHouse."""
