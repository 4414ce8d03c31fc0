"""The errors that the data side raises: one line each, with the file and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class SynthError(Exception):
    """Base of every error of the data side; its text is one line for a person."""


class FileError(SynthError):
    """Base of the errors about one file: its path, and what is wrong with it and what to do."""

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = Path(path)
        self.problem = problem

    def __reduce__(self) -> tuple[type[FileError], tuple[Path, str]]:
        # Exceptions cross process borders; the default would call __init__ with one argument.
        return type(self), (self.path, self.problem)


class FrameError(FileError):
    """A file is not a frame or a mask that can be read or written."""


class DatasetError(FrameError):
    """A data set's folders, lists or pairs do not fit together."""


class MaskError(DatasetError):
    """The values of masks do not say what is target."""


class LossyError(DatasetError):
    """Lossy compression has changed the values of masks, so that no label can be told."""


class InvertedError(DatasetError):
    """Masks mark most of their pixels as target."""


class NoiseError(SynthError):
    """Noise cannot be sampled, read, or put on an image of another bit depth."""


class RecipeError(SynthError):
    """A recipe asks for something that the data set cannot give."""


class QualityError(SynthError):
    """A quality model cannot be fitted or read, or a frame cannot be scored with it."""


class SkippedWarning(UserWarning):
    """A link was not followed: it is broken, circular, or leads to a folder already read."""


class StoreError(FileError):
    """An output directory or a file in it cannot be written, or is not what it should be."""


class ResumableError(Exception):
    """Base of errors that stop a build whose finished outputs are sound: the next run goes on."""


def no_such(what: str, name: object, known: Iterable[object]) -> str:
    """Say that nothing has a name: ``no step is called 'trun'; did you mean 'turn'?``.

    Parameters
    ----------
    what : str
        The kind of thing, such as ``"step"``.
    name : object
        What was asked for; quoted in at most 80 characters.
    known : iterable
        The names that there are; all of them are listed where none is near.
    """
    return f"no {what} is called {str(name)!r:.80}; {nearest_name(str(name), known)}"


def nearest_name(name: str, known: Iterable[object]) -> str:
    """The second half of such a message: the name that may have been meant, or all of them."""
    names = [str(one) for one in known]
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names) or 'none'}"
