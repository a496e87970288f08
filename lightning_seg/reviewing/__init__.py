"""Finds regions whose labels are probably wrong, shows them, and writes masks in which they are ignored."""
