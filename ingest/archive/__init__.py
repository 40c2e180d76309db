"""The archive of raw events: Parquet on S3, a manifest in ClickHouse, and the way back."""
