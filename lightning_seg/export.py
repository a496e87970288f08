"""``python -m lightning_seg.export --ckpt_path P --output F``: a trained model as one file that runs anywhere."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning_seg.config_paths import expanded
from lightning_seg.errors import LightningSegError
from lightning_seg.files import use_utf8


def main(args: Sequence[str] | None = None) -> int:
    """Export a model.

    Returns:
        exit status: 1 where the file is refused, or something is wrong, else 0. Wrong usage exits with 2 by itself.
    """
    use_utf8()
    given = parse(args)
    from lightning_seg.exporting.exporter import export
    from lightning_seg.exporting.loading import load_trained
    from lightning_seg.exporting.wish import Wish

    output = Path(expanded(given.output))
    wish = Wish(
        output=output,
        images=given.images,
        most=given.num_images,
        probabilities=given.probabilities,
        half=given.half,
        int8=given.int8,
        max_drop=given.max_drop,
    )
    try:
        wish.refuse_impossible()
        certificate = export(load_trained(given.ckpt_path), wish)
    except LightningSegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if "mIoU_int8" in certificate.notes:
        before, after = certificate.notes["mIoU_float32"], certificate.notes["mIoU_int8"]
        print(f"mIoU {before:.2f} % in float32, {after:.2f} % in 8 bits")
    if problems := certificate.problems():
        print("\n".join(f"error: {problem}" for problem in problems[:10]), file=sys.stderr)
        print(f"error: {output} is not written; see {output}.parity.json", file=sys.stderr)
        return 1
    print(f"{output}\n{output}.parity.json")
    return 0


def parse(args: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(
        prog="python -m lightning_seg.export",
        description="Write a trained model as one file, and compare it with the model. Exit status: 0 the file gives "
        "the same, 1 it does not or something is wrong (the file is not left under its name), 2 wrong usage.",
    )
    parser.add_argument("--ckpt_path", required=True, help="checkpoint, run folder or wandb://…, as of predict")
    parser.add_argument(
        "--output",
        required=True,
        help="F.onnx for ONNX Runtime, F.pt2 for torch.export.load, F.pth (and F.yaml) for Detectron2",
    )
    parser.add_argument(
        "--images", help="an image, a folder or 'GLOB' to compare on, in place of the run's validation images"
    )
    parser.add_argument(
        "--num_images", type=int, default=100, help="to compare on at most, spread over all (default: 100)"
    )
    parser.add_argument("--probabilities", action="store_true", help="let the file give these too: (N, K, H, W)")
    parser.add_argument("--half", action="store_true", help="compute in float16")
    parser.add_argument("--int8", action="store_true", help="compute in 8 bits, with ranges of validation images")
    parser.add_argument("--max_drop", type=float, default=1.0, help="points of mIoU that --int8 may cost (default: 1)")
    return parser.parse_args(args)


if __name__ == "__main__":
    sys.exit(main())
