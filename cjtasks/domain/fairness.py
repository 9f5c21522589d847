"""How places are dealt out among batches of very different size."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def fair_shares(wanted: Mapping[int, int], most: int) -> dict[int, int]:
    """Deal out `most` places by max-min fairness: nobody could have more without another having less than that.

    wanted: how many places each batch could use, by its id. Whoever wants less than an even share gets all of
    it, and what it leaves is dealt out among the others; the smaller wish goes first where a rest cannot be
    split. Batches that get nothing are left out. (D. Bertsekas, R. Gallager: Data Networks, section 6.5.)
    """
    shares: dict[int, int] = {}
    left, claimants = most, len(wanted)
    for batch_id, wish in sorted(wanted.items(), key=lambda item: item[1]):
        share = min(wish, -(-left // claimants))
        claimants -= 1
        if share > 0:
            shares[batch_id] = share
            left -= share
    return shares
