"""Finds the samples of a split before any image is opened."""
