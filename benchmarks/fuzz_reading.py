"""Reads damaged images, masks and archives of every format: each is read or refused by name, and nothing else happens.

Run: python benchmarks/fuzz_reading.py [--files 10000] [--seed 0]. A file of each kind is damaged at random: bits are
turned, bytes of the header changed, a block zeroed; it is cut off, or cut and ended. Every second PNG then gets
checksums that fit, as from a writer with a fault. It is read as header, image, part, reduced image and mask, and what
holds bands as bands, with its type and its place; an archive is listed, and so read is what it should hold. All that is
in a process of its own: should that be killed by a signal, the file is counted and kept, and the next process goes on
after it. Exit status 1 where a file ended the process, or raised what is no error of this project or does not name it.
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sections.figures import add_output, write_figures

SIZE = (45, 61)
MEMBER = "i/image.png"
PART = (slice(8, 20), slice(16, 40))


def originals() -> dict[str, bytes]:
    """A sound file of each kind that a decoder treats in a way of its own."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    scene = np.asarray(coarse.resize(SIZE[::-1], Image.Resampling.BICUBIC))
    labels = (scene[..., 0] // 32).astype(np.uint8)
    palette = Image.fromarray(labels, "P")
    palette.putpalette(bytes(range(24)))
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb, deep = Image.fromarray(scene), Image.fromarray(scene[..., 0].astype(np.uint16) * 4)
    kinds: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "jpeg": (rgb, "JPEG", {"exif": exif}),
        "jpeg, progressive": (rgb, "JPEG", {"progressive": True}),
        "jpeg, grey": (rgb.convert("L"), "JPEG", {}),
        "jpeg, CMYK": (rgb.convert("CMYK"), "JPEG", {}),
        "png, RGB": (rgb, "PNG", {"exif": exif}),
        "png, RGBA": (rgb.convert("RGBA"), "PNG", {}),
        "png, grey": (Image.fromarray(labels), "PNG", {}),
        "png, palette": (palette, "PNG", {"exif": exif}),
        "png, 1 bit": (rgb.convert("1"), "PNG", {}),
        "png, 16 bits": (deep, "PNG", {}),
        "tiff": (rgb, "TIFF", {}),
        "tiff, LZW": (Image.fromarray(labels), "TIFF", {"compression": "tiff_lzw"}),
        "tiff, deflate": (deep, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "tiff, JPEG": (rgb, "TIFF", {"compression": "jpeg"}),
        "tiff, float": (Image.fromarray(scene[..., 0].astype(np.float32)), "TIFF", {}),
        "webp": (rgb, "WEBP", {"exif": exif}),
        "webp, lossless": (rgb, "WEBP", {"lossless": True}),
        "bmp": (rgb, "BMP", {}),
        "bmp, palette": (palette, "BMP", {}),
        "gif": (palette, "GIF", {}),
        "ppm": (rgb, "PPM", {}),
        "pgm": (Image.fromarray(labels), "PPM", {}),
        "jpeg 2000": (rgb, "JPEG2000", {}),
        "avif": (rgb, "AVIF", {}),
    }
    files = {}
    for kind, (image, name, options) in kinds.items():
        file = io.BytesIO()
        image.save(file, name, **options)
        files[kind] = file.getvalue()
    files |= _of_bands(scene)
    members = [("a.bin", b"first " * 99), (MEMBER, files["png, RGB"]), ("i/b.bin", b"last " * 99)]
    for kind, method in (("zip", zipfile.ZIP_DEFLATED), ("zip, stored", zipfile.ZIP_STORED)):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as zipped:
            for name, data in members:
                zipped.writestr(name, data)
        files[kind] = file.getvalue()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    files["tar"] = file.getvalue()
    return files


def _of_bands(scene: np.ndarray) -> dict[str, bytes]:
    """What ``data.bands`` reads."""
    import rasterio
    from rasterio.transform import from_origin

    deep = np.concatenate([scene, scene[..., :1]], 2).astype(np.uint16) * 4
    place = {"crs": "EPSG:32632", "transform": from_origin(500_000, 5_000_000, 0.5, 0.5), "nodata": 0}
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    files = {}
    for kind, pixels, options in (
        ("bands, tiles, deflate", deep, {**tiles, **place, "compress": "deflate", "predictor": 2}),
        ("bands, planes, LZW", deep, {**tiles, "compress": "lzw", "interleave": "band"}),
        ("bands, strips, zstd, float", deep.astype(np.float32), {**place, "compress": "zstd", "blockysize": 9}),
        ("bands, BigTIFF, packbits", deep, {"bigtiff": "YES", "compress": "packbits"}),
        ("bands, JPEG", scene, {**tiles, "compress": "jpeg", "photometric": "ycbcr"}),
    ):
        with rasterio.MemoryFile() as memory:
            profile = {"driver": "GTiff", "count": pixels.shape[2], "height": SIZE[0], "width": SIZE[1]}
            with memory.open(**profile, dtype=pixels.dtype, **options) as file:
                file.write(pixels.transpose(2, 0, 1))
            files[kind] = memory.read()
    file = io.BytesIO()
    pages = [Image.fromarray(np.ascontiguousarray(deep[..., band])) for band in range(3)]
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    files["bands, pages"] = file.getvalue()
    file = io.BytesIO()
    np.save(file, np.asfortranarray(deep.astype(">u2")))
    files["bands, npy"] = file.getvalue()
    return files


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """One kind of damage, at a random place."""
    changed = np.frombuffer(data, np.uint8).copy()
    place = int(rng.integers(len(data)))
    kind = rng.integers(6)
    if kind == 0:
        changed[place] ^= 1 << rng.integers(8)
    elif kind == 1:
        places = rng.integers(len(data), size=8)
        changed[places] ^= (1 << rng.integers(8, size=8)).astype(np.uint8)
    elif kind == 2:
        places = rng.integers(min(64, len(data)), size=rng.integers(1, 4))
        changed[places] = rng.integers(0, 256, len(places))
    elif kind == 3:
        changed[place : place + int(rng.integers(1, 513))] = 0
    elif kind == 4:
        changed = changed[:place]
    else:
        changed = np.concatenate([changed[:place], changed[-12:]])
    return changed.tobytes()


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks are what their checksums say, as far as chunks can be told."""
    mended = bytearray(data)
    place = 8
    while place + 12 <= len(mended):
        end = place + 8 + int.from_bytes(mended[place : place + 4], "big")
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = zlib.crc32(mended[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(mended)


def _suffix(kind: str) -> str:
    return kind[:3] if kind.startswith(("zip", "tar")) else "bin"


def read_all(folder: Path, first: int, count: int, seed: int) -> None:
    """In a process of its own: print one line of JSON before each file and one after it."""
    from lightning_seg.data.archives.places import located
    from lightning_seg.data.readers.walking import files_below
    from lightning_seg.data.reading import ImageFile, ReadingRules, read_header, read_mask, type_of_image
    from lightning_seg.data.reading.bands import BandsFile
    from lightning_seg.data.reading.grid import grid_of
    from lightning_seg.data.reading.masks import read_mask_part
    from lightning_seg.errors import DataError

    warnings.simplefilter("ignore")
    rules = ReadingRules(ranges=((0, 1000),), max_pixels=2**20)
    readings: dict[str, Callable[[Any], object]] = {
        "header": lambda path: read_header(path, "image", rules),
        "image": lambda path: ImageFile(path, rules).whole(),
        "part": lambda path: ImageFile(path, rules).part(*PART),
        "reduced": lambda path: [ImageFile(path, rules).reduced(by) for by in ImageFile(path, rules).reductions],
        "mask": lambda path: read_mask(path, rules),
        "mask part": lambda path: read_mask_part(path, rules, SIZE, *PART),
    }
    of_bands = ReadingRules(max_pixels=2**20, bands=(3, 1), fill=(5.0, 7.0))
    banded: dict[str, Callable[[Any], object]] = {
        "header": readings["header"],
        "image": lambda path: BandsFile(path, of_bands).whole(),
        "part": lambda path: [file.read(PART) for file in [BandsFile(path, of_bands)] if file.has_parts],
        "type": lambda path: type_of_image(path, of_bands),
        "grid": lambda path: grid_of(path, "image"),
        "mask": lambda path: read_mask(path, rules),
        "mask part": lambda path: read_mask_part(path, rules, SIZE, *PART),
    }

    def ways(kind: str) -> dict[str, Callable[[Any], object]]:
        return archived if _suffix(kind) != "bin" else banded if kind.startswith("bands") else readings

    archived: dict[str, Callable[[Path], object]] = {
        name: lambda path, read=read: [files_below(path), read(located(path / MEMBER))][1]
        for name, read in readings.items()
    }
    files = originals()
    sound = {}
    for kind, data in files.items():
        path = folder / f"sound.{_suffix(kind)}"
        path.write_bytes(data)
        image = ways(kind)["image"](path)
        sound[kind] = image.tobytes()  # type: ignore[attr-defined]
        path.unlink()
    for index in range(first, count):
        kind = list(files)[index % len(files)]
        path = folder / f"{index}.{_suffix(kind)}"
        spoilt = damaged(files[kind], np.random.default_rng([seed, index]))
        if kind.startswith("png") and index // len(files) % 2:
            spoilt = with_checksums(spoilt)
        path.write_bytes(spoilt)
        print(json.dumps({"begins": index}), flush=True)
        found: dict[str, Any] = {"index": index, "kind": kind, "foreign": []}
        start = time.perf_counter()
        for name, read in ways(kind).items():
            try:
                result = read(path)
            except Exception as error:  # what it may be is the question
                found[name] = "refused"
                if not isinstance(error, DataError) or str(path) not in str(error):
                    found["foreign"].append(f"{name}: {type(error).__name__}: {error}")
            else:
                found[name] = "read"
                if name == "image":
                    found[name] = "same" if result.tobytes() == sound[kind] else "other"  # type: ignore[attr-defined]
        found["seconds"] = time.perf_counter() - start
        print(json.dumps(found), flush=True)
        if not found["foreign"]:
            path.unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where files that should not be are kept; else a temporary one")
    add_output(parser)
    parser.add_argument("--first", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.first is not None:
        read_all(folder, arguments.first, arguments.files, arguments.seed)
        return 0
    results, killed = [], []
    following = 0
    while following < arguments.files:
        command = [sys.executable, __file__, "--files", str(arguments.files), "--seed", str(arguments.seed)]
        command += ["--folder", str(folder), "--first", str(following)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        results += [line for line in lines if "index" in line]
        begun = [line["begins"] for line in lines if "begins" in line]
        if done.returncode == 0:
            break
        if not begun:
            print(done.stderr)
            return 1
        killed.append(f"{folder / str(begun[-1])} ended the process with status {done.returncode}")
        following = begun[-1] + 1
    status = report(results, killed, arguments.output)
    if not any(folder.iterdir()):
        folder.rmdir()
    return status


def report(results: list[dict[str, Any]], killed: list[str], output: Path | None) -> int:
    foreign = [f"{found['kind']}, file {found['index']}: {error}" for found in results for error in found["foreign"]]
    images: dict[str, Counter[str]] = {}
    masks: dict[str, Counter[str]] = {}
    for found in results:
        images.setdefault(found["kind"], Counter())[found["image"]] += 1
        masks.setdefault(found["kind"], Counter())[found["mask"]] += 1
    print(f"{'kind':20} {'files':>6} {'refused':>8} {'same pixels':>12} {'other pixels':>13} {'refused as mask':>16}")
    for kind, counts in images.items():
        print(
            f"{kind:20} {counts.total():6} {counts['refused']:8} {counts['same']:12} {counts['other']:13} "
            f"{masks[kind]['refused']:16}"
        )
    slowest = max(results, key=lambda found: found["seconds"])
    print(f"{len(results) + len(killed)} files: {len(killed)} ended the process, {len(foreign)} raised a foreign error")
    print(f"slowest: {slowest['seconds']:.2f} s, {slowest['kind']}, file {slowest['index']}")
    print("\n".join([*killed, *foreign][:20]))
    figures = {"ended the process": len(killed), "other errors": len(foreign), "slowest": slowest["seconds"]}
    write_figures(output, figures)
    return 1 if killed or foreign else 0


if __name__ == "__main__":
    sys.exit(main())
