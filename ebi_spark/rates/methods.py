"""Rates and their confidence limits as Columns, each with its formula and source.

All rates are per 100,000. Limits are at 95% (z = 1.959963984540054).
"""

from pyspark.sql import Column
from pyspark.sql import functions as F

from ebi_spark.config.shipped_files import resource
from ebi_spark.small_files import read_rows
from ebi_spark.statistics.levels import Z_95

PER = 100_000
FEW_EVENTS = 10
NO_POPULATION = "no_population"


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
    """95% limits of a count: exact Poisson limits below 10 (from ``conf/reference``), Byar's limits from 10."""
    lower, upper = byar_lower(events), byar_upper(events)
    rows = read_rows(resource("conf", "reference", "poisson_limits.csv"))
    rows.sort(key=lambda row: int(row["x"]))
    exact_lower, exact_upper = (F.array(*[F.lit(float(row[name])) for row in rows]) for name in ("lower95", "upper95"))
    few = events < FEW_EVENTS
    index = F.least(events, F.lit(FEW_EVENTS - 1)).cast("int")
    return (
        F.when(few, F.get(exact_lower, index)).otherwise(lower),
        F.when(few, F.get(exact_upper, index)).otherwise(upper),
    )


def rate_status(has_people: Column, computable: Column, events: Column) -> Column:
    """What there is to know of a standardised rate: ``no_population``, ``not_calculated`` (records in a stratum without people),
    ``few_events`` (fewer than 10) or ``ok``."""
    return (
        F.when(~has_people, F.lit(NO_POPULATION))
        .when(~computable, F.lit("not_calculated"))
        .when(events < FEW_EVENTS, F.lit("few_events"))
        .otherwise(F.lit("ok"))
    )


def repeated_variance(person_sum: Column) -> Column:
    """Aggregate: the variance of a sum to which people can contribute several events, V = Σ c² over people.

    ``person_sum`` (c) is what one person adds to the sum. For a count of events, c is the person's number of events f, and
    V = Σ f²·V_f, where V_f is the number of people with f events (each a Poisson count). For a directly standardised rate, c
    is Σ w·f/n over the strata of the person's events (over pooled years these can be several), so that
    V = Σ(w²·Σf²·V_f/n²)/(Σw)² where nobody changes stratum. If nobody has two events, V is the plain variance. OHID, Technical
    guide: confidence intervals (2018); Carriere and Roos, Statistics in Medicine 16 (1997) 57–69.
    """
    return F.sum(person_sum * person_sum)


def standard_error(weighted_variances: Column, weights: float) -> Column:
    """Standard error of a directly standardised rate, per 100,000: √V with V = Σ(w²x/n²)/(Σw)², or V for repeated events
    (:func:`repeated_variance`)."""
    return F.sqrt(weighted_variances) / weights * PER


def wilson_limits(part: Column, whole: Column) -> tuple[Column, Column]:
    """95% limits of a proportion part/whole: (2a + z² ∓ z√(z² + 4a(1 − a/n))) / 2(n + z²); NULL without a whole.

    Wilson, Journal of the American Statistical Association 22 (1927) 209–212; Newcombe and Altman (2000).
    """
    square = Z_95 * Z_95
    spread = Z_95 * F.sqrt(square + 4 * part * (1 - F.try_divide(part, whole)))
    lower, upper = ((2 * part + square + side * spread) / (2 * (whole + square)) for side in (-1, 1))
    # Rounding can push limits slightly below 0 or above 1. Spark's greatest and least ignore NULL, so NULL is tested for first.
    known = (whole > 0) & part.isNotNull()
    return F.when(known, F.greatest(lower, F.lit(0.0))), F.when(known, F.least(upper, F.lit(1.0)))


def standardised_rate(weighted_rates: Column, weights: Column | float) -> Column:
    """Directly standardised rate r = Σ(w·x/n)/Σw, per 100,000, from the sum of w·x/n and the sum of all weights."""
    return weighted_rates / weights * PER


def dobson_limits(
    events: Column, weighted_rates: Column, weighted_variances: Column, weights: float
) -> tuple[Column, Column]:
    """95% limits of a directly standardised rate: r + √(V/O)·(L(O) − O), and the same with U(O) for the upper limit.

    V = Σ(w²x/n²)/(Σw)²; L and U are the limits of the count O. Dobson and others, Statistics in Medicine 10 (1991) 457–462.
    Without events the lower limit is 0 and the upper one cannot be calculated this way (NULL).
    """
    rate = weighted_rates / weights
    spread = F.sqrt(weighted_variances / (weights * weights) / events)
    low, high = count_limits(events)
    lower = F.when(events > 0, (rate + spread * (low - events)) * PER).when(events == 0, 0.0)
    upper = F.when(events > 0, (rate + spread * (high - events)) * PER)
    return lower, upper
