"""A folder of predictions that can be gone on with: what is done is left as it is, what is there is never mixed up."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_seg.data.reading.video import Frame, frames_per_second
from lightning_seg.errors import ConfigError
from lightning_seg.files import remove_drafts
from lightning_seg.predictions import coco, rasters
from lightning_seg.predictions.formats import FORMATS, USUAL_FORMATS, file_of
from lightning_seg.predictions.prediction import Prediction
from lightning_seg.predictions.rasters import save_raster, save_whole
from lightning_seg.predictions.record import MADE_WITH, Input, Inputs, differences, read_record, write_record
from lightning_seg.predictions.video import join_frames
from lightning_seg.structures import DatasetInfo, Sample, summarise

if TYPE_CHECKING:  # of an extra
    from lightning_seg.geo.predicting import LabelBands
    from lightning_seg.geo.windows import WindowedImage

VIDEOS = "videos"
"""The folder of the videos of overlays."""


class PredictionFolder:
    """Where predictions are written, and which of them are there.

    Args:
        path: of the folder.
        formats: names of :data:`~lightning_seg.predictions.FORMATS`.
        made_with: plain values that decide what is predicted; None: it is not known, and nothing that is there counts.
        overwrite: whether to begin anew.
    """

    def __init__(
        self,
        path: Path,
        formats: Sequence[str] = USUAL_FORMATS,
        made_with: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        self.path = path
        self.formats = formats
        self.made_with = made_with
        self.overwrite = overwrite
        self._inputs = Inputs(path)

    def move_to(self, path: Path) -> None:
        """Write to another folder than was said; nothing has been written."""
        self.path = path
        self._inputs = Inputs(path)

    def refuse_others(self) -> None:
        """Refuse a folder that holds something else, before anything is written.

        Raises:
            ConfigError: if it holds predictions of another checkpoint or of other settings, and is not to be
                overwritten, or files that no prediction has written.
        """
        before = read_record(self.path)
        if before is None:
            files = (*coco.FILES, "config.yaml")
            taken = [name for name in (*self.formats, VIDEOS) if any((self.path / name).glob("*"))]
            if taken or (taken := [name for name in files if (self.path / name).exists()]):
                raise ConfigError(
                    f"{self.path} holds {taken[0]}, and nothing says that predict wrote it: give another --output"
                )
        elif not self.overwrite and (changed := differences(before, self.made_with or {})):
            raise ConfigError(
                f"{self.path} holds predictions that were made otherwise ({summarise(changed, 3)}): give another "
                "--output, or --overwrite to put new ones in their place"
            )

    def claim(self) -> None:
        """Make the folder and say what its predictions are made with, where nothing says so yet.

        It comes before all other files: one without it is taken for somebody else's.

        Raises:
            ConfigError: if it cannot be made or written to.
            DiskFullError: if there is no room.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if self.made_with is not None and read_record(self.path) is None:
                write_record(self.path, self.made_with)
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written to ({error.strerror}): give another --output") from None

    def begin(self, samples: Sequence[Sample]) -> set[int]:
        """Make the folder ready, on one process and before any other writes.

        Args:
            samples: what is to be predicted.

        Returns:
            Positions of those whose predictions are there, in all formats, of the file as it is now.
        """
        if self.made_with is None:
            for path in [self.path / MADE_WITH, *self._joined(samples)]:
                path.unlink(missing_ok=True)
            return set()
        self.path.mkdir(parents=True, exist_ok=True)
        remove_drafts(self.path)
        names = [sample.name for sample in samples]
        inputs = self._inputs.join(names)
        if self.overwrite or read_record(self.path) != self.made_with:
            self._remove(inputs)
            inputs = {}
        write_record(self.path, self.made_with)
        done = set()
        for position, sample in enumerate(samples):
            if (before := inputs.get(sample.name)) is None:
                continue
            if before != Input.of(sample):
                self._remove_files(sample.name)  # also in formats that are not asked for now
            elif all(self._is_there(form, sample.name) for form in self.formats):
                done.add(position)
        if len(done) < len(samples) or [*inputs] != names:
            for path in self._joined(samples):
                path.unlink(missing_ok=True)
        return done

    def write(self, prediction: Prediction, file: Path | None, rank: int, place: "WindowedImage | None" = None) -> None:
        """Write the files of one prediction, then note that they are there.

        Args:
            prediction: of an image.
            file: of the image; None: it is not known, and the prediction is not noted.
            rank: of this process.
            place: the image in its file where that says where it lies; it is closed.

        Raises:
            DataError: if the sample's name leads out of the folder.
            DiskFullError: if there is no room.
        """
        before = None if file is None else Input.of(Sample(prediction.name, file))
        save_whole(prediction, self.path, self.formats, place)
        self._note(before, rank)

    def write_by_windows(
        self, name: str, image: "WindowedImage", bands: "LabelBands", info: DatasetInfo, rank: int
    ) -> None:
        """Predict and write an image that is read by windows; rows that a killed process has written are kept.

        Args:
            name: the files' relative path without suffix.
            image: in its file.
            bands: predicts label maps from a row on.
            info: class names and palette.
            rank: of this process.

        Raises:
            DataError: if the image is damaged, or a format wants it whole.
            DiskFullError: if there is no room.
        """
        before = Input.of(Sample(name, image.path))
        anew = self.overwrite or self.made_with is None
        save_raster(image, bands, name, info, self.path, self.formats, self.made_with or {}, overwrite=anew)
        self._note(before, rank)

    def _note(self, done: Input | None, rank: int) -> None:
        if done is not None and self.made_with is not None:
            self._inputs.note(done, rank)

    def close(self) -> None:
        """Write no more from this process."""
        self._inputs.close()

    def end(self, samples: Sequence[Sample], class_names: Sequence[str]) -> None:
        """Join what belongs together, on one process and after all others have written; what is there stays.

        Args:
            samples: what was to be predicted; those that could not be are left out.
            class_names: K names in id order.
        """
        if self.made_with is not None:
            self._inputs.join(sample.name for sample in samples)
        if "coco" in self.formats and not all((self.path / name).is_file() for name in coco.FILES):
            parts = [(sample, file_of(self.path, "coco", sample.name)) for sample in samples]
            there = [(sample.name, _file_name(sample), path) for sample, path in parts if path.is_file()]
            coco.join(self.path, there, class_names)
        if "overlays" in self.formats:
            for (video, path), frames in self._videos(samples).items():
                pictures = [picture for name in frames if (picture := file_of(self.path, "overlays", name)).is_file()]
                if pictures and not path.is_file():
                    join_frames(pictures, path, frames_per_second(video))

    def _joined(self, samples: Sequence[Sample]) -> list[Path]:
        """The files that many predictions are joined in."""
        return [*(self.path / name for name in coco.FILES), *(path for _, path in self._videos(samples))]

    def _videos(self, samples: Sequence[Sample]) -> dict[tuple[Path, Path], list[str]]:
        """Each video with the path of its overlays, and the names of its frames."""
        videos: dict[tuple[Path, Path], list[str]] = {}
        for sample in samples:
            if isinstance(sample.image, Frame):
                path = self.path / VIDEOS / f"{sample.name.rpartition('/')[0]}.mp4"
                videos.setdefault((sample.image.video, path), []).append(sample.name)
        return videos

    def _remove(self, inputs: Iterable[str]) -> None:
        """Remove the predictions of some inputs, by name, and what says of them."""
        for name in inputs:
            self._remove_files(name)
        for form in FORMATS:
            folders = [path for path in (self.path / form).rglob("*") if path.is_dir()]
            for folder in [*sorted(folders, reverse=True), self.path / form]:
                with suppress(OSError):  # it is not there, or holds something else
                    folder.rmdir()
        self._inputs.remove()

    def _is_there(self, form: str, name: str) -> bool:
        """Whether a file is there and not empty, as a power cut may leave it."""
        paths = (file_of(self.path, form, name), *rasters.files_of(self.path, form, name))
        return any(path.is_file() and path.stat().st_size for path in paths)

    def _remove_files(self, name: str) -> None:
        for form in FORMATS:
            for path in (file_of(self.path, form, name), *rasters.files_of(self.path, form, name)):
                path.unlink(missing_ok=True)


def _file_name(sample: Sample) -> str:
    """What COCO calls an image: its name with the suffix of its file."""
    suffix = Path(str(sample.image)).suffix
    return sample.name if sample.name.endswith(suffix) else sample.name + suffix
