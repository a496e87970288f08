"""What watches a run: files, pictures, progress and speed."""

from lightning_seg.callbacks.dashboard import Dashboard
from lightning_seg.callbacks.metrics_file import MetricsFile
from lightning_seg.callbacks.pictures import ResultGrid
from lightning_seg.callbacks.prediction_files import PredictionFiles
from lightning_seg.callbacks.progress import ProgressBar
from lightning_seg.callbacks.sample_pictures import SamplePictures
from lightning_seg.callbacks.throughput import Throughput
from lightning_seg.callbacks.vitals import Vitals

__all__ = [
    "Dashboard",
    "MetricsFile",
    "PredictionFiles",
    "ProgressBar",
    "ResultGrid",
    "SamplePictures",
    "Throughput",
    "Vitals",
]
