"""The errors of configuration and of what lies on disk."""

from __future__ import annotations

from pathlib import Path


class PipelineError(Exception):
    """Base of this package's errors; its text is one line for a person."""


class ConfigError(PipelineError):
    """A configuration file, or a value set on the command line, is wrong."""


class ClusterError(PipelineError):
    """The machines of a cluster cannot be reached or were lost; what was made before is sound."""


class FetchError(PipelineError):
    """A download, an archive or what is in it is not what it should be."""


class StoreError(PipelineError):
    """An output directory or a file in it cannot be written, or is not what it should be.

    Parameters
    ----------
    path : Path or str
        The file or directory.
    problem : str
        What is wrong with it, and what to do.
    """

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = Path(path)
        self.problem = problem

    def __reduce__(self) -> tuple[type[StoreError], tuple[Path, str]]:
        # Exceptions cross process borders; the default would call __init__ with one argument.
        return type(self), (self.path, self.problem)
