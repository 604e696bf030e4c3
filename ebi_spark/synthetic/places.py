"""Made-up practices, providers and small areas in the real ICBs and sub-ICB locations."""

import csv
import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from ebi_spark.config.shipped_files import resource
from ebi_spark.synthetic import shares

# Frimley's location until 1 April 2026, and the new location of Thames Valley that has its people in the 2026 table.
CHANGED_2026 = ("D4U1Y", "U2G6B")
PEOPLE_A_PRACTICE = 10_000
SMALL_AREAS = 250  # in each location
FIFTHS = 5
# How the codes of made-up trusts begin: those of real trusts have no such second letter. Then those of independent providers.
MADE_UP_TRUSTS, INDEPENDENT = ("RI", "RO", "RU", "RZ"), "NV"


@dataclass(frozen=True)
class Places:
    """Sub-ICB locations in the order of their codes, with people by sex and age band (as in the population table)."""

    locations: tuple[str, ...]
    boards: tuple[str, ...]
    people: dict[str, dict[str, int]]

    @cached_property
    def totals(self) -> tuple[int, ...]:
        """People of each location."""
        return tuple(sum(self.people[code].values()) for code in self.locations)

    @cached_property
    def practice_starts(self) -> tuple[int, ...]:
        """The number of the first practice of each location; the last item is the number of all practices."""
        starts = [0]
        for total in self.totals:
            starts.append(starts[-1] + max(3, total // PEOPLE_A_PRACTICE))
        return tuple(starts)

    @cached_property
    def providers(self) -> tuple[str, ...]:
        """A made-up trust for each location."""
        signs = "0123456789ABCDEFGHJKLMNPQRSTVWXYZ"
        return tuple(f"{MADE_UP_TRUSTS[i // len(signs)]}{signs[i % len(signs)]}" for i in range(len(self.locations)))

    def factors(self, seed: int, policy: str) -> tuple[float, ...]:
        """How much more or less of a policy's activity each location has than England: 1 is the same."""
        low, high = shares.BOARD_FACTOR
        near, far = shares.LOCATION_FACTOR
        raw = [
            (low + (high - low) * uniform(f"{seed}:{policy}:{board}"))
            * (near + (far - near) * uniform(f"{seed}:{policy}:{board}:{code}"))
            for code, board in zip(self.locations, self.boards, strict=True)
        ]
        # Scaled so that England's share is the stated one, whatever the seed.
        mean = sum(factor * people for factor, people in zip(raw, self.totals, strict=True)) / sum(self.totals)
        return tuple(factor / mean for factor in raw)

    def write_practices(self, path: Path) -> int:
        """Write ``practice_code, sub_icb_code, valid_from, valid_to`` as CSV. Returns the number of rows."""
        rows = []
        for place, code in enumerate(self.locations):
            for number in range(self.practice_starts[place], self.practice_starts[place + 1]):
                if code == CHANGED_2026[1]:
                    rows.append((practice_code(number), CHANGED_2026[0], "2012-04-01", "2026-04-01"))
                    rows.append((practice_code(number), code, "2026-04-01", ""))
                else:
                    rows.append((practice_code(number), code, "2012-04-01", ""))
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("practice_code", "sub_icb_code", "valid_from", "valid_to"))
            writer.writerows(sorted(rows))
        return len(rows)

    def write_deprivation(self, lookup: Path, people: Path) -> int:
        """Write ``lsoa, fifth`` and ``fifth, sex, age_from, people`` as CSV. Returns the number of small areas.

        The fifths are made up: the small areas of each location are put into the fifths in turn. So each fifth has a fifth of all
        people, and fifths differ in activity only by chance.
        """
        areas = [(f"E019{n:05d}", n % FIFTHS + 1) for n in range(len(self.locations) * SMALL_AREAS)]
        cells: dict[str, int] = {}
        for of_location in self.people.values():
            for cell, number in of_location.items():
                cells[cell] = cells.get(cell, 0) + number
        rows = [
            (fifth, cell[0], int(cell[1:]) * 5, round(number / FIFTHS))
            for fifth in range(1, FIFTHS + 1)
            for cell, number in sorted(cells.items())
        ]
        for path, header, listed in (
            (lookup, ("lsoa", "fifth"), areas),
            (people, ("fifth", "sex", "age_from", "people"), rows),
        ):
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(header)
                writer.writerows(listed)
        return len(areas)


def practice_code(number: int) -> str:
    """The code of a made-up practice: a letter, a 9 and four digits."""
    return f"{chr(ord('A') + number // 1_000)}9{number % 1_000:03d}{number % 7}"


def uniform(text: str) -> float:
    """A number in [0, 1) that is the same for the same text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


@lru_cache(maxsize=1)
def places() -> Places:
    """The locations of the shipped population table."""
    people: dict[str, dict[str, int]] = {}
    with resource("conf", "reference", "population_gp_registered.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            cell = f"{row['sex']}{int(row['age_from']) // 5:02d}"
            people.setdefault(row["area_code"], {})[cell] = int(row["people"])
    with resource("conf", "reference", "areas.csv").open(encoding="utf-8", newline="") as file:
        boards = {row["sub_icb_code"]: row["icb_code"] for row in csv.DictReader(file) if not row["valid_to"]}
    locations = tuple(sorted(people))
    return Places(locations, tuple(boards[code] for code in locations), people)
