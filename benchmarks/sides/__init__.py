"""Both sides of ``benchmarks/peers.py``. Each of ``here`` and ``peer`` has ``check``, ``train`` and ``infer``."""
