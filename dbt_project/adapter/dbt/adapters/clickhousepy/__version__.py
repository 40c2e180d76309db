"""The version that dbt reads when it registers the adapter."""

version = "0.1.0"
