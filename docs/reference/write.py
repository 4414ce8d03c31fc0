"""The reference of synth, pipelines and detect as HTML pages, made from their docstrings.

    python docs/reference/write.py out/docs

`make docs` sets up what it needs and runs it. The pages need no network.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import sys
import warnings
from pathlib import Path
from typing import Any, ForwardRef

# Matplotlib asks fontconfig for fonts when it is imported; pdoc forbids it otherwise, with a word.
os.environ["PDOC_ALLOW_EXEC"] = "1"

import pdoc
import pdoc.render
import pdoc.render_helpers
from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from synth import __version__

PACKAGES = ("synth", "pipelines", "detect")
# The commands have `--help`.
LEFT_OUT = "pipelines.cli"

_ARRAY = re.compile(
    r"(?:numpy\.)?ndarray\[(?:tuple\[(?:typing\.)?Any, \.\.\.\]|(?:typing\.)?Any), "
    r"(?:numpy\.)?dtype\[(?:numpy\.)?([\w.~]+)\]\]"
)
_FIELD = re.compile(r"FieldInfo\([^()\[\]]*(?:metadata=\[(.*?)\])?\)")
_BOUND = re.compile(r"\w+\((\w+)=(.*?)\)")
_CODE = re.compile(r"(`+)(.+?)\1")


class _Words:
    """An annotation that prints as it is told to."""

    def __init__(self, words: str) -> None:
        self._words = words

    def __repr__(self) -> str:
        return self._words


def shorten(annotation: str) -> str:
    """What NumPy's aliases stand for is long; the aliases are what the source says."""
    short = _ARRAY.sub(lambda found: f"NDArray[{found[1].replace('bool_', 'bool')}]", annotation)
    # Bounds of a setting, as pydantic keeps them.
    short = _FIELD.sub(lambda found: _BOUND.sub(r"\1=\2", found[1] or ""), short)
    short = short.replace("typing.", "").replace("PydanticUndefined", "required")
    return re.sub(r"(?:typing\.)?ForwardRef\(['\"](.*?)['\"][^)]*\)", r"\1", short)


def _format_signature(signature: inspect.Signature, colon: bool) -> Markup:
    def short(annotation: Any) -> Any:
        if annotation is inspect.Signature.empty or annotation is None:
            return annotation
        if isinstance(annotation, ForwardRef):
            return _Words(annotation.__forward_arg__)
        words = inspect.formatannotation(annotation)
        return _Words(shorten(words)) if shorten(words) != words else annotation

    parameters = [
        parameter.replace(annotation=short(parameter.annotation))
        for parameter in signature.parameters.values()
    ]
    signature = signature.replace(
        parameters=parameters, return_annotation=short(signature.return_annotation)
    )
    return pdoc.render_helpers.format_signature(signature, colon)


@pass_context
def _linkify(context: Context, code: str, *places: str, **settings: Any) -> Markup:
    return pdoc.render_helpers.linkify(context, shorten(code), *places, **settings)


def _first_line(docstring: str) -> Markup:
    """What a module is, in one line."""
    line = next(iter(docstring.splitlines()), "")
    return Markup(_CODE.sub(r"<code>\2</code>", str(escape(line))))


def write_reference(out: Path) -> None:
    """Write one page for every module, an index, and a search over all of them."""
    pdoc.render.configure(
        docformat="numpy",
        footer_text=f"sirst-synth {__version__}",
        template_directory=Path(__file__).parent,
    )
    pdoc.render.env.globals["packages"] = PACKAGES
    pdoc.render.env.filters["format_signature"] = _format_signature
    pdoc.render.env.filters["linkify"] = _linkify
    pdoc.render.env.filters["first_line"] = _first_line
    with warnings.catch_warnings():
        # Records of named tuples keep their annotations as words, which print as well.
        warnings.filterwarnings("ignore", message="Error parsing type annotation")
        # Where a package has an `__all__`, pdoc leaves out modules that it does not list.
        warnings.filterwarnings("ignore", message="The module specification")
        modules = [
            module.name
            for package in map(importlib.import_module, PACKAGES)
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        ]
        pdoc.pdoc(*PACKAGES, *modules, f"!{LEFT_OUT}", output_directory=out)


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]))
