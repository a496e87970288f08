"""Without the libraries of the extra, the first import says what to install."""

import sys

import pytest

from lightning_seg.errors import DependencyError


@pytest.mark.parametrize("library", ["rasterio", "pyogrio", "shapely"])
def test_a_missing_library_is_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("lightning_seg.geo")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DependencyError, match=rf"{library} is not installed .*pip install 'lightning_seg\[geo\]'"):
        import lightning_seg.geo.windows  # noqa: F401
