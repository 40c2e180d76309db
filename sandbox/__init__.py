"""Embedded stand-ins for ClickHouse, Kafka and AWS: a first try on a laptop, and tests."""
