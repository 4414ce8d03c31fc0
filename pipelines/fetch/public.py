"""A public set from its archive, or from the network, to a folder of ours."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from pipelines.build.card import code_span, plain_text
from pipelines.build.parallel import Pool
from pipelines.errors import FetchError
from pipelines.export import write_set
from pipelines.fetch.download import Patience, discard, download, keep
from pipelines.fetch.fingerprint import (
    PairDigest,
    differences,
    digest_pair,
    fingerprint,
    published,
)
from pipelines.fetch.layout import find_set, lists_in, open_set, refit_masks
from pipelines.fetch.sets import PublicSet
from pipelines.fetch.unpack import DamagedError, Limits, RefusedError, unpack
from pipelines.repair import find_grey_pairs
from synth.dataset import Dataset, open_dataset
from synth.disk.description import finished, read_description, require_usable
from synth.disk.files import alone_in, sha256
from synth.errors import StoreError, SynthError
from synth.inspect.check import FAULTS, Report, check_dataset

Progress = Callable[[str, int, int | None], None]
Item = TypeVar("Item")
Result = TypeVar("Result")

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_OURS = ".unpacked"
# Whether a published split is sound is for its users to judge, not for the one who fetches it.
_LEAK = "equal image in train and test"
# What is gone in what is written.
_MENDED = ("colour image", "image with alpha", "grey mask", "lossy mask")


@dataclass(frozen=True)
class Source:
    """Where a set is taken from; `archive` is a file or a folder, and goes before the address."""

    url: str | None = None
    archive: Path | None = None
    lists: Path | None = None
    patience: Patience = field(default_factory=Patience)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Fetched:
    """A public set that is there now.

    Attributes
    ----------
    out : Path
    made : bool
        Whether it was written now; False when it was there already.
    counts : dict of str to int
        Pairs by split.
    targets : int
    fingerprint : str
        Of its pixels; see `pipelines.fetch.fingerprint`.
    verified : bool or None
        Whether that is the published set's; None where nobody knows what it should be.
    difference : str or None
        How it differs from the published set, in words.
    split : str
        Where the split is from, in words.
    refit : tuple of str
        Ids whose mask was brought to its image's size.
    faults : dict of str to int
        What `synth check` will warn of, by how many cases.
    archive : Path or None
        The archive that was kept.
    """

    out: Path
    made: bool
    counts: dict[str, int]
    targets: int
    fingerprint: str
    verified: bool | None
    difference: str | None
    split: str
    refit: tuple[str, ...] = ()
    faults: dict[str, int] | None = None
    archive: Path | None = None


def fetch_set(
    public: PublicSet,
    out: Path,
    source: Source,
    pool: Pool,
    *,
    keep_archive: bool = False,
    verify: bool = True,
    progress: Progress = lambda stage, done, total: None,
    tell: Callable[[str], None] = lambda line: None,
) -> Fetched:
    """Download a public set, unless an archive is given, and write it as one of ours.

    The set appears in one rename, after its pixels were held against those of the published one.
    The download lies beside it until then, so that an interrupted run goes on where it was.

    Parameters
    ----------
    public : PublicSet
    out : Path
        Folder to make.
    source : Source
    pool : Pool
    keep_archive : bool
        Leave the downloaded archive beside the set.
    verify : bool
        Whether other pixels than the published ones are an error.
    progress : callable, optional
        Called with stage, done, and total or None; bytes in the stage ``download``.
    tell : callable, optional
        Called with a line on what goes wrong and is tried again.

    Raises
    ------
    FetchError
        The download fails, the archive is damaged, could do harm or holds another set, or its
        pixels are not the published ones.
    DatasetError
        Its images, masks or lists do not fit together.
    StoreError
        `out` is taken or cannot be written.
    """
    there = _already(public, out, source.lists)
    if there is not None:
        return there
    if out.is_symlink() or not out.name:
        out = out.resolve()
    if source.archive is not None and not source.archive.exists():
        raise FetchError(f"{source.archive}: no such file or folder; give the archive's own path")
    if source.lists is not None:
        lists_in(source.lists)
    url = source.url or public.url
    if source.archive is None and url is None:
        raise FetchError(
            f"{public.name}: there is no link that a program can fetch; get it from "
            f"{public.by_hand}, then give the file with --archive"
        )
    with _workplace(out) as work:
        job = _Job(public, out, source, pool, verify, progress, work)
        if source.archive is not None and source.archive.is_dir():
            return job.publish(source.archive)
        if source.archive is not None:
            return job.run(source.archive)
        assert url is not None
        name = out.parent / f"{public.name}{_suffix(url)}"
        archive = download(url, name, source.patience, partial(progress, "download"), tell)
        return _use_download(job, name, archive, keep_archive)


class _OtherPixelsError(FetchError):
    """An archive of sound frames that are not the published ones."""


@dataclass(frozen=True)
class _Job:
    """All that is known when the archive is there."""

    public: PublicSet
    out: Path
    source: Source
    pool: Pool
    verify: bool
    progress: Progress
    work: Path

    def run(self, archive: Path) -> Fetched:
        """From an archive to a set of ours."""
        unpacked = self.work / self.public.name
        unpacked.mkdir()
        unpack(archive, unpacked, self.source.limits, partial(self.progress, "unpack"))
        return self.publish(unpacked)

    def publish(self, unpacked: Path) -> Fetched:
        """From a folder with the set in it to a set of ours."""
        public = self.public
        place = find_set(unpacked, public)
        dataset, split = open_set(place, public, self.source.lists, self.pool)
        dataset, refit = refit_masks(dataset, public, self.work)
        # Those in no list are part of the set too.
        ids = [id_ for id_ in dataset.images if id_ in dataset.masks]
        digests = _all(self.pool, self.progress, "look", partial(digest_pair, dataset), ids)
        verified, difference = _compare(public, digests)
        if difference is not None and self.verify:
            raise _OtherPixelsError(f"{public.name}: is not the published set: {difference}")
        report = _check(dataset, self.pool, self.progress)
        splits = {name: list(ids) for name, ids in dataset.splits.items()}
        configuration = {
            "command": "fetch",
            "set": public.name,
            "fingerprint": fingerprint(digests),
            "verified": verified,
            "difference": difference,
            "split": split,
            "lists": _lists_digest(dataset),
            "refit": refit,
        }
        result = write_set(
            [p for name, ids in splits.items() for p in find_grey_pairs(dataset, name, ids)],
            splits,
            place.root,
            self.out,
            configuration,
            _origin(public, verified, split, refit),
            self.pool,
            self.progress,
        )
        return Fetched(
            self.out,
            True,
            {name: len(ids) for name, ids in splits.items()},
            result.targets,
            fingerprint(digests),
            verified,
            difference,
            split,
            tuple(refit),
            {name: len(c) for name, c in report.faults.items() if name not in _MENDED},
        )


def _use_download(job: _Job, name: Path, archive: Path, keep_archive: bool) -> Fetched:
    """Go on with a download, and do not keep it longer than it is of use."""
    try:
        result = job.run(archive)
    except DamagedError as error:
        discard(name)
        raise FetchError(f"{error}; it was removed: run the same command to get it anew") from None
    except RefusedError:
        discard(name)
        raise
    except _OtherPixelsError as error:
        keep(name)
        raise FetchError(f"{error}; take it as it is with --archive {name} --no-verify") from None
    except StoreError:
        raise
    except (FetchError, SynthError) as error:
        keep(name)
        raise FetchError(f"{error}; the archive is {name}") from None
    if not keep_archive:
        discard(name)
        return result
    keep(name)
    return replace(result, archive=name)


def _compare(public: PublicSet, digests: Sequence[PairDigest]) -> tuple[bool | None, str | None]:
    """Whether the pixels are the published ones, and how they differ."""
    known = published().get(public.name)
    if known is not None:
        difference = differences(digests, known)
        return difference is None, difference
    if len(digests) != public.pairs:
        return False, f"{len(digests):,} pairs in place of {public.pairs:,}"
    return None, None


def _all(
    pool: Pool,
    progress: Progress,
    stage: str,
    work: Callable[[Item], Result],
    items: Iterable[Item],
) -> list[Result]:
    given = list(items)
    results = []
    with closing(pool.map(work, given)) as made:
        for done, result in enumerate(made, start=1):
            results.append(result)
            progress(stage, done, len(given))
    return results


def _check(dataset: Dataset, pool: Pool, progress: Progress) -> Report:
    """What `synth check` finds; an error but for what a published split has is one here too.

    Raises
    ------
    FetchError
        A pair is broken.
    """
    report = check_dataset(dataset, lambda work, items: _all(pool, progress, "check", work, items))
    broken = [f for f in FAULTS if f.error and f.name in report.faults and f.name != _LEAK]
    if broken:
        cases = report.faults[broken[0].name]
        raise FetchError(
            f"{dataset.root.name}: {broken[0].name}: {cases[0]}"
            f"{f' and {len(cases) - 1:,} more' if len(cases) > 1 else ''}; unpack the archive, "
            "and repair it with `synth check FOLDER --fix`"
        )
    return report


def _origin(
    public: PublicSet, verified: bool | None, split: str, refit: Iterable[str]
) -> list[str]:
    pixels = {
        True: "Pixels are those of the published set.",
        False: "Pixels are NOT those of the published set.",
        None: "Whether the pixels are those of the published set is not known.",
    }[verified]
    return [
        f"{public.title}, from {public.by_hand}.",
        f"Cite {public.paper}.",
        f"Licence: {public.licence}.",
        f"Split: {plain_text(split)}.",
        pixels,
        "Images are grey, masks hold 0 and 255; else nothing was changed.",
        *(f"The mask of {code_span(id_)} was brought to the size of its image." for id_ in refit),
    ]


def _already(public: PublicSet, out: Path, lists: Path | None) -> Fetched | None:
    """A set that was fetched before; None when there is none.

    Raises
    ------
    StoreError
        Something else is there, or the set has another split than is asked for.
    """
    if not require_usable(out):
        return None
    description = read_description(out)
    made = description.get("configuration", {})
    if made.get("command") != "fetch" or made.get("set") != public.name:
        raise StoreError(out, f"is another set than {public.name}; choose another --out")
    finished(out, description)
    if lists is not None:
        wanted = open_dataset(out, folders=(out / "images", out / "masks"), lists=lists_in(lists))
        if _lists_digest(wanted) != made["lists"]:
            raise StoreError(out, "has another split; remove it, or choose another --out")
    counts = {name: count for name, count in description["counts"].items() if name != "outputs"}
    return Fetched(
        out,
        False,
        counts,
        int(description.get("targets", 0)),
        made["fingerprint"],
        made["verified"],
        made["difference"],
        made["split"],
        tuple(made["refit"]),
    )


def _lists_digest(dataset: Dataset) -> str:
    """One hash over the ids of every split."""
    lines = (f"{split}/{id_}\n" for split, ids in dataset.splits.items() for id_ in sorted(ids))
    return sha256("".join(lines).encode())


def _suffix(url: str) -> str:
    path = urlsplit(url).path.lower()
    return next((suffix for suffix in reversed(_SUFFIXES) if path.endswith(suffix)), ".archive")


@contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """A folder beside the output for what is unpacked; one process has it, and it goes in the end.

    Raises
    ------
    StoreError
        Another process is fetching to this output, or the place is taken or cannot be written.
    """
    place = out.parent / f".{out.name}{_OURS}"
    mark = place / _OURS
    with ExitStack() as alone:
        try:
            place.mkdir(parents=True, exist_ok=True)
            alone.enter_context(alone_in(place, follow=False))
        except BlockingIOError:
            raise StoreError(
                out, "is being fetched by another process; wait until it ends"
            ) from None
        except OSError as error:
            raise StoreError(place, f"cannot be written ({error.strerror})") from None
        if any(place.iterdir()) and not mark.is_file():
            raise StoreError(place, "is in the way and nothing of ours; remove it")
        try:
            _clear(place)
            mark.touch()
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _clear(place: Path) -> None:
    """Remove what a killed run left."""
    for entry in place.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
