"""Finds what is wrong with a data set, and what is in it; each file is read once."""
