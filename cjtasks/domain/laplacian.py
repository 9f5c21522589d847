"""Solving L x = b for the information matrix of paired comparisons, which is a weighted graph's Laplacian.

The weight of a pair is p (1 - p) summed over its comparisons; L has the essays' sums of weights on its diagonal and
the weights with a minus sign elsewhere. Values that are equal throughout a component are its null space: b has to add
up to 0 in each component.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FloatArray = NDArray[np.float64]


def solve_dense(weights: FloatArray, diagonal: FloatArray, right: FloatArray, lift: FloatArray | float) -> FloatArray:
    """Solve by Cholesky; `weights` is (n, n) and symmetric, its rows add up to `diagonal`.

    `lift` is added to L: constant and positive within each component, 0 between components, it makes L definite and
    leaves the solution that adds up to 0 as it is. Raises LinAlgError where rounding has left L indefinite.
    """
    lifted = lift - weights
    lifted.ravel()[:: diagonal.size + 1] += diagonal
    # LAPACK reads columns: of the transpose it needs no copy.
    _, solution, failure = dposv(lifted.T, right, overwrite_a=1)
    if failure:
        raise np.linalg.LinAlgError("the information matrix is not positive definite")
    return np.asarray(solution, np.float64)


def solve_sparse(half: csr_array, diagonal: FloatArray, right: FloatArray, tolerance: float) -> FloatArray:
    """Solve by conjugate gradients preconditioned by the diagonal (Saad 2003, algorithm 9.1).

    The weights are `half` and its transpose together. Stops when the residual, in the norm of the inverse diagonal,
    has fallen to `tolerance` times its first size.
    """
    other = half.T
    solution, residual = np.zeros_like(right), right.copy()
    direction = residual / diagonal
    energy = float(residual @ direction)
    enough = tolerance**2 * energy
    for _ in range(right.size):
        if energy <= enough:
            break
        image = diagonal * direction
        image -= half @ direction
        image -= other @ direction
        curvature = float(direction @ image)
        if curvature <= 0:
            break  # Only rounding is left, along the common mean, about which no comparison tells anything.
        length = energy / curvature
        solution += length * direction
        residual -= length * image
        scaled = residual / diagonal
        before, energy = energy, float(residual @ scaled)
        direction *= energy / before
        direction += scaled
    return solution
