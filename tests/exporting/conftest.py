"""Leaves the tests of exports out where torch is too old to export."""

import torch.fx.experimental._config as settings

collect_ignore_glob = [] if hasattr(settings, "backed_size_oblivious") else ["test_*.py"]
