"""The sections of ``benchmarks/gpu.py``, whose ``run(settings)`` yields rows, and what commands share."""
