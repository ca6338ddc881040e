"""The table of `swarm eval`: one row a configuration, plain text."""

from collections.abc import Mapping, Sequence
from typing import cast

from swarmcli.recipe.values import Json
from swarmcli.ui.clean import one_line

Row = Mapping[str, Json]

_HEAD = (
    "configuration",
    "right",
    "accuracy",
    "difference",
    "won/lost",
    "p",
    "cost",
    "p50",
    "p95",
    "calls",
    "escalated",
)
_NONE = "-"


def score_table(rows: Sequence[Row]) -> str:
    """The table, the reference in its first row; without columns that have nothing to say.

    Args:
        rows: `core.scoring.Result.summary` of each configuration.
    """
    lines: list[tuple[str, ...]] = [_HEAD, *(_cells(row) for row in rows)]
    said = [c for c in range(len(_HEAD)) if any(line[c] != _NONE for line in lines[1:])]
    lines = [tuple(line[column] for column in said) for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([*text, *_legend(rows)])


def _legend(rows: Sequence[Row]) -> list[str]:
    if len(rows) < 2:
        return []
    name = one_line(str(rows[0]["name"]))
    return [
        "",
        f"difference: against {name} on the same questions, in points, ± its standard error; "
        f"won/lost: right here only / in {name} only; p: McNemar's exact test",
    ]


def _cells(row: Row) -> tuple[str, ...]:
    against = row["difference"]
    pair = cast("Row", against) if isinstance(against, dict) else None
    return (
        one_line(str(row["name"])),
        f"{row['right']}/{row['asked']}",
        f"{_points(row['accuracy'], row['accuracy_se'])} %" if row["asked"] else _NONE,
        _points(pair["mean"], pair["se"], sign="+") if pair else _NONE,
        f"{pair['won']}/{pair['lost']}" if pair else _NONE,
        _p_value(cast("float", pair["p_value"])) if pair else _NONE,
        "unknown" if row["cost_usd"] is None else _dollars(cast("float", row["cost_usd"])),
        _seconds(row["seconds_p50"]),
        _seconds(row["seconds_p95"]),
        f"{row['calls']:,}",
        _NONE if row["escalated"] is None else f"{100 * cast('float', row['escalated']):.1f} %",
    )


def _points(mean: Json, error: Json, sign: str = "") -> str:
    """A share and its standard error as percentage points."""
    if mean is None:
        return _NONE
    shown = f"{100 * cast('float', mean):{sign}.1f}"
    return shown if error is None else f"{shown} ±{100 * cast('float', error):.1f}"


def _p_value(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _dollars(cost_usd: float) -> str:
    return f"${cost_usd:.2f}" if cost_usd == 0 or cost_usd >= 1 else f"${cost_usd:.4f}"


def _seconds(value: Json) -> str:
    if value is None:
        return _NONE
    seconds = cast("float", value)
    return f"{seconds:.2f}s" if seconds < 10 else f"{seconds:.1f}s"
