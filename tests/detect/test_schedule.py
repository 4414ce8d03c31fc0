import pytest
from hypothesis import given
from hypothesis import strategies as st

from detect.recipe import Schedule
from detect.schedule import learning_rate


@given(
    name=st.sampled_from(["constant", "cosine", "onecycle"]),
    steps=st.integers(1, 300),
    warmup=st.floats(0, 0.9),
)
def test_rates_stay_between_the_end_and_the_peak(name: str, steps: int, warmup: float) -> None:
    schedule = Schedule(name, warmup, 1e-6, (), 1.0)  # type: ignore[arg-type]
    rates = [learning_rate(schedule, 0.1, step, steps) for step in range(steps)]
    assert all(1e-6 <= rate <= 0.1 + 1e-12 for rate in rates)


def test_cosine_starts_at_the_peak_and_ends_at_the_end() -> None:
    rates = [
        learning_rate(Schedule("cosine", 0.2, 1e-5, (), 1.0), 0.05, s, 1000) for s in range(1000)
    ]
    assert rates[0] == 0.05
    assert rates[500] == pytest.approx((0.05 + 1e-5) / 2)
    assert rates[-1] == pytest.approx(1e-5, rel=0.05)
    assert rates == sorted(rates, reverse=True)


def test_onecycle_peaks_after_the_warmup() -> None:
    rates = [
        learning_rate(Schedule("onecycle", 0.2, 0.0, (), 1.0), 1.0, s, 100) for s in range(100)
    ]
    assert rates[0] == pytest.approx(1 / 25)
    assert max(rates) == rates[20] == 1.0


def test_multistep_falls_at_the_milestones() -> None:
    schedule = Schedule("multistep", 0.2, 1e-5, (0.5, 0.75), 0.1)
    rates = [learning_rate(schedule, 5e-4, step, 400) for step in range(400)]
    expected = [5e-4] * 200 + [5e-5] * 100 + [5e-6] * 100
    assert rates == pytest.approx(expected)
