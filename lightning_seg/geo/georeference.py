"""Where an image lies on the earth."""

from dataclasses import dataclass
from typing import Any

from rasterio.crs import CRS
from rasterio.transform import Affine


@dataclass(frozen=True)
class Georeference:
    """What a file says of its place; a plain image says nothing.

    Attributes:
        crs: the coordinate reference system, or None.
        transform: from column and row of a pixel's upper left corner to coordinates, or None.
        points: ground control points, in place of a transform.
        points_crs: their coordinate reference system.
        is_point: whether coordinates mean the centres of pixels (the tag ``AREA_OR_POINT``).
    """

    crs: CRS | None = None
    transform: Affine | None = None
    points: tuple[Any, ...] = ()
    points_crs: CRS | None = None
    is_point: bool = False

    @classmethod
    def of(cls, file: Any) -> "Georeference":
        """Of an open rasterio data set."""
        points, points_crs = file.gcps
        return cls(
            file.crs,
            None if file.transform.is_identity else file.transform,
            tuple(points),
            points_crs,
            file.tags().get("AREA_OR_POINT") == "Point",
        )

    def write(self, file: Any) -> None:
        """Into a rasterio data set that is open for writing."""
        if self.points:
            file.gcps = (list(self.points), self.points_crs)
        else:
            if self.crs is not None:
                file.crs = self.crs
            if self.transform is not None:
                file.transform = self.transform
        if self.is_point:
            file.update_tags(AREA_OR_POINT="Point")
