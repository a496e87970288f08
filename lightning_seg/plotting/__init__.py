"""Reads run folders, draws their figures and writes the page of ``python -m lightning_seg.plot``."""
