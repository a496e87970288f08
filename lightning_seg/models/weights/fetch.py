"""Finds or downloads the file of a source of weights, and checks its hash."""

import hashlib
import re
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from lightning_seg.config_paths import expanded
from lightning_seg.errors import CheckpointError
from lightning_seg.hints import did_you_mean
from lightning_seg.models.backbones.timm_names import require_timm
from lightning_seg.waiting import within

_TIMEOUT = 4.0
"""How many seconds a server has to answer before it counts as out of reach."""

_MASK2FORMER_ZOO = "https://dl.fbaipublicfiles.com/maskformer/mask2former/"

_MD5_NAME = re.compile(r"_([0-9a-f]{6})\.pkl$")
_SHA256_NAME = re.compile(r"-(?!20\d\d[01]\d[0-3]\d\.)([0-9a-f]{8,64})\.(?:pth|pt|safetensors)$")  # no dates


_HEURISTICS = re.compile(r"\?matching_heuristics=(True|False)$")


def split_query(source: str) -> tuple[str, bool]:
    """Split a source into its place, and whether Detectron2's query at its end asks to match ends of names.

    >>> split_query("f.pth?matching_heuristics=True")
    ('f.pth', True)
    >>> split_query("https://a.org/f.pth?download=1")
    ('https://a.org/f.pth?download=1', False)
    """
    query = _HEURISTICS.search(source)
    return (source, False) if query is None else (source[: query.start()], query[1] == "True")


def fetch_weights(source: str) -> Path:
    """Find, or download, the file of a source.

    Args:
        source: a path (``~`` and ``$VARIABLES`` are resolved), ``https://…``, ``detectron2://…`` or ``timm://NAME``.

    Raises:
        CheckpointError: if there is no such file, it cannot be downloaded, or its hash is not the one in its name.
        DependencyError: if timm is needed and missing.
    """
    scheme, separator, rest = source.partition("://")
    if not separator:
        path = Path(expanded(source))
        if not path.is_file():
            seen = "" if str(path) == source else f" ({path})"
            raise CheckpointError(f"weights {source} do not exist{seen}")
    elif scheme == "timm":
        path = _fetch_timm(rest, source)
    elif scheme in ("detectron2", "http", "https"):
        path = _fetch_url(_web_address(source), source)
    else:
        raise CheckpointError(
            f"weights {source} are of an unknown kind: give a path, https://…, detectron2://… or timm://NAME"
        )
    check_hash(path)
    return path


def licence_of(source: str) -> str | None:
    """The licence that publishes the weights of a source, as its publisher names it; None if nothing here says it.

    timm's catalogue names that of each of its weights. Detectron2's model zoo and Mask2Former's name one for
    all (``MODEL_ZOO.md`` of each).

    Args:
        source: as :func:`fetch_weights` takes it, already fetched.
    """
    scheme, _, rest = source.partition("://")
    if scheme == "timm":
        import timm

        return getattr(timm.get_pretrained_cfg(rest), "license", None) or None
    if source.startswith(_MASK2FORMER_ZOO):
        return "CC BY-NC 4.0"
    return "CC BY-SA 3.0" if scheme == "detectron2" else None


def check_hash(path: Path) -> None:
    """Compare a file with the hash in its name, if it has one.

    Names of Detectron2's model zoo end in ``_`` and six digits of the MD5, those of torch's hub (torchvision, timm,
    mmsegmentation) in ``-`` and at least eight digits of the SHA-256.

    Raises:
        CheckpointError: if they differ.
    """
    for pattern, algorithm in ((_MD5_NAME, "md5"), (_SHA256_NAME, "sha256")):
        if match := pattern.search(path.name.partition("?")[0]):
            with path.open("rb") as file:
                digest = hashlib.new(algorithm, usedforsecurity=False)
                while block := file.read(1 << 20):
                    digest.update(block)
            found = digest.hexdigest()[: len(match[1])]
            if found != match[1]:
                raise CheckpointError(
                    f"{path} is damaged: its {algorithm} begins with {found}, its name says {match[1]}: "
                    "delete the file and download it again (or rename it, if its name means something else)"
                )


def cache_path(url: str) -> Path:
    """The path at which iopath caches a URL (``HTTPURLHandler`` in ``iopath/common/file_io.py``)."""
    return _cache() / Path(urlsplit(url).path.lstrip("/")).parent / url.rpartition("/")[2]


def _cache() -> Path:
    """``$FVCORE_CACHE``, else ``~/.torch/iopath_cache``, or a temporary folder if that cannot be written."""
    from iopath.common.file_io import get_cache_dir

    return Path(get_cache_dir())


def _web_address(source: str) -> str:
    if not source.startswith("detectron2://"):
        return source
    from detectron2.utils.file_io import Detectron2Handler

    return str(Detectron2Handler.S3_DETECTRON2_PREFIX + source.removeprefix(Detectron2Handler.PREFIX))


def _fetch_url(url: str, source: str) -> Path:
    from detectron2.utils.file_io import PathManager

    path = cache_path(url)
    if path.is_file():
        return path
    if reason := _out_of_reach(url):
        raise _not_downloaded(source, reason, url, path)
    try:
        return Path(PathManager.get_local_path(url))
    except Exception as error:  # iopath passes on whatever the download raised
        raise _not_downloaded(source, str(error), url, path) from None


def _fetch_timm(name: str, source: str) -> Path:
    """Find the file of timm's weights in this project's cache or in Hugging Face's, else download it from the hub."""
    require_timm(f"model.weights {source}")
    import timm
    from huggingface_hub import constants, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    config = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None
    if config is None or not config.has_weights:
        hint = did_you_mean(name, timm.list_pretrained()) or "; timm.list_pretrained() lists those that have"
        raise CheckpointError(f"timm has no pretrained weights {name}{hint}")
    if not config.hf_hub_id:
        return _fetch_url(str(config.url), source)

    files = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    own = _cache() / "timm" / f"{name}{Path(files[0]).suffix}"
    if own.is_file():
        return own
    for file in files:
        if isinstance(cached := try_to_load_from_cache(config.hf_hub_id, file), str):
            return Path(cached)
    url = hf_hub_url(config.hf_hub_id, files[0])
    if reason := "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _out_of_reach(url):
        raise _not_downloaded(source, reason, url, own)
    for file in files:
        try:
            return Path(hf_hub_download(config.hf_hub_id, file))
        except EntryNotFoundError:
            continue
        except Exception as error:  # the hub's client passes on whatever the download raised
            raise _not_downloaded(source, str(error), url, own) from None
    raise _not_downloaded(source, f"the hub has no {' or '.join(files)}", url, own)


def _not_downloaded(source: str, reason: str, url: str, path: Path) -> CheckpointError:
    return CheckpointError(
        f"weights {source} cannot be downloaded ({reason}): download {url} elsewhere and put it at {path}, or give "
        'its path with --model.weights FILE; --model.weights "" trains from random weights'
    )


def _out_of_reach(url: str) -> str | None:
    """Why the server does not answer; None if it answers, also with an error, since the download reports that."""

    def ask() -> str | None:
        try:
            urlopen(Request(url, method="HEAD"), timeout=_TIMEOUT).close()
        except HTTPError:
            return None
        except Exception as error:  # no name server, no route, a proxy that refuses, a malformed address
            return str(getattr(error, "reason", error))
        return None

    answer = within(_TIMEOUT, ask)
    return answer[0] if answer else f"no answer in {_TIMEOUT:g} s"
