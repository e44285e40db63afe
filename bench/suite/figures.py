# SPDX-License-Identifier: Apache-2.0
"""A figure, what it must reach, and how it is shown."""
import dataclasses


@dataclasses.dataclass
class Figure:
    label: str
    value: float | None
    unit: str
    measured: str  # what, in a line
    must: float | None = None
    aim: float | None = None
    more: bool = True  # is better

    def verdict(self):
        """"aim met", "met" or "not met"; "" without a measure."""
        def reached(wanted):
            if wanted is None:
                return False
            return self.value >= wanted if self.more else self.value <= wanted

        if self.must is None and self.aim is None or self.value is None:
            return ""
        if reached(self.aim):
            return "aim met"
        return "met" if reached(self.must) else "not met"

    def as_json(self):
        return dataclasses.asdict(self) | {"verdict": self.verdict()}


def ratio(a, b):
    return a / b if a is not None and b else None


def number_text(value):
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100 or value == 0:
        return f"{value:.0f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def with_unit(value, unit):
    if value is None:
        return "-"
    if unit in ("times", ""):
        return number_text(value)
    return f"{number_text(value)}{'' if unit == '%' else ' '}{unit}"


def columns(lines, left):
    """Lines of cells below each other; `left`: columns not set to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) if i in left else cell.rjust(w)
                  for i, (cell, w) in enumerate(zip(line, widths))).rstrip()
        for line in lines)


def wanted_text(figure, key):
    """`figure` as in JSON."""
    if figure[key] is None:
        return ""
    sign = "≥" if figure["more"] else "≤"
    value = figure[key]
    text = f"{value:g}" if value < 10000 else f"{value:,}"
    return f"{sign} {text}"


def table_text(rows):
    """All figures of all rows, for people."""
    lines = [["", "", "", "must reach", "aim", "", "  measured"]]
    for row in rows:
        for f in row["figures"]:
            lines.append([f["label"], number_text(f["value"]), f["unit"],
                          wanted_text(f, "must"), wanted_text(f, "aim"),
                          f["verdict"], "  " + f["measured"]])
    return columns(lines, left=(0, 2, 5, 6))
