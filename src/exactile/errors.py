"""The errors that exactile raises for a user to read.

Each message says what was given, which rule it breaks, and what to do. The command line prints the
message alone; whatever else is raised is a defect, of which `exactile.failures` makes one too.
"""


class ExactileError(Exception):
    """Something the user can mend; the message stands by itself."""


class SettingsError(ExactileError):
    """A setting that makes no sense, or does not fit the others."""


class CollectionError(ExactileError):
    """A folder or a pattern that gives no images."""


class ImageError(ExactileError):
    """An image that cannot be read as it should; the message names the file."""


class ModelError(ExactileError):
    """A model that cannot be loaded, or does not fit the image."""


class PlanError(ExactileError):
    """A tile size that no exact plan exists for; the message gives the least that works."""


class OutputError(ExactileError):
    """An output that cannot be written: not permitted, or no room left."""


class StatisticsError(ExactileError):
    """Statistics measured before that are missing, damaged, or of something else."""


class PlatformError(ExactileError):
    """A system that exactile does not run on."""
