"""Whether each offset has landed once, as an asset beside the raw tables."""
