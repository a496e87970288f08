"""Callbacks: they write a run's files, checkpoints and pictures, and show its progress and speed."""

from lightning_seg.callbacks.bad_batch import BadBatch
from lightning_seg.callbacks.dashboard import Dashboard
from lightning_seg.callbacks.ema import EMA
from lightning_seg.callbacks.final_validation import FinalValidation
from lightning_seg.callbacks.image_files import ImageFiles
from lightning_seg.callbacks.last_checkpoint import LastCheckpoint
from lightning_seg.callbacks.metrics_file import MetricsFile
from lightning_seg.callbacks.pictures import ResultGrid
from lightning_seg.callbacks.position import Position
from lightning_seg.callbacks.prediction_files import PredictionFiles
from lightning_seg.callbacks.progress import ProgressBar
from lightning_seg.callbacks.rank_log import RankLog
from lightning_seg.callbacks.reseed import ReseedSteps
from lightning_seg.callbacks.result_table import ResultTable
from lightning_seg.callbacks.run_artifacts import RunArtifacts
from lightning_seg.callbacks.sample_pictures import SamplePictures
from lightning_seg.callbacks.skipped_samples import SkippedSamples
from lightning_seg.callbacks.summary import Summary
from lightning_seg.callbacks.throughput import Throughput
from lightning_seg.callbacks.vitals import Vitals

__all__ = [
    "EMA",
    "BadBatch",
    "Dashboard",
    "FinalValidation",
    "ImageFiles",
    "LastCheckpoint",
    "MetricsFile",
    "Position",
    "PredictionFiles",
    "ProgressBar",
    "RankLog",
    "ReseedSteps",
    "ResultGrid",
    "ResultTable",
    "RunArtifacts",
    "SamplePictures",
    "SkippedSamples",
    "Summary",
    "Throughput",
    "Vitals",
]
