"""What ``python -m lightning_seg.plot`` reads of runs, draws and writes."""
