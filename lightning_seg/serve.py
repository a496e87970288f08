"""``python -m lightning_seg.serve --ckpt_path P``: a trained model behind HTTP, and a page to try it on images."""

import argparse
import signal
import sys
from collections.abc import Sequence

from lightning_seg.errors import LightningSegError
from lightning_seg.files import use_utf8


def main(args: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; requests that were taken are answered first.

    Returns:
        exit status: 0 after a signal, 1 where it cannot serve. Wrong usage exits with 2 by itself.
    """
    use_utf8()
    given = parse(args)
    try:
        from lightning_seg.serving.server import serve

        serve(given)
    except LightningSegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # while the model was loaded
        return 128 + signal.SIGINT
    return 0


def parse(args: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the flags."""
    parser = argparse.ArgumentParser(
        prog="python -m lightning_seg.serve",
        description="Serve a trained model: GET / is a page, POST /predict takes an image and gives its label map. "
        "Exit status: 0 after Ctrl+C or SIGTERM, 1 it cannot serve, 2 wrong usage.",
    )
    parser.add_argument("--ckpt_path", required=True, help="checkpoint, run folder, wandb://…, or exported file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=_port, default=8000, help="0 takes a free one (default: 8000)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    parser.add_argument(
        "--batch_size", type=_count, help="images that are computed at once (default: 1 on a CPU, 8 on a GPU)"
    )
    parser.add_argument("--max_bytes", type=_count, default=32 * 2**20, help="of one image file (default: 32 MiB)")
    parser.add_argument(
        "--max_pixels", type=_count, default=25_000_000, help="height × width of one image (default: 25000000)"
    )
    parser.add_argument(
        "--max_requests",
        type=_count,
        default=128,
        help="requests at the same time; more are answered with 503 (default: 128)",
    )
    return parser.parse_args(args)


def _count(text: str) -> int:
    if not text.isdecimal() or (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number from 1 on")
    return count


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no number from 0 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
