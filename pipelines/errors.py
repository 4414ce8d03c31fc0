"""The errors of configuration and of what lies on disk."""

from __future__ import annotations

from synth.errors import ResumableError


class PipelineError(Exception):
    """Base of this package's errors; its text is one line for a person."""


class ConfigError(PipelineError):
    """A configuration file, or a value set on the command line, is wrong."""


class ClusterError(PipelineError, ResumableError):
    """The machines of a cluster cannot be reached or were lost; what was made before is sound."""


class FetchError(PipelineError):
    """A download, an archive or what is in it is not what it should be."""
