"""Who is asked about an asset."""

OWNERS = ["team:model-monitoring"]
