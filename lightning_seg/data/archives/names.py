"""Names of members as paths within their archive."""

from lightning_seg.errors import DataError


def name_within(archive: str, stored: str) -> str:
    """The path of a member below its archive, without ``.`` and empty parts.

    >>> name_within("set.zip", "./images//a.png")
    'images/a.png'

    Raises:
        DataError: if it is absolute or has ``..``: it leads out of the archive.
    """
    parts = [part for part in stored.split("/") if part not in ("", ".")]
    if stored.startswith("/") or ".." in parts:
        raise DataError(
            f"archive {archive} has a member named {stored!r}, which leads out of it: make the archive anew, with "
            "names relative to its folder"
        )
    return "/".join(parts)
