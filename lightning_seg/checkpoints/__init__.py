"""Writes and chooses checkpoints, locks run folders, and lets a training go on from a checkpoint."""
