# From folders of images and masks to a trained model, a report, a file for other programs, and predictions.
# From the repository's folder, in the project's environment (source .venv/bin/activate):
#   sh examples/own_data/run.sh
set -e

# Photos and masks in colour. With your own, leave this out, and change root, classes and palette of street.yaml.
python examples/own_data/make_photos.py data/street

# Is the data sound? The audit names each file that is not, and exits with 1. Here it lists photos that are stored turned:
# they are read upright, as their masks are, so that nothing needs to be mended.
python -m lightning_seg.audit --config examples/own_data/street.yaml || true

# What would be trained, and every mistake that can be found before the first step.
python train.py fit --config examples/own_data/street.yaml --dry_run

# Trains for two minutes on two CPU cores. Each command has a folder of its own: version_0 is the audit's.
python train.py fit --config examples/own_data/street.yaml

# One page with curves, figures of each class, confusions and pictures: runs/street/version_1/plots/report.html
python -m lightning_seg.plot runs/street/version_1

# One file that needs neither this project nor Detectron2. It is compared with the model before it gets its name.
python -m lightning_seg.export --ckpt_path runs/street/version_1 --output street.onnx

# Label maps and overlays of new photos, at their stored size: by the trained model, and by the file.
python train.py predict --ckpt_path runs/street/version_1 --data.predict data/street/new --output predictions
python train.py predict --ckpt_path street.onnx --data.predict data/street/new --output predictions_onnx
