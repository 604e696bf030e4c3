"""Rates and their limits as Columns, each with its formula and source.

All rates are per 100,000. Limits are at 95% (z = 1.959963984540054).
"""

from pyspark.sql import Column
from pyspark.sql import functions as F

from ebi_spark.flags.areas import read_rows
from ebi_spark.settings import resource

PER = 100_000
Z_95 = 1.959963984540054
FEW_EVENTS = 10


def crude_rate(events: Column, people: Column) -> Column:
    """Events per 100,000 people; NULL without people."""
    return F.when(people > 0, events / people * PER)


def byar_lower(events: Column) -> Column:
    """Byar's lower limit of a Poisson count of 10 or more: L = x(1 − 1/9x − z/(3√x))³.

    Breslow and Day, Statistical Methods in Cancer Research II (1987), p. 69.
    """
    return events * F.pow(1 - 1 / (9 * events) - Z_95 / (3 * F.sqrt(events)), F.lit(3))


def byar_upper(events: Column) -> Column:
    """Byar's upper limit: U = y(1 − 1/9y + z/(3√y))³ with y = x + 1."""
    y = events + 1
    return y * F.pow(1 - 1 / (9 * y) + Z_95 / (3 * F.sqrt(y)), F.lit(3))


def count_limits(events: Column) -> tuple[Column, Column]:
    """95% limits of a count: exact Poisson below 10 (from ``conf/reference``), Byar's from 10 on."""
    lower, upper = byar_lower(events), byar_upper(events)
    rows = read_rows(resource("conf", "reference", "poisson_limits.csv"))
    exact_lower = F.array(*[F.lit(float(row["lower95"])) for row in sorted(rows, key=lambda row: int(row["x"]))])
    exact_upper = F.array(*[F.lit(float(row["upper95"])) for row in sorted(rows, key=lambda row: int(row["x"]))])
    few = events < FEW_EVENTS
    index = F.least(events, F.lit(FEW_EVENTS - 1)).cast("int")
    return F.when(few, F.get(exact_lower, index)).otherwise(lower), F.when(few, F.get(exact_upper, index)).otherwise(
        upper
    )


def standardised_rate(weighted_rates: Column, weights: Column | float) -> Column:
    """Directly standardised rate r = Σ(w·x/n)/Σw, per 100,000, from the sum of w·x/n and the sum of all weights."""
    return weighted_rates / weights * PER


def dobson_limits(
    events: Column, weighted_rates: Column, weighted_variances: Column, weights: float
) -> tuple[Column, Column]:
    """95% limits of a directly standardised rate: r + √(V/O)·(L(O) − O), and likewise above.

    V = Σ(w²x/n²)/(Σw)²; L, U the limits of the count O. Dobson and others, Statistics in Medicine 10 (1991) 457–462.
    With no event the lower limit is 0 and the upper cannot be had this way (NULL).
    """
    rate = weighted_rates / weights
    spread = F.sqrt(weighted_variances / (weights * weights) / events)
    low, high = count_limits(events)
    lower = F.when(events > 0, (rate + spread * (low - events)) * PER).when(events == 0, 0.0)
    upper = F.when(events > 0, (rate + spread * (high - events)) * PER)
    return lower, upper
