"""The sections of ``benchmarks/gpu.py``: each module has ``run(settings)``, which yields rows as it finds them."""
