"""Draws as Spark columns: pure functions of (seed, row key, name), never of partition, core or order."""

import hashlib
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from pyspark.sql import Column
from pyspark.sql import functions as F


def salt(seed: int, name: str) -> int:
    """A signed 64-bit number for a seed and a field's name."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big", signed=True)


@dataclass(frozen=True)
class Draws:
    """The draws of one kind of row: ``key`` tells rows apart, names tell draws apart."""

    seed: int
    key: Column

    def bits(self, name: str, *more: Column) -> Column:
        """64 even bits as a BIGINT."""
        return F.xxhash64(self.key, *more, F.lit(salt(self.seed, name)))

    def uniform(self, name: str, *more: Column) -> Column:
        """A DOUBLE in [0, 1)."""
        return F.shiftrightunsigned(self.bits(name, *more), 11) * F.lit(2.0**-53)

    def chance(self, name: str, share: float, *more: Column) -> Column:
        """True for a share of the rows."""
        # Comparing integers spares a multiplication a row.
        return F.shiftrightunsigned(self.bits(name, *more), 32) < F.lit(round(share * 2**32))

    def below(self, name: str, limit: Column | int, *more: Column) -> Column:
        """An INT from 0 to ``limit`` - 1."""
        bound = F.lit(limit) if isinstance(limit, int) else limit.cast("bigint")
        return F.pmod(self.bits(name, *more), bound).cast("int")

    def pick(self, name: str, weights: Mapping[str, float]) -> Column:
        """A value as often as it weighs, to 1 in 1,024."""
        table = slots(weights)
        return table.at(self.slot(name, table.bits))

    def slot(self, name: str, bits: int, *more: Column) -> Column:
        """An INT of so many bits."""
        return F.shiftrightunsigned(self.bits(name, *more), 64 - bits).cast("int")


@dataclass(frozen=True)
class Slots:
    """A short list of values as text of one width, one after the other, repeated as often as they weigh.

    A draw is then one slice of a byte string: no search, no join. A value's share is right to 1 in 2**bits.
    Long lists would swell the query plan: they are joined (:mod:`lookups`).
    """

    width: int
    bits: int
    values: bytes

    def at(self, slot: Column) -> Column:
        """The text in a slot, without its padding."""
        text = F.substring(F.lit(bytearray(self.values)), slot * self.width + 1, F.lit(self.width))
        return F.rtrim(text.cast("string"))


def slots(weights: Mapping[str, float], bits: int = 10) -> Slots:
    """A table of value → weight."""
    width = max(map(len, weights))
    return Slots(width, bits, "".join(value.ljust(width) for value in sampled(weights, 1 << bits)).encode("ascii"))


def sampled(weights: Mapping[str, float], count: int) -> list[str]:
    """As many values as asked for, each as often as it weighs.

    Systematic sampling: the k-th is the value at the k-th step of the cumulative weight, so that values
    rarer than a step still turn up as often as they should together.
    """
    names = list(weights)
    sums = list(accumulate(weights.values()))
    return [names[bisect_left(sums, (k + 0.5) * sums[-1] / count)] for k in range(count)]
