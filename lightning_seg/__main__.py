"""Runs what ``train.py`` runs, wherever this package is installed: ``python -m lightning_seg fit --config C.yaml``."""

from lightning_seg.cli import main

if __name__ == "__main__":
    main()
