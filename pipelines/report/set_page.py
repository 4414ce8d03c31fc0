"""The page of a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipelines.report.charts import Axis, Line, density_map, fit_axis, histogram, line_chart
from pipelines.report.page import (
    Child,
    Html,
    counts_table,
    element,
    facts,
    figure,
    flatten,
    group,
    join,
    note,
    number,
    page,
    paragraph,
    quiet,
    settings_tables,
    table,
    values_table,
)
from pipelines.report.pictures import show_frame
from pipelines.report.survey import AREA_EDGES, GROUPS, SCR_EDGES, Lineage, describe_change
from synth import __version__
from synth.dataset import Dataset

_CELL = 192
_SHEET = 24
_SOURCES, _BESIDE = 4, 4

_DISTANCES = {
    "wasserstein": "distribution, W1 in DN",
    "kl": "distribution, KL in nats",
    "spectrum": "spectrum, decades",
    "rows": "spectrum along rows, decades",
    "columns": "spectrum along columns, decades",
    "correlation": "autocorrelation",
    "level": "level over intensity, decades",
    "kld": "distribution, KLD as NAFlow in nats",
    "akld": "local variance, AKLD as DANet in nats",
}


def choose_sheet(dataset: Dataset, lineage: Lineage, count: int = _SHEET) -> list[str]:
    """Choose images for the contact sheet: half originals, half made, spread over their splits."""
    ids = [id_ for split in ("train", "val") for id_ in dataset.splits.get(split, ())]
    made = [id_ for id_ in ids if lineage.made(id_)]
    plain = [id_ for id_ in ids if not lineage.made(id_)]
    of_made = min(len(made), max(count // 2, count - len(plain)))
    return [*_evenly(plain, count - of_made), *_evenly(made, of_made)]


def choose_families(dataset: Dataset, lineage: Lineage) -> dict[str, list[str]]:
    """Choose sources that the set holds, with negatives of each, those changed differently first.

    Returns
    -------
    dict of str to list of str
        Ids of negatives by the id of their source.
    """
    families: dict[str, list[str]] = {}
    for split in ("train", "val"):
        for id_ in dataset.splits.get(split, ()):
            record = lineage.records.get(id_)
            source = record.source if record is not None else id_
            if source != id_ and source in dataset.images and source in dataset.masks:
                families.setdefault(source, []).append(id_)
    # A source with many negatives shows more of what is made.
    large = sorted(families, key=lambda source: -min(len(families[source]), _BESIDE))
    enough = [s for s in large if len(families[s]) == len(families[large[0]])] or large
    chosen = _evenly(enough, _SOURCES) if len(enough) >= _SOURCES else large[:_SOURCES]
    return {source: _varied(families[source], lineage, _BESIDE) for source in chosen}


def set_page(
    dataset: Dataset,
    lineage: Lineage,
    found: Mapping[str, Any],
    noise: Mapping[str, Any] | None,
    each: Callable[[], object] = lambda: None,
) -> bytes:
    """Make the page of a data set.

    Parameters
    ----------
    dataset : Dataset
    lineage : Lineage
    found : mapping
        Of `pipelines.report.survey.survey_set`.
    noise : mapping or None
        Of `pipelines.report.survey.survey_noise`.
    each : callable
        Called once a picture.

    Returns
    -------
    bytes
        An HTML file.
    """
    counts = found["counts"]
    numbers = {"images": f"{counts['images']:,}"}
    if counts["made"]:
        numbers |= {"originals": f"{counts['originals']:,}", "made": f"{counts['made']:,}"}
    numbers |= {
        f"{name} split" if counts["listed"] else "without a split": f"{count:,}"
        for name, count in counts["splits"].items()
        if counts["listed"] or count
    }
    seen = sum(found["targets"].values())
    numbers["targets looked at"] = f"{seen:,}"
    lead: list[Child] = [facts(numbers)]
    lead += [note(text) for text in found["notes"]]
    sections = {
        "Images": _sheet_section(dataset, lineage, found, each),
        "Sources and what was made of them": _family_section(dataset, lineage, each),
        "Targets": _target_section(found),
        "Where targets lie": _place_section(found),
        "What was made how": _change_section(found),
        "Noise": _noise_section(noise),
        "Provenance": _provenance_section(found),
        "Making it again": _remake_section(dataset, lineage, found),
    }
    foot = f"synth report, sirst-synth {__version__}. The test split is counted, not looked at."
    return page(f"{_name(dataset, found)}: data set", lead, sections, foot)


def count_pictures(dataset: Dataset, lineage: Lineage) -> int:
    """How many pictures the page will have."""
    families = choose_families(dataset, lineage)
    return len(choose_sheet(dataset, lineage)) + sum(1 + len(ids) for ids in families.values())


def _name(dataset: Dataset, found: Mapping[str, Any]) -> str:
    description = found["provenance"]
    return str(description["name"]) if description and "name" in description else dataset.name


def _sheet_section(
    dataset: Dataset, lineage: Lineage, found: Mapping[str, Any], each: Callable[[], object]
) -> Html:
    chosen = choose_sheet(dataset, lineage)
    if not chosen:
        return paragraph("The set has no image to train on, so there is nothing to show.")
    sizes = list(found["sizes"].items())
    told = ", ".join(f"{size} ({count:,})" for size, count in sizes[:4])
    more = f" and {len(sizes) - 4} other sizes" if len(sizes) > 4 else ""
    pictures = [_picture(dataset, lineage, id_, each) for id_ in chosen]
    return join(
        [
            quiet(
                f"{len(chosen)} of the images to train on, evenly chosen, each stretched to its "
                "own range; a box two pixels clear of it is drawn around every target. Sizes: "
                f"{told}{more}; {', '.join(found['dtypes'])}."
            ),
            group("sheet", pictures),
        ]
    )


def _family_section(dataset: Dataset, lineage: Lineage, each: Callable[[], object]) -> Html:
    parts: list[Html] = []
    for source, ids in choose_families(dataset, lineage).items():
        parts.append(element("h3", f"Source {source}"))
        parts.append(group("sheet", [_picture(dataset, lineage, i, each) for i in [source, *ids]]))
    if not parts:
        return Html()
    return join(
        [quiet("The image that came in first, then negatives that were made from it."), *parts]
    )


def _picture(dataset: Dataset, lineage: Lineage, id_: str, each: Callable[[], object]) -> Html:
    image, mask = dataset.read_pair(id_)
    record = lineage.records.get(id_)
    told = describe_change(record) if record is not None else ""
    height, width = image.shape
    shown = show_frame(image, mask, _CELL, f"Image {id_}, {height}x{width} pixels. {told}".strip())
    each()
    return figure(shown, element("strong", id_), f" {told}" if told else "")


def _target_section(found: Mapping[str, Any]) -> Html:
    if not sum(found["targets"].values()):
        return paragraph("No image to train on has a target.")
    plots = []
    for key, title, unit, edges in (
        ("area", "Area of targets", "area / pixels", AREA_EDGES),
        ("scr", "Signal-to-clutter ratio of targets", "local SCR", SCR_EDGES),
    ):
        shares = {
            name: _shares(values) for name, values in found[key]["counts"].items() if any(values)
        }
        axis = Axis(unit, float(edges[0]), float(edges[-1]), log=True)
        told = "; ".join(
            f"{name}: median {number(found[key]['summary'][name]['median'])}, 90% between "
            f"{number(found[key]['summary'][name]['p5'])} and "
            f"{number(found[key]['summary'][name]['p95'])}"
            for name in shares
        )
        if shares:
            plots.append(figure(histogram(title, edges, shares, axis, told), f"{told}."))
    rows = [
        (
            name,
            f"{found['targets'][name]:,}",
            f"{found['empty'][name]:,}",
            number(found["area"]["summary"][name]["median"], 1),
            number(found["scr"]["summary"][name]["median"]),
            f"{found['scr']['summary'][name]['infinite']:,}",
            f"{found['scr']['summary'][name]['undefined']:,}",
        )
        for name in found["targets"]
    ]
    heads = ["images", "targets", "without targets", "median area / pixels", "median SCR"]
    return join(
        [
            quiet(
                "SCR is |mean of the target − mean of its background| / σ of that background, in "
                "the target's box grown by 20 pixels. The outermost bins hold what lies beyond."
            ),
            group("plots", plots),
            table(
                [*heads, "SCR infinite", "SCR undefined"],
                rows,
                "Targets of training and validation images; SCR is infinite over a constant "
                "background, undefined without any",
            ),
        ]
    )


def _place_section(found: Mapping[str, Any]) -> Html:
    if not sum(found["targets"].values()):
        return Html()
    height, width = (int(side) for side in next(iter(found["sizes"])).split("x"))
    maps = []
    for series, name in enumerate(GROUPS):
        if not found["targets"].get(name):
            continue
        grid = np.array(found["positions"][name])
        told = (
            f"{name}: a map of {grid.shape[0]} by {grid.shape[1]} cells, the densest with "
            f"{int(grid.max()):,} of {int(grid.sum()):,} targets"
        )
        chart = density_map(f"Targets of {name}", grid, told, series, height / width)
        caption = f"{told}; {_share_of_border(grid):.0f}% in the outermost cells."
        maps.append(figure(chart, caption))
    return join(
        [
            quiet("Places relative to the frame: the fuller the colour, the more targets."),
            group("plots", maps),
        ]
    )


def _change_section(found: Mapping[str, Any]) -> Html:
    tables = [
        counts_table(what, counts, f"Outputs by {what}" if what != "distractors" else "Distractors")
        for what, counts in found["changes"].items()
    ]
    return group("tables", tables)


def _noise_section(noise: Mapping[str, Any] | None) -> Html:
    if noise is None:
        return Html()
    parts: list[Html] = [note(text) for text in noise["notes"]]
    spectra = noise.get("spectra")
    if spectra:
        real = noise["real"]
        order = [real, *(name for name in spectra if name != real)]
        shown = [Line(name, spectra[name]["frequency"], spectra[name]["power"]) for name in order]
        x = Axis("frequency / cycles per pixel", 0.0, 0.5)
        power = fit_axis("power / DN²", [v for line in shown for v in line.y], log=True)
        told = "; ".join(
            f"{line.name}: {number(float(np.mean(line.y)))} DN² on average" for line in shown
        )
        lags = noise["correlation"]["lag"]
        along = [
            Line(name, lags, noise["correlation"][name]["rows"])
            for name in order
            if name in noise["correlation"]
        ]
        y = fit_axis("autocorrelation", [v for line in along for v in line.y])
        lag_told = "; ".join(f"{line.name}: {number(line.y[1])} at one pixel" for line in along)
        parts.append(
            group(
                "plots",
                [
                    figure(line_chart("Power spectrum", shown, x, power, told), f"{told}."),
                    figure(
                        line_chart(
                            "Autocorrelation along rows",
                            along,
                            Axis("distance / pixels", 0.0, float(lags[-1])),
                            y,
                            lag_told,
                        ),
                        f"{lag_told}.",
                    ),
                ],
            )
        )
    scores, floor = noise.get("scores"), noise.get("floor") or {}
    if scores:
        names = list(scores)
        rows = [
            (title, number(floor.get(key), 3), *(number(scores[name][key], 3) for name in names))
            for key, title in _DISTANCES.items()
        ]
        parts.append(
            table(
                ["distance", "two halves of it", *names],
                rows,
                f"Distance of the noise from the real one ({noise['real']}); 0 is equal noise",
            )
        )
    told = (
        f"Real noise: {noise['real']}. Noise is seen in blocks of 32 pixels whose residual over a "
        "local trend has no texture. KLD and AKLD are published measures; AKLD is not 0 between "
        "equal cameras, so compare it with two halves of the real noise."
    )
    return join([quiet(told), *parts])


def _provenance_section(found: Mapping[str, Any]) -> Html:
    description = found["provenance"]
    if description is None:
        return paragraph(
            "The set has no dataset.json that a build left, so where it comes from is not known."
        )
    hashes = description.get("files")
    settings = description.get("configuration")
    rest = {key: v for key, v in description.items() if key not in ("files", "configuration")}
    return join(
        [
            values_table(dict(flatten(rest)), "What the set is, and what it was made with"),
            settings_tables(settings, "configuration") if isinstance(settings, Mapping) else "",
            values_table(
                dict(flatten(hashes)) if isinstance(hashes, Mapping) else {},
                "SHA-256 of its files; those of images and masks are in the manifest",
            ),
        ]
    )


def _remake_section(dataset: Dataset, lineage: Lineage, found: Mapping[str, Any]) -> Html:
    description = found["provenance"]
    made = [
        id_
        for id_, record in lineage.records.items()
        if lineage.made(id_)
        and id_ in dataset.images
        # A frame that a target was put into is not in the set.
        and all(str(choice.get("host", id_)) in dataset.images for _, choice in record.steps)
    ]
    if description is None:
        return Html()
    parts: list[Html] = []
    configuration = dict(description.get("configuration") or {})
    if configuration.pop("command", None) == "build":
        settings = {"name": description.get("name"), **configuration}
        # How a set is stored is an option of the command.
        settings.pop("shards", None)
        if settings.get("noise") is None:
            # In a configuration a missing key is the default noise, so none must be said.
            settings["noise"] = None
        text = yaml.safe_dump(_plain(settings), sort_keys=False, allow_unicode=True)
        sources = "" if configuration.get("simulate") else " --data SOURCE"
        if (description.get("noise") or {}).get("sha256") and not configuration.get("simulate"):
            sources += " --noise FRAMES"
        sources += _shard_options(configuration)
        parts += [
            paragraph(
                "The whole set: save this as ",
                element("code", "again.yaml"),
                " and run ",
                element("code", f"synth build again.yaml{sources} --out again"),
                "; the same sources, versions and processor give the same bytes, and so the hashes "
                "above.",
            ),
            element("pre", element("code", text)),
        ]
    if made:
        parts += [
            paragraph(
                "One output: its line of the manifest says all that was chosen. The source lies in "
                "the set itself, or in the set that it was made from (then name that in ",
                element("code", "open_dataset"),
                ").",
            ),
            element("pre", element("code", remake_script(dataset.root, made[-1], description))),
        ]
    parts.append(
        paragraph("Whether every file is as the build left it: ", element("code", "synth verify"))
    )
    return join(parts)


def _shard_options(configuration: Mapping[str, Any]) -> str:
    """What the command needs so that a set in shards is in the same shards again."""
    size = configuration.get("shards")
    if not isinstance(size, Mapping):
        return ""
    outputs, nbytes = size.get("outputs"), size.get("nbytes")
    told = f"{nbytes // 10**6}MB" if isinstance(nbytes, int) else f"{outputs}"
    return f" --format webdataset --shard-size {told}"


def remake_script(root: Path, id_: str, description: Mapping[str, Any]) -> str:
    """A Python program that makes one output again and compares it with its hash."""
    noise = "*load_parts(root / 'noise.npz')" if description.get("noise") else "None, None"
    return f"""import hashlib
from pathlib import Path
from synth.dataset import open_dataset
from synth.disk.manifest import read_manifest
from synth.disk.png import encode_png
from synth.noise.cameras import load_parts
from synth.recipe import remake
from synth.scene import Scene
from synth.steps import Hosts, Supply

root, wanted = Path({str(root)!r}), {id_!r}
dataset = open_dataset(root)
line = next(line for line in read_manifest(root) if line.id == wanted)
supply = Supply({noise}, Hosts(dataset.read_pair))
scene = Scene(*dataset.read_pair(line.source), line.source)
made = remake(scene, line.steps, supply)
data = encode_png(made.image)
assert hashlib.sha256(data).hexdigest() == line.more["image_sha256"]
Path("remade.png").write_bytes(data)
"""


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [100 * count / total if total else 0.0 for count in counts]


def _share_of_border(grid: np.ndarray) -> float:
    total = int(grid.sum())
    return 100 * (total - int(grid[1:-1, 1:-1].sum())) / total if total else 0.0


def _evenly(ids: Sequence[str], count: int) -> list[str]:
    if len(ids) <= count:
        return list(ids)
    return [ids[at * len(ids) // count] for at in range(count)]


def _varied(ids: Sequence[str], lineage: Lineage, count: int) -> list[str]:
    """Some of the negatives of one source, of as many kinds of change as there are."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for id_ in ids:
        record = lineage.records[id_]
        kind = tuple(name for name, _ in record.steps)
        kinds.setdefault(kind, []).append(id_)
    chosen: list[str] = []
    while len(chosen) < min(count, len(ids)):
        for members in kinds.values():
            if members and len(chosen) < count:
                chosen.append(members.pop(0))
    return chosen
