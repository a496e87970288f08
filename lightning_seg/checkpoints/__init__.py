"""Files of checkpoints and folders of runs: written, chosen, locked, and gone on from."""
