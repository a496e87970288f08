# Trains a head of one's own, evaluates it, and exports it. From the repository's folder, in the project's environment:
#   sh examples/custom_head/run.sh
set -e

# Every mistake that fit would find before its first step: a head that is not registered, a key that nobody declares, logits
# of the wrong size. It trains nothing.
python train.py fit --config examples/custom_head/two_convolutions.yaml --dry_run

# The quickstart's landscapes, eight epochs, two minutes on two CPU cores.
python train.py fit --config examples/custom_head/two_convolutions.yaml

# The run's folder is enough: it names the file of the head, which must be where it was.
python train.py validate --ckpt_path runs/two_convolutions/version_0

# A program for torch.export.load, which needs neither the file of the head nor Detectron2. The command compares it with the
# checkpoint, pixel by pixel, on ten validation images and on twelve sizes.
python -m lightning_seg.export --ckpt_path runs/two_convolutions/version_0 --output two_convolutions.pt2 --num_images 10
python train.py predict --ckpt_path two_convolutions.pt2 --data.predict data/quickstart/val/images/0000.jpg --output predictions
