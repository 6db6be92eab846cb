"""The warm-up of a level, and whether the rest is a steady state; both are computed from the latencies.

The warm-up is found by MSER-5 (White 1997). Latencies, ordered by when their requests were due and divided by the
median of their own video, are averaged in groups of five. Of all truncations in the first half, the one that minimises
the standard error of the remaining mean ends the warm-up. The rest is divided into ten batches. Their means give a 95 %
confidence interval (Student's t, 9 degrees of freedom) and a trend. A slope that is significant at 95 % and adds up to
more than a tenth of the mean is no steady state.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FIVE = 5
# With fewer groups the smallest standard error is random.
_FEWEST_FIVES = 10
_BATCHES = 10
# Student's t, two-sided 95 %: with 9 degrees of freedom, and with 8.
_T_MEAN = 2.262
_T_SLOPE = 2.306
_TREND = 0.1

METHOD = "MSER-5 on latencies relative to their video's median; trend and confidence by ten batch means"


@dataclass(frozen=True, slots=True)
class SteadyState:
    """The first `dropped` requests are the warm-up. `remark` is the reason if the rest is not steady."""

    dropped: int
    is_steady: bool
    remark: str = ""
    # The linear trend from the first batch to the last, relative to the mean.
    drift: float = 0.0


def detect(latencies: Sequence[float], videos: Sequence[str]) -> SteadyState:
    """`latencies` and their `videos` are those of one level, in the order in which they were due."""
    series = _relative(np.asarray(latencies, float), np.asarray(videos))
    fives = len(series) // _FIVE
    if fives < _FEWEST_FIVES:
        fewest = _FIVE * _FEWEST_FIVES
        return SteadyState(0, False, f"fewer than {fewest} answers: too few to detect the warm-up")
    means = series[: fives * _FIVE].reshape(fives, _FIVE).mean(axis=1)
    errors = _squared_errors(means)
    truncation = int(np.argmin(errors))
    kept = series[truncation * _FIVE :]
    drift, is_significant = _trend(kept)
    if truncation == len(errors) - 1:
        return SteadyState(truncation * _FIVE, False, "no steady state: still warming up in the second half", drift)
    if is_significant and abs(drift) > _TREND:
        direction = "rises" if drift > 0 else "falls"
        remark = f"no steady state: the latency still {direction}, by {abs(drift):.0%} in the part that was kept"
        return SteadyState(truncation * _FIVE, False, remark, drift)
    return SteadyState(truncation * _FIVE, True, drift=drift)


def confidence(values: Sequence[float]) -> float | None:
    """Half the width of the 95 % interval around the mean of correlated values; None for too few."""
    batches = _batches(np.asarray(values, float))
    return None if batches is None else float(_T_MEAN * batches.std(ddof=1) / np.sqrt(_BATCHES))


def _relative(latencies: NDArray[np.float64], videos: NDArray[np.str_]) -> NDArray[np.float64]:
    """Relative to the median of the video: the variance between videos would hide the warm-up."""
    relative = np.empty_like(latencies)
    for video in np.unique(videos):
        of_video = videos == video
        median = np.median(latencies[of_video])
        relative[of_video] = latencies[of_video] / median if median > 0 else 1.0
    return relative


def _squared_errors(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """The squared standard error of the mean that remains after each truncation in the first half."""
    count = len(means) - np.arange(len(means))
    sums = np.cumsum(means[::-1])[::-1]
    squares = np.cumsum((means**2)[::-1])[::-1]
    errors: NDArray[np.float64] = np.maximum(squares - sums**2 / count, 0) / count**2
    return errors[: len(means) // 2 + 1]


def _trend(values: NDArray[np.float64]) -> tuple[float, bool]:
    batches = _batches(values)
    if batches is None:
        return 0.0, False
    position = np.arange(_BATCHES) - (_BATCHES - 1) / 2
    slope = float((position @ batches) / (position @ position))
    residuals = batches - batches.mean() - slope * position
    error = float(np.sqrt(residuals @ residuals / (_BATCHES - 2) / (position @ position)))
    return slope * (_BATCHES - 1) / float(batches.mean()), abs(slope) > _T_SLOPE * error


def _batches(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    if len(values) < 2 * _BATCHES:
        return None
    return np.array([part.mean() for part in np.array_split(values, _BATCHES)])
