"""Low rank plus sparse: patches of a background resemble one another, targets are few pixels.

IPI: Gao, Meng, Yang, Wang, Zhou and Hauptmann, "Infrared patch-image model for small target
detection in a single image", IEEE TIP 22(12), 2013. PSTNN: Zhang and Peng, "Infrared small target
detection based on partial sum of the tensor nuclear norm", Remote Sensing 11(4), 2019. Where paper
and authors' code differ, the code counts, since the published tables come from it; the weight of
PSTNN is the one that comes nearest to them.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.linalg.blas import dsyrk

from synth.frames import Frame

Values = NDArray[Any]

# IPI: side of a patch in pixels, and steps to a side. It has also converged when the rank has been
# steady for more than so many iterations, and the count of sparse entries has changed by less than
# so many since.
_IPI_SIDE, _IPI_STEPS = 50, 5
_IPI_TOLERANCE, _IPI_ITERATIONS = 1e-6, 1000
_IPI_STEADY, _IPI_CHANGES, _IPI_RANK_SHARE = 10, 20, 0.3
_IPI_DECAY, _IPI_FLOOR = 0.9, 0.005

# PSTNN: side of a patch in pixels, weight of sparsity, penalty and its growth.
_PSTNN_SIDE, _PSTNN_WEIGHT = 40, 0.6
_PSTNN_PENALTY, _PSTNN_GROWTH = 2e-3, 1.05
_PSTNN_TOLERANCE, _PSTNN_ITERATIONS = 1e-3, 500
_PSTNN_RANK_SHARE, _PSTNN_SMALLEST = 0.1, 0.01


def ipi(frame: Frame) -> NDArray[np.float32]:
    """Find the sparse part of the infrared patch-image.

    Patches of 50 x 50 pixels, 10 apart, are the columns of a matrix, scaled to 0…1 and separated
    by `separate_matrix` with a sparsity of 1 / √(longer side of the frame). A pixel gets the
    median of what its patches say. In a frame of less than 100 pixels a patch is half a side.
    Unlike the authors' code, the last patches reach the frame's border.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16

    Returns
    -------
    (H, W) ndarray of float32
        DN above the background, 0 or more.
    """
    low, span = float(frame.min()), float(np.ptp(frame))
    if not span:
        return np.zeros(frame.shape, np.float32)
    sides = _patch_sides(frame, _IPI_SIDE)
    rows, cols = (
        _starts(length, side, max(side // _IPI_STEPS, 1))
        for length, side in zip(frame.shape, sides, strict=True)
    )
    windows: Values = sliding_window_view(frame, sides)[np.ix_(rows, cols)]
    patches = (windows.reshape(len(rows) * len(cols), -1) - low) / span
    _, sparse = separate_matrix(patches, 1 / math.sqrt(max(frame.shape)))
    target = _overlap_median(sparse.reshape(windows.shape), rows, cols, frame.shape)
    return np.maximum(target * span, 0).astype(np.float32)


def separate_matrix(matrix: Values, sparsity: float) -> tuple[Values, Values]:
    """Split a matrix into one of low rank and a sparse one.

    Accelerated proximal gradient on ‖B‖* + λ‖T‖₁ + ‖D − B − T‖² / (2μ), with μ falling by 0.9 from
    the second singular value of D to 0.005 of its fourth (Gao et al., algorithm 1; Toh and Yun,
    2010). It ends when the gradient is small (1e-6), when the rank has been steady for more than
    10 iterations, or when it exceeds 0.3 of the matrix's smaller side.

    Parameters
    ----------
    matrix : (M, N) ndarray of float
        D.
    sparsity : float
        λ.

    Returns
    -------
    low_rank, sparse : (M, N) ndarray of float32
        B and T.
    """
    if matrix.shape[0] > matrix.shape[1]:
        low_rank, sparse = separate_matrix(matrix.T, sparsity)
        return low_rank.T, sparse.T
    data = matrix.astype(np.float32)
    singular = np.sqrt(np.maximum(eigh(_gram(data), lower=True, eigvals_only=True)[::-1], 0))
    penalty = float(singular[min(1, len(singular) - 1)])
    floor = _IPI_FLOOR * float(singular[min(3, len(singular) - 1)])
    low_rank, sparse = data, np.zeros_like(data)
    # The gradient of the quadratic term is the same for B and for T, so that the iteration needs
    # nothing of them but their difference.
    difference = before = np.zeros_like(data)
    momentum = previous = 1.0
    rank = steady = entries = 0
    for _ in range(_IPI_ITERATIONS):
        ahead = difference + (previous - 1) / momentum * (difference - before)
        threshold = penalty / 2
        low_rank = (data + ahead) / 2
        sparse = _shrink(data - low_rank, float(sparsity) * threshold)
        low_rank, new_rank = _shrink_singular(low_rank, threshold)
        before, difference = difference, low_rank - sparse
        size = np.hypot(np.linalg.norm(low_rank), np.linalg.norm(sparse))
        change = np.linalg.norm(ahead - difference) / (math.sqrt(2) * max(1.0, size))
        nonzero = int(np.count_nonzero(sparse))
        if new_rank == rank:
            steady += 1
        else:
            rank, steady, entries = new_rank, 0, nonzero
        settled = steady > _IPI_STEADY and abs(nonzero - entries) < _IPI_CHANGES
        if change <= _IPI_TOLERANCE or settled or rank > _IPI_RANK_SHARE * len(data):
            break
        penalty = max(_IPI_DECAY * penalty, floor)
        previous, momentum = momentum, (1 + math.sqrt(1 + 4 * momentum**2)) / 2
    return low_rank, sparse


def pstnn(frame: Frame) -> NDArray[np.float32]:
    """Find the sparse part of the infrared patch-tensor.

    Patches of 40 x 40 pixels, side by side, are the slices of a tensor, separated by
    `separate_tensor` with a sparsity of 0.6 / √(40·slices) and the prior of `measure_corners`.
    Where the last patches overlap others they count. In a frame of less than 80 pixels a patch is
    half a side. The weights suit 8-bit DN, so a 16-bit frame is stretched to 0…255 first, from its
    own minimum and maximum.

    Parameters
    ----------
    frame : (H, W) ndarray of uint8 or uint16

    Returns
    -------
    (H, W) ndarray of float32
        DN above the background, 0 or more.
    """
    target = np.zeros(frame.shape)
    grey, unit = _stretch(frame)
    prior = measure_corners(grey)
    if not prior.any():
        return target.astype(np.float32)
    sides = _patch_sides(frame, _PSTNN_SIDE)
    starts = [_starts(*lengths) for lengths in zip(frame.shape, sides, sides, strict=True)]
    # Column by column: the order of the slices matters to the Fourier transform along them.
    tensor, weights = (
        sliding_window_view(image, sides)[np.ix_(*starts)].swapaxes(0, 1).reshape(-1, *sides)
        for image in (grey, prior)
    )
    _, sparse = separate_tensor(
        tensor, _PSTNN_WEIGHT / math.sqrt(max(sides) * len(tensor)), weights
    )
    for patch, (col, row) in zip(sparse, product(*starts[::-1]), strict=True):
        target[row : row + sides[0], col : col + sides[1]] = patch
    return np.maximum(target * unit, 0).astype(np.float32)


def separate_tensor(tensor: Values, sparsity: float, prior: Values) -> tuple[Values, Values]:
    """Split a tensor into one of low tubal rank and a sparse one.

    Alternating direction method of multipliers on the partial sum of the tensor nuclear norm plus
    λ‖W∘T‖₁ (Zhang and Peng, algorithm 2). The first N singular values of every Fourier slice are
    free, N being how many of the unfolded tensor reach 0.1 of the greatest. W is reset at every
    iteration to N / (|T| + 0.01) / prior. It ends when the residual is below 1e-3 of the tensor,
    or the number of positive entries of T stays.

    Parameters
    ----------
    tensor : (K, M, N) ndarray of float
        Slices first; DN of 8 bits.
    sparsity : float
        λ.
    prior : (K, M, N) ndarray of float
        How much every entry looks like a target, 0 to 1; there is none where it is 0.

    Returns
    -------
    low_rank, sparse : (K, M, N) ndarray of float64
    """
    singular = np.linalg.svd(tensor.reshape(len(tensor), -1), compute_uv=False)
    free = max(int(np.count_nonzero(singular >= _PSTNN_RANK_SHARE * singular[0])), 1)
    with np.errstate(divide="ignore"):
        doubt = free / prior
    low_rank, sparse, dual = (np.zeros(tensor.shape) for _ in range(3))
    weights = np.ones(tensor.shape)
    penalty, positive = _PSTNN_PENALTY, 0
    norm = np.linalg.norm(tensor)
    for _ in range(_PSTNN_ITERATIONS):
        low_rank = _shrink_slices(tensor - sparse - dual / penalty, 1 / penalty, free)
        sparse = _shrink(tensor - low_rank - dual / penalty, weights * (sparsity / penalty))
        weights = doubt / (np.abs(sparse) + _PSTNN_SMALLEST)
        residual = low_rank + sparse - tensor
        before, positive = positive, int(np.count_nonzero(sparse > 0))
        if np.linalg.norm(residual) < _PSTNN_TOLERANCE * norm or 0 < before == positive:
            break
        dual += penalty * residual
        penalty *= _PSTNN_GROWTH
    return low_rank, sparse


def measure_corners(image: Values) -> Values:
    """Compute PSTNN's prior: corner strength times the greater eigenvalue of the structure tensor.

    Parameters
    ----------
    image : (H, W) ndarray of float64

    Returns
    -------
    (H, W) ndarray of float64
        Stretched to 0…1; all 0 where nothing differs.
    """
    smooth = _smooth(image, 2)
    down, right = (
        np.gradient(smooth, axis=axis) if length > 1 else np.zeros_like(smooth)
        for axis, length in enumerate(smooth.shape)
    )
    rows, cols, both = (_smooth(part, 9) for part in (down * down, right * right, down * right))
    trace, determinant = rows + cols, rows * cols - both * both
    greater = (trace + np.sqrt((rows - cols) ** 2 + 4 * both * both)) / 2
    corner = np.divide(determinant, trace, out=np.zeros_like(trace), where=trace > 0)
    strength = corner * greater
    strength -= strength.min()
    return strength / (strength.max() or 1.0)


def _smooth(image: Values, sigma: float) -> Values:
    return cv2.GaussianBlur(image, (3, 3), sigma, borderType=cv2.BORDER_REFLECT)


def _stretch(frame: Frame) -> tuple[Values, float]:
    """Bring a frame to the scale of 8 bits; the second value is a step of it in DN."""
    values = frame.astype(np.float64)
    if frame.dtype == np.uint8:
        return values, 1.0
    unit = float(np.ptp(frame)) / 255 or 1.0
    return (values - values.min()) / unit, unit


def _patch_sides(frame: Frame, side: int) -> tuple[int, int]:
    height, width = (min(side, max(length // 2, 1)) for length in frame.shape)
    return height, width


def _starts(length: int, side: int, step: int) -> list[int]:
    """Where patches start along a side; the last one ends with it."""
    return [*range(0, length - side, step), length - side]


def _overlap_median(
    patches: Values, rows: list[int], cols: list[int], shape: tuple[int, ...]
) -> Values:
    """Give every pixel the median of the patches that hold it."""
    height, width = patches.shape[2:]
    counts = np.zeros(shape, np.intp)
    row_inside, col_inside = np.ogrid[:height, :width]
    deepest = max(np.bincount(_covered(rows, height))) * max(np.bincount(_covered(cols, width)))
    layers = np.full((deepest, *shape), np.inf, patches.dtype)
    for i, row in enumerate(rows):
        for j, col in enumerate(cols):
            count = counts[row : row + height, col : col + width]
            layers[count, row + row_inside, col + col_inside] = patches[i, j]
            count += 1
    layers.sort(axis=0)
    middle = [np.take_along_axis(layers, (counts - 1 + k)[None] // 2, axis=0)[0] for k in (0, 1)]
    return (middle[0] + middle[1]) / 2


def _covered(starts: list[int], side: int) -> NDArray[np.intp]:
    return np.add.outer(starts, np.arange(side)).ravel()


def _shrink(values: Values, threshold: Values | float) -> Values:
    return np.sign(values) * np.maximum(np.abs(values) - threshold, 0)


def _shrink_singular(matrix: Values, threshold: float) -> tuple[Values, int]:
    """Lower the singular values by `threshold`, and count those that remain.

    From the eigenvectors of the Gram matrix, which take a fraction of the time of a singular value
    decomposition, above all where few values remain.
    """
    values, vectors = eigh(
        _gram(matrix), lower=True, subset_by_value=(threshold**2, np.inf), overwrite_a=True
    )
    scale = 1 - threshold / np.sqrt(values)
    vectors = vectors.astype(matrix.dtype)
    return (vectors * scale.astype(matrix.dtype)) @ (vectors.T @ matrix), len(values)


def _gram(matrix: Values) -> Values:
    """Multiply a matrix by its transpose, in double precision; only the lower triangle is set."""
    return dsyrk(1.0, matrix.T.astype(np.float64), trans=1, lower=1)


def _shrink_slices(tensor: Values, threshold: float, free: int) -> Values:
    """Lower the singular values of every Fourier slice but for its first `free` ones."""
    left, singular, right = np.linalg.svd(np.fft.rfft(tensor, axis=0), full_matrices=False)
    singular[:, free:] = np.maximum(singular[:, free:] - threshold, 0)
    return np.fft.irfft((left * singular[:, None]) @ right, n=len(tensor), axis=0)
