"""Random draws as Spark columns. A draw depends on seed, row key and name only, never on partition, core or order."""

import hashlib
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from pyspark.sql import Column
from pyspark.sql import functions as F

# `Draws.pick` chooses one of so many slots (2 to this power).
_PICK_BITS = 10


def salt(seed: int, name: str) -> int:
    """A signed 64-bit number that depends on a seed and a field's name."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big", signed=True)


@dataclass(frozen=True)
class Draws:
    """The draws of one kind of row. ``key`` identifies the row and a name identifies the draw."""

    seed: int
    key: Column

    def bits(self, name: str, *more: Column) -> Column:
        """64 uniformly distributed bits as a BIGINT."""
        return F.xxhash64(self.key, *more, F.lit(salt(self.seed, name)))

    def uniform(self, name: str, *more: Column) -> Column:
        """A DOUBLE in [0, 1)."""
        return F.shiftrightunsigned(self.bits(name, *more), 11) * F.lit(2.0**-53)

    def chance(self, name: str, share: float, *more: Column) -> Column:
        """True for a share of the rows."""
        # Comparing integers saves a multiplication for each row.
        return F.shiftrightunsigned(self.bits(name, *more), 32) < F.lit(round(share * 2**32))

    def below(self, name: str, limit: Column | int, *more: Column) -> Column:
        """An INT from 0 to ``limit`` - 1."""
        bound = F.lit(limit) if isinstance(limit, int) else limit.cast("bigint")
        return F.pmod(self.bits(name, *more), bound).cast("int")

    def pick(self, name: str, weights: Mapping[str, float]) -> Column:
        """A value, drawn in proportion to its weight. Shares are exact to 1 in 1,024.

        The values are in one byte string, each padded and repeated in proportion to its weight. A draw is then one slice of the
        string, without a search or a join. Long lists would make the query plan too large: they are joined instead
        (:mod:`lookups`).
        """
        width = max(map(len, weights))
        values = "".join(value.ljust(width) for value in sampled(weights, 1 << _PICK_BITS)).encode("ascii")
        text = F.substring(F.lit(bytearray(values)), self.slot(name, _PICK_BITS) * width + 1, F.lit(width))
        return F.rtrim(text.cast("string"))

    def slot(self, name: str, bits: int, *more: Column) -> Column:
        """An INT from 0 to 2**``bits`` - 1."""
        return F.shiftrightunsigned(self.bits(name, *more), 64 - bits).cast("int")


def sampled(weights: Mapping[str, float], count: int) -> list[str]:
    """``count`` values, each as often as its weight says.

    This is systematic sampling: the k-th value is the one at the k-th step of the cumulative weight. Values rarer than one
    step still appear, together, as often as they should.
    """
    names = list(weights)
    sums = list(accumulate(weights.values()))
    return [names[bisect_left(sums, (k + 0.5) * sums[-1] / count)] for k in range(count)]
