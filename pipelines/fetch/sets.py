"""The public sets that can be fetched: where they are, how they lie there, whom to cite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PublicSet:
    """One public set.

    Attributes
    ----------
    name : str
        What the command calls it.
    title : str
        What papers call it; the folder that it goes to.
    pairs : int
        Images in it.
    url : str or None
        A link that a program can fetch; None where there is none.
    by_hand : str
        Where a person gets it.
    paper, licence : str
        Whom to cite, and what the makers say on use.
    aliases : tuple of str
        Names of its folder in archives of several sets, small letters and digits only.
    images, masks : str or None
        The folders' names in its archive where they are none that every set has.
    lists : mapping of str to str
        The archive's own list of each split, below the set's folder.
    refit : tuple of str
        Ids whose published mask is not of its image's size, and is brought to it.
    """

    name: str
    title: str
    pairs: int
    url: str | None
    by_hand: str
    paper: str
    licence: str
    aliases: tuple[str, ...]
    images: str | None = None
    masks: str | None = None
    lists: Mapping[str, str] = field(default_factory=dict)
    refit: tuple[str, ...] = ()


SETS = {
    found.name: found
    for found in (
        PublicSet(
            name="nuaa-sirst",
            title="NUAA-SIRST",
            pairs=427,
            # The last commit in which images and masks are loose files; later ones pack them.
            url="https://github.com/YimianDai/sirst/archive/"
            "84302ab351af09dde227aa13ee9887f081bc3d4f.zip",
            by_hand="https://github.com/YimianDai/sirst",
            paper="Dai, Wu, Zhou, Barnard: Asymmetric Contextual Modulation for Infrared Small "
            "Target Detection, WACV 2021",
            licence="none is stated in its repository",
            aliases=("nuaasirst", "sirst", "sirstv1", "sirstmaster"),
            lists={split: f"idx_427/{split}.txt" for split in ("train", "val", "test")},
            refit=("Misc_111",),
        ),
        PublicSet(
            name="sirst-v2",
            title="SIRST-V2",
            pairs=1024,
            url="https://github.com/YimianDai/open-sirst-v2/archive/"
            "a927e5c67a7d2e22c7c96b54703ffe9ae01a1f35.zip",
            by_hand="https://github.com/YimianDai/open-sirst-v2",
            paper="Dai, Li, Zhou, Qian, Chen, Yang: One-Stage Cascade Refinement Networks for "
            "Infrared Small Target Detection, IEEE TGRS 2023",
            licence="none is stated in its repository",
            aliases=("sirstv2", "opensirstv2", "opensirstv2master"),
            images="mixed",
            lists={split: f"splits/{split}_full.txt" for split in ("train", "val", "test")},
        ),
        PublicSet(
            name="nudt-sirst",
            title="NUDT-SIRST",
            pairs=1327,
            url=None,
            by_hand="https://github.com/YeRen123455/Infrared-Small-Target-Detection (Baidu) or "
            "https://github.com/XinyiYing/BasicIRSTD (Google Drive, three sets in one)",
            paper="Li, Xiao, Wang, Wang, Lin, Li, An, Guo: Dense Nested Attention Network for "
            "Infrared Small Target Detection, IEEE TIP 2023",
            licence="the repository that links to it is under the MIT licence, which names no data",
            aliases=("nudtsirst",),
        ),
        PublicSet(
            name="irstd-1k",
            title="IRSTD-1k",
            pairs=1001,
            url=None,
            by_hand="https://github.com/RuiZhang97/ISNet (Google Drive, Caiyun)",
            paper="Zhang, Zhang, Yang, Bai, Zhang, Guo: ISNet: Shape Matters for Infrared Small "
            "Target Detection, CVPR 2022",
            licence="MIT, says the page that links to it",
            aliases=("irstd1k",),
        ),
    )
}
"""By name."""
