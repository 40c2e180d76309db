"""Erasure of an entity: what was predicted about it leaves raw tables, archive and marts."""
