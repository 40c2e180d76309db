"""The pure functions that dbt Python models call."""
