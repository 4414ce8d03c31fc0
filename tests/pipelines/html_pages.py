"""What tests look at in a page: its elements, its text, and whether it needs anything else."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np

_VOID = {"img", "meta"}
_TEXT = {"style", "title"}


class Page(HTMLParser):
    """The elements of a page, in order, with their attributes and the text inside each."""

    def __init__(self, source: str | bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(source if isinstance(source, str) else source.decode("utf-8"))
        self.close()
        assert not self._open, f"never closed: {self._open}"

    @classmethod
    def read(cls, path: Path) -> Page:
        return cls(path.read_bytes())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def inside(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    @property
    def text(self) -> str:
        return " ".join(text for tag, text in self.texts if tag not in _TEXT)

    def pictures(self) -> list[np.ndarray]:
        """Every picture, decoded."""
        found = []
        for attributes in self.all("img"):
            data = base64.b64decode(attributes["src"].partition("base64,")[2], validate=True)
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            assert picture is not None
            found.append(picture)
        return found


def require_sound(page: Page) -> None:
    """The page runs nothing, loads nothing, and can be read without eyes."""
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "data", "srcset", "action"):
            if name in attributes:
                assert attributes[name].startswith(("#", "data:image/"))
    for style in page.inside("style"):
        assert "url(" not in style
        assert "@import" not in style
        assert "prefers-color-scheme: dark" in style
        assert "@media print" in style
    assert page.all("html") == [{"lang": "en"}]
    for landmark in ("header", "main", "footer", "nav", "h1"):
        assert len(page.all(landmark)) == 1
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in page.all("a"):
        assert attributes["href"][1:] in ids
    for attributes in page.all("section"):
        assert attributes["aria-labelledby"] in ids
    for attributes, picture in zip(page.all("img"), page.pictures(), strict=True):
        assert attributes["alt"].strip()
        assert picture.shape[:2] == (int(attributes["height"]), int(attributes["width"]))
    for attributes in page.all("svg"):
        assert attributes["role"] == "img"
        assert attributes["aria-label"].strip()
    assert len(page.all("caption")) == len(page.all("table"))
    for attributes in page.all("th"):
        assert attributes["scope"] in ("col", "row")
    assert all(text.strip() for text in page.inside("th"))
