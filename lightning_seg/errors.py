"""Errors that tell a user what is wrong, where, and what to do about it.

The command line prints the message alone, without a stack trace, and exits with status 1.
"""


class LightningSegError(Exception):
    """Base of every error that a user, not a developer, can mend."""


class ConfigError(LightningSegError):
    """A setting that cannot work: an unknown Detectron2 key, two settings that contradict each other."""


class DataError(LightningSegError):
    """An image, a mask or a folder that cannot be used as it is."""


class LossyMaskError(DataError):
    """A mask in a format that changes label values."""


class IgnoreIsClassError(ConfigError):
    """What should mean ignored pixels means a class as well."""


class CheckpointError(LightningSegError):
    """A checkpoint or weight file that is missing, unreadable or made for another model."""


class DependencyError(LightningSegError):
    """A library that must be installed first."""
