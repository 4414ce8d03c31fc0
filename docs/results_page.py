"""The page of results: its tables and numbers are written from the committed files.

``python docs/results_page.py docs/results.md`` (`make results`) fills what is between

    <!-- table: scores b-wide splits=test,test+tta9 arms=originals,taught -->
    <!-- end -->

from the files of ``docs/results``, draws the learning curves of the page, and lists numbers that it
did not write. Tables:

``scores STUDY``
    Means over seeds and differences to the baseline, by split and arm.
``short``
    The same for lines ``QUESTION | STUDY | ARM | SPLIT`` that follow within the marker.
``pd-at-fa STUDY``
    The greatest Pd within limits on Fa, where scores image by image are there.
``reach STUDY``
    After which step arms are where their baseline ends.
``missing``
    What the configurations ask for and no file has.

Each takes ``splits=`` and ``arms=``; ``missing`` takes ``without=STUDY,…``. In ``late.csv`` (study,
arm, split; an empty one stands for all) is what was planned after the test images had been read: it
is marked with a dagger.

The text gives no scores, which stand in the tables. A setting in it is a value that is filled too,
as ``<!-- = b-wide.steps -->14,000<!-- = -->``:

``STUDY.KEY``
    A key of the study's configuration, or of the training of its arms (``b-wide.augment.crop``).
``STUDY.labels``
    The fraction of the training images that was trained on.
``STUDY.images of SET``
    How many of a set's images that is; ``STUDY.validation_images of SET`` those held out.
``SET.KEY``
    A column of ``sets.csv``.
``level``, ``threshold``, ``unit.iou``, ``unit.fa``
    Of the intervals and the scores.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detect.evaluate import Rules
from pipelines.bootstrap import LEVEL
from pipelines.errors import PipelineError
from pipelines.study_config import evaluations, read_study
from pipelines.study_figure import plot_curves
from pipelines.study_results import RUN_COLUMNS, RUNS_CSV, read_table, recompute
from pipelines.study_sets import share_of
from synth.disk.files import replace_file
from synth.errors import StoreError, SynthError

LATE_CSV, LATE_COLUMNS = "late.csv", ("study", "arm", "split")
SETS_CSV, SET_COLUMNS = "sets.csv", ("set", "train", "test", "near_duplicates")
DAGGER = "†"

_UNITS = {"iou": 1e-2, "pd": 1e-2, "fa": 1e-6}
_CONSTANTS = {
    "level": f"{LEVEL:.0%}",
    "threshold": f"{Rules().threshold:g}",
    "unit.iou": "10⁻²",
    "unit.fa": "10⁻⁶",
}
_NAMES = {"iou": "IoU", "pd": "Pd", "fa": "Fa"}
_TABLE = re.compile(
    r"^(<!-- table: (?P<kind>[\w-]+)(?P<words>[^\n]*?)(?P<lines>\n.*?)?-->\n)"
    r"(?P<body>.*?)(?P<end><!-- end -->)",
    re.DOTALL | re.MULTILINE,
)
_VALUE = re.compile(r"(<!-- = (?P<name>[^\n>]+) -->)(?P<value>[^\n<]*)(?P<end><!-- = -->)")
# A comment at the beginning of a line makes all of the line HTML.
_VALUE_AT_START = re.compile(r"^[\s>*-]*<!-- = ", re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
# Digits, but in names such as `test+tta9`; words for numbers, and what differences are given in.
_NUMBER = re.compile(
    r"(?<![\w.])[+−-]?\d[\d.,]*(?<=\d)%?|(?<![\w.-])(?:two|three|four|five|six|seven|eight|nine|ten|eleven"
    r"|twelve|twenty|hundred|thousand|twice|thrice|dozens?|hal(?:f|ves)|thirds?|quarters?|fifths?"
    r"|tenths?|percent|points?)\b",
    re.IGNORECASE,
)
_PICTURE = re.compile(r"\]\(results/([\w.-]+)-curves\.png\)")

Summaries = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Files:
    """What a page is written from.

    Attributes
    ----------
    results : Path
        The folder of results.
    configs : Path
        The folder of the studies' configurations.
    """

    results: Path
    configs: Path


def fill(page: str, files: Files) -> str:
    """Write every table and every value of a page anew.

    Raises
    ------
    StoreError
        A marker has no end, or asks for a table, arm, split or value that is not there, or a file
        is damaged.
    ConfigError
        A configuration is missing or wrong.
    """
    begun = len(re.findall(r"^<!-- table:", page, re.MULTILINE))
    if begun != len(_TABLE.findall(page)):
        raise StoreError(
            "<!-- table: … -->", "has no <!-- end --> after it; add one to each marker"
        )
    if page.count("<!-- = ") != 2 * len(_VALUE.findall(page)):
        raise StoreError("<!-- = … -->", "has no <!-- = --> on its line; add one to each value")
    if _VALUE_AT_START.search(page):
        raise StoreError("<!-- = … -->", "begins a line; move a word before it")
    summaries = {one["study"]: one for one in recompute(files.results)}
    late = [tuple(row.values()) for row in read_table(files.results / LATE_CSV, LATE_COLUMNS)]

    def table(match: re.Match[str]) -> str:
        marker = _Marker.read(match, files, summaries, late)
        rows = _KINDS[match["kind"]](marker) if match["kind"] in _KINDS else None
        if rows is None:
            raise marker.error(f"there is no such table; there are {', '.join(_KINDS)}")
        text = "\n".join(rows)
        return f"{match[1]}\n{text}\n\n{match['end']}"

    def value(match: re.Match[str]) -> str:
        return f"{match[1]}{_value(match['name'], files)}{match['end']}"

    return _VALUE.sub(value, _TABLE.sub(table, page))


def loose_numbers(page: str) -> list[str]:
    """List numbers of the text, in digits or words, that `fill` does not write.

    The questions of a short table are text as well.

    Returns
    -------
    list of str
        Each ``SECTION: NUMBER``.
    """

    def text(match: re.Match[str]) -> str:
        return "\n".join(line.partition("|")[0] for line in (match["lines"] or "").splitlines())

    found = []
    for section in re.split(r"^(?=## )", page, flags=re.MULTILINE):
        title = section.partition("\n")[0].lstrip("# ")
        prose = _COMMENT.sub(" ", _VALUE.sub(" ", _TABLE.sub(text, section)))
        found += [f"{title}: {number}" for number in _NUMBER.findall(prose)]
    return found


def _value(name: str, files: Files) -> str:
    """What a value is, as text."""
    if name in _CONSTANTS:
        return _CONSTANTS[name]
    sets = {row["set"]: row for row in read_table(files.results / SETS_CSV, SET_COLUMNS)}
    key_of, _, of = name.partition(" of ")
    owner, _, key = key_of.partition(".")
    error = StoreError(f"<!-- = {name} -->", "there is no such value")
    if owner in sets and key in SET_COLUMNS[1:] and not of:
        return f"{int(sets[owner][key]):,}"
    path = files.configs / f"{owner}.yaml"
    if not path.is_file() or (of and of not in sets):
        raise error
    config, arms = read_study(path)
    runs = [
        (row["arm"], float(row["fraction"]))
        for row in read_table(files.results / RUNS_CSV, RUN_COLUMNS)
        if row["study"] == config.name
    ]
    fractions = {fraction for _, fraction in runs} or {*config.fractions}
    done = {arm for arm, _ in runs} or {*config.arms}
    known: set[object]
    if of and key in ("images", "validation_images"):
        whole = int(sets[of]["train"])
        held = share_of(config.validation, whole)
        known = {share_of(one, whole - held) for one in fractions} if key == "images" else {held}
    elif key == "labels":
        known = {_share(fraction) for fraction in fractions}
    elif hasattr(config, key):
        known = {getattr(config, key)}
    else:
        known = {_at(arm.train, key) for arm in arms if arm.name in done}
    if len(known) != 1 or not isinstance(one := known.pop(), int | float | str):
        raise error
    return one if isinstance(one, str) else f"{one:,}"


def _at(settings: object, key: str) -> object:
    for name in key.split("."):
        settings = getattr(settings, name, None)
    return settings


@dataclass(frozen=True)
class _Marker:
    """A marker's words, and what it is filled from."""

    text: str
    study: str
    keys: Mapping[str, Sequence[str]]
    lines: Sequence[str]
    files: Files
    summaries: Summaries
    late: Sequence[tuple[str, ...]]

    @classmethod
    def read(
        cls,
        match: re.Match[str],
        files: Files,
        summaries: Summaries,
        late: Sequence[tuple[str, ...]],
    ) -> _Marker:
        words = match["words"].split()
        keys = {
            key: value.split(",") for key, is_, value in (w.partition("=") for w in words) if is_
        }
        names = [word for word in words if "=" not in word]
        lines = [line.strip() for line in (match["lines"] or "").splitlines() if line.strip()]
        text = f"{match['kind']} {' '.join(words)}".strip()
        marker = cls(text, names[0] if names else "", keys, lines, files, summaries, late)
        if len(names) > 1 or not keys.keys() <= {"arms", "splits", "without"}:
            raise marker.error("give one study, and arms=, splits= or without=")
        return marker

    def error(self, problem: str) -> StoreError:
        """An error that names the marker."""
        return StoreError(f"<!-- table: {self.text} -->", problem)

    def entries(self) -> list[Mapping[str, Any]]:
        """What the study's comparison has for these arms and splits."""
        table = self.summaries[self.study]["table"] if self.study in self.summaries else []
        for key, name in (("splits", "split"), ("arms", "arm")):
            known = dict.fromkeys(entry[name] for entry in table)
            for one in self.keys.get(key, ()) if table else ():
                if one not in known:
                    raise self.error(f"there is no {name} {one!r}; there are {', '.join(known)}")
        return [
            entry
            for entry in table
            if entry["split"] in self.keys.get("splits", [entry["split"]])
            and entry["arm"] in self.keys.get("arms", [entry["arm"]])
        ]

    def mark(self, study: str, entry: Mapping[str, Any]) -> str:
        """The arm's name, with a dagger where it, or reading the split, was planned late."""
        name = (study, entry["arm"], entry["split"])
        is_late = entry["split"] != "val" and any(
            all(one in ("", own) for one, own in zip(line, name, strict=True)) for line in self.late
        )
        return f"`{entry['arm']}`{f' {DAGGER}' if is_late else ''}"


def _scores(marker: _Marker) -> list[str]:
    entries = marker.entries()
    if not entries:
        return ["*Not run yet.*"]
    head = ["evaluated on", "arm", "seeds"]
    rows = [
        [_split(entry), marker.mark(marker.study, entry), _seeds(entry["seeds"]), *_cells(entry)]
        for entry in entries
    ]
    return _lines([*head, *_score_head()], rows)


def _short(marker: _Marker) -> list[str]:
    rows, last = [], ""
    for line in marker.lines:
        question, *names = (part.strip() for part in line.split("|"))
        if len(names) != 3:
            raise marker.error(f"{line!r} is not QUESTION | STUDY | ARM | SPLIT")
        study, arm, split = names
        entries: list[Mapping[str, Any]] = [{"arm": arm, "split": split}]
        if study in marker.summaries:
            table = marker.summaries[study]["table"]
            entries = [one for one in table if (one["arm"], one["split"]) == (arm, split)]
        if not entries:
            raise marker.error(f"there is no {arm} of {study} on {split}")
        for entry in entries:
            cells = ["", _split(entry), "", *["*not run yet*"] * 3]
            if "seeds" in entry:
                share = _share(entry["fraction"])
                cells = [share, _split(entry), _seeds(entry["seeds"]), *_cells(entry)[1::2]]
            shown = "" if question == last else question
            rows.append([shown, f"`{study}`: {marker.mark(study, entry)}", *cells])
            last = question
    names = [f"{name}, difference" for name in _NAMES.values()]
    return _lines(["question", "study: arm", "labels", "evaluated on", "seeds", *names], rows)


def _pd_at_fa(marker: _Marker) -> list[str]:
    entries = [one for one in marker.entries() if one["pd_at_fa"][0]["pd"] is not None]
    if not entries:
        return ["*Not run yet.*"]
    limits = [f"Pd at Fa {_plain(one['fa'], 1e-6, 0)}" for one in entries[0]["pd_at_fa"]]
    rows = [
        [_split(entry), marker.mark(marker.study, entry)]
        + [_plain(one["pd"], 1e-2) for one in entry["pd_at_fa"]]
        for entry in entries
    ]
    return _lines(["evaluated on", "arm", *limits], rows)


def _reach(marker: _Marker) -> list[str]:
    found = marker.summaries.get(marker.study, {"reach": []})
    rows = []
    for entry in found["reach"]:
        if entry["arm"] in marker.keys.get("arms", [entry["arm"]]):
            steps = ", ".join("–" if s is None else str(s) for s in entry["steps"].values())
            share = "–" if entry["ratio"] is None else f"{entry['ratio']:.2f}"
            rows.append([f"`{entry['arm']}`", steps, share])
    return _lines(["arm", "steps, by seed", "share of the budget"], rows)


def _missing(marker: _Marker) -> list[str]:
    done = {
        (row["study"], row["arm"], float(row["fraction"]), int(row["seed"]), row["split"])
        for row in read_table(marker.files.results / RUNS_CSV, RUN_COLUMNS)
    }
    rows = []
    for path in sorted(marker.files.configs.glob("*.yaml")):
        config, arms = read_study(path)
        if config.name in marker.keys.get("without", ()):
            continue
        splits = [one.name for one in evaluations(config.tests, arms)]
        for fraction in config.fractions:
            # Arms that lack the same seeds on the same splits share a line.
            lines: dict[tuple[str, str], list[str]] = {}
            for arm in config.arms:
                lacking: dict[tuple[int, ...], list[str]] = {}
                for split in splits:
                    wanted = {
                        seed: (config.name, arm, fraction, seed, split) for seed in config.seeds
                    }
                    seeds = tuple(seed for seed, run in wanted.items() if run not in done)
                    lacking.setdefault(seeds, []).append(split)
                lacking.pop((), None)
                for seeds, some in lacking.items():
                    where = "all" if some == splits else ", ".join(f"`{one}`" for one in some)
                    lines.setdefault((_seeds(seeds), where), []).append(f"`{arm}`")
            for (shown, where), names in lines.items():
                study = [f"`{config.name}`", _share(fraction)]
                rows.append([*study, ", ".join(names), shown, where])
    return _lines(["study", "labels", "arms", "seeds", "splits"], rows)


_KINDS: dict[str, Callable[[_Marker], list[str]]] = {
    "scores": _scores,
    "short": _short,
    "pd-at-fa": _pd_at_fa,
    "reach": _reach,
    "missing": _missing,
}


def _score_head() -> Iterator[str]:
    for name in _NAMES.values():
        yield name
        yield "difference"


def _cells(entry: Mapping[str, Any]) -> list[str]:
    """Mean and difference of every score."""
    return [
        cell
        for name, unit in _UNITS.items()
        for cell in (_plain(entry[name]["mean"], unit), _difference(entry[name], unit))
    ]


def _difference(score: Mapping[str, Any], unit: float) -> str:
    """A difference with its interval, bold where 0 is outside; else with those of the seeds."""
    if score["difference"] is None:
        return ""
    text = _signed(score["difference"], unit)
    if score["low"] is None:
        return f"{text} ({', '.join(_signed(one, unit) for one in score['by_seed'].values())})"
    text = f"{text} [{_signed(score['low'], unit)}, {_signed(score['high'], unit)}]"
    return f"**{text}**" if score["low"] > 0 or score["high"] < 0 else text


def _plain(value: float | None, unit: float, digits: int = 1) -> str:
    return "–" if value is None else f"{value / unit:.{digits}f}"


def _signed(value: float, unit: float) -> str:
    text = f"{value / unit:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def _share(fraction: float) -> str:
    return f"{100 * fraction:g}%"


def _split(entry: Mapping[str, Any]) -> str:
    return f"`{entry['split']}`"


def _seeds(seeds: Sequence[int]) -> str:
    run = list(range(seeds[0], seeds[-1] + 1))
    if len(seeds) > 2 and list(seeds) == run:
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def draw(page: str, files: Files) -> dict[str, bytes]:
    """Draw the learning curves that a page shows, as PNG files by name."""
    return {
        f"{study}-curves.png": plot_curves(files.results, study)
        for study in dict.fromkeys(_PICTURE.findall(page))
    }


def main(words: Sequence[str]) -> int:
    """Fill a page's tables and values, draw its pictures, and list its loose numbers.

    Returns
    -------
    int
        1 if there are such numbers, or a file is missing or wrong.
    """
    parser = argparse.ArgumentParser(
        prog="python docs/results_page.py",
        description="Fill a page of results from the files of the folder that is called like it.",
    )
    parser.add_argument("page", type=Path, help="docs/results.md")
    page = parser.parse_args(words).page
    files = Files(page.with_suffix(""), page.parent.parent / "configs" / "study")
    try:
        text = fill(page.read_text(encoding="utf-8"), files)
        replace_file(page, text.encode())
        for name, picture in draw(text, files).items():
            replace_file(files.results / name, picture)
    except (PipelineError, SynthError) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{page}: cannot be read ({error.strerror})", file=sys.stderr)
        return 1
    loose = loose_numbers(text)
    for one in loose:
        print(
            f"{page}: {one} is no value; leave scores to the tables, and write a setting as "
            "<!-- = STUDY.KEY --><!-- = -->",
            file=sys.stderr,
        )
    return 1 if loose else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
