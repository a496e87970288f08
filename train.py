"""Train, validate, test and predict: ``python train.py fit --config configs/quickstart.yaml``."""

from lightning_seg.cli import main

if __name__ == "__main__":
    main()
