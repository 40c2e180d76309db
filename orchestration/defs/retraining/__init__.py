"""Retraining: the asset, its job and its sensor."""
