"""The page of results: its tables are written from the committed files, and its prose is checked.

``python -m pipelines.results_page docs/results.md`` (`make results`) fills what stands between

    <!-- table: scores b-wide splits=test,test+tta9 arms=originals,taught -->
    <!-- end -->

from the files of ``docs/results``, draws its learning curves, and lists numbers of the prose that
no table of their section and no setting gives. Tables:

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
is marked with a dagger. Settings are the numbers in the configurations of a section's studies, and
those of ``<!-- settings: 56 564 -->``; a number with a sign has to be there with that sign.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import PipelineError, StoreError
from pipelines.store import replace_file
from pipelines.study_config import evaluations, read_study
from pipelines.study_figure import plot_curves
from pipelines.study_results import RUN_COLUMNS, RUNS, read_table, recompute

LATE, LATE_COLUMNS = "late.csv", ("study", "arm", "split")
DAGGER = "†"

_UNITS = {"iou": 1e-2, "pd": 1e-2, "fa": 1e-6}
_NAMES = {"iou": "IoU", "pd": "Pd", "fa": "Fa"}
_TABLE = re.compile(
    r"^(<!-- table: (?P<kind>[\w-]+)(?P<words>[^\n]*?)(?P<lines>\n.*?)?-->\n)"
    r"(?P<body>.*?)(?P<end><!-- end -->)",
    re.DOTALL | re.MULTILINE,
)
_SETTINGS = re.compile(r"<!-- settings: (.*?)-->", re.DOTALL)
_UNREAD = re.compile(r"```.*?```|<!--.*?-->|`[^`]*`|\]\([^)]*\)|10[⁻⁰-⁹²³]+", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.,-])([+−-]?)(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?(?![\w])")
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
    """Write every table of a page anew.

    Raises
    ------
    StoreError
        A marker has no end, or asks for a table, arm or split that is not there, or a file is
        damaged.
    """
    begun = len(re.findall(r"^<!-- table:", page, re.MULTILINE))
    if begun != len(_TABLE.findall(page)):
        raise StoreError(
            "<!-- table: … -->", "has no <!-- end --> after it; add one to each marker"
        )
    summaries = {one["study"]: one for one in recompute(files.results)}
    late = [tuple(row.values()) for row in read_table(files.results / LATE, LATE_COLUMNS)]

    def table(match: re.Match[str]) -> str:
        marker = _Marker.read(match, files, summaries, late)
        rows = _KINDS[match["kind"]](marker) if match["kind"] in _KINDS else None
        if rows is None:
            raise marker.error(f"there is no such table; there are {', '.join(_KINDS)}")
        text = "\n".join(rows)
        return f"{match[1]}\n{text}\n\n{match['end']}"

    return _TABLE.sub(table, page)


def loose_numbers(page: str, files: Files) -> list[str]:
    """List numbers in the prose that neither a table of their section nor a setting gives.

    Returns
    -------
    list of str
        Each ``SECTION: NUMBER``.
    """
    found = []
    for section in re.split(r"^(?=## )", page, flags=re.MULTILINE):
        known: set[str] = set()
        for match in _TABLE.finditer(section):
            known |= set(_numbers(match["body"]))
            config = files.configs / f"{(match['words'].split() or [''])[0]}.yaml"
            if config.is_file():
                known |= set(_numbers(re.sub("#.*", "", config.read_text(encoding="utf-8"))))
        for match in _SETTINGS.finditer(section):
            known |= set(_numbers(match[1]))
        # A number without a sign may be a size of what the table gives with one.
        known |= {number.lstrip("+−") for number in known}
        title = section.partition("\n")[0].lstrip("# ")
        prose = _UNREAD.sub(" ", _TABLE.sub(" ", section))
        found += [f"{title}: {number}" for number in _numbers(prose) if number not in known]
    return found


def _numbers(text: str) -> Iterator[str]:
    """Numbers without separators of thousands, and with their sign if they have one."""
    for match in _NUMBER.finditer(text):
        yield match[1].replace("-", "−") + match[2].replace(",", "") + (match[3] or "")


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
    head = ["judged on", "arm", "seeds"]
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
        if study not in marker.summaries:
            rows.append([question, f"`{study}`", f"`{split}`", *["*not run yet*"] * 4])
            continue
        table = marker.summaries[study]["table"]
        entries = [one for one in table if (one["arm"], one["split"]) == (arm, split)]
        if not entries:
            raise marker.error(f"there is no {arm} of {study} on {split}")
        for entry in entries:
            cells = [_split(entry), _seeds(entry["seeds"]), *_cells(entry)[1::2]]
            shown = "" if question == last else question
            rows.append([shown, f"`{study}`: {marker.mark(study, entry)}", *cells])
            last = question
    names = [f"{name}, difference" for name in _NAMES.values()]
    return _lines(["question", "study: arm", "judged on", "seeds", *names], rows)


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
    return _lines(["judged on", "arm", *limits], rows)


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
        for row in read_table(marker.files.results / RUNS, RUN_COLUMNS)
    }
    rows = []
    for path in sorted(marker.files.configs.glob("*.yaml")):
        config, settled = read_study(path)
        if config.name in marker.keys.get("without", ()):
            continue
        splits = [one.name for one in evaluations(config.tests, settled)]
        for fraction in config.fractions:
            # Arms that lack the same seeds on the same splits share a line.
            lacking: dict[tuple[tuple[str, tuple[int, ...]], ...], list[str]] = {}
            for arm in config.arms:
                by_split = [
                    (
                        split,
                        tuple(
                            seed
                            for seed in config.seeds
                            if (config.name, arm, fraction, seed, split) not in done
                        ),
                    )
                    for split in splits
                ]
                lacking.setdefault(tuple((s, seeds) for s, seeds in by_split if seeds), []).append(
                    arm
                )
            for by_split_, arms in lacking.items():
                names = ", ".join(f"`{arm}`" for arm in arms)
                by_seeds: dict[tuple[int, ...], list[str]] = {}
                for split, seeds in by_split_:
                    by_seeds.setdefault(seeds, []).append(split)
                for seeds, some in by_seeds.items():
                    where = "all" if some == splits else ", ".join(f"`{one}`" for one in some)
                    share = f"{100 * fraction:g}%"
                    rows.append([f"`{config.name}`", share, names, _seeds(seeds), where])
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


def main(page: Path) -> int:
    """Fill a page's tables, draw its pictures, and list its loose numbers; 1 if there are any."""
    files = Files(page.with_suffix(""), page.parent.parent / "configs" / "studies")
    try:
        text = fill(page.read_text(encoding="utf-8"), files)
        replace_file(page, text.encode())
        for name, picture in draw(text, files).items():
            replace_file(files.results / name, picture)
        loose = loose_numbers(text, files)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 1
    for one in loose:
        print(f"{one} is in no table of its section and no setting", file=sys.stderr)
    return 1 if loose else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
