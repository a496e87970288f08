"""What can be known to fail before a run starts: all of it at once, before anything slow begins."""
