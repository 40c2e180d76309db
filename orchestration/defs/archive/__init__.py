"""The archive of raw events on S3, as an asset beside the raw tables."""
