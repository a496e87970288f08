"""The sections of ``benchmarks/gpu.py``, whose ``run(settings)`` yields rows as it finds them, and what commands share."""
