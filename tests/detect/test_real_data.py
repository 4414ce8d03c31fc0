"""Facts about the public test split that the published tables rest on."""

import os
from pathlib import Path

import pytest

from detect.metrics import Tally, measure
from synth.dataset import open_dataset

_DATA = Path(os.environ.get("SIRST_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data")
_SET = _DATA / "NUDT-SIRST"


@pytest.mark.skipif(
    not _SET.is_dir(), reason="NUDT-SIRST is in neither $SIRST_DATA nor ../shared/data"
)
def test_labels_answer_themselves_perfectly() -> None:
    dataset = open_dataset(_SET)
    tally = Tally()
    for id_ in dataset.ids("test"):
        mask = dataset.read_mask(id_)
        tally += measure(mask, mask)
    scores = tally.scores()
    assert (tally.images, tally.targets) == (664, 945)
    assert (scores["iou"], scores["niou"], scores["pd"], scores["fa"]) == (1, 1, 1, 0)
    assert scores["hiou"] == 1
