"""Finds everything that would make a run fail, before anything slow begins, and reports it at once."""
