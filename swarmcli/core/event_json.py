"""Events as JSON: the lines of the journal and of `--format stream-json`."""

from collections.abc import Mapping
from dataclasses import Field, fields
from types import UnionType
from typing import Any, cast, get_args

from swarmcli.core.events import EVENT_TYPES, SCHEMA_VERSION, Failure, Stamped, Usage

_PLAIN = {int, float, str, bool, type(None)}
_VALUES: Mapping[str, type[Usage] | type[Failure]] = {"tokens": Usage, "error": Failure}
_TUPLES = frozenset({"depends_on", "added", "removed"})


def _plain(value: object) -> object:
    if isinstance(value, Usage | Failure):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in cast("tuple[object, ...]", value)]
    return value


def _value_of(cls: type[Usage] | type[Failure], record: Mapping[str, Any]) -> Usage | Failure:
    return cls(**{f.name: _fitting(f, record[f.name]) for f in fields(cls) if f.name in record})


def _fitting(field_: Field[Any], value: object) -> Any:  # noqa: ANN401  as the field says
    """`value`, where its plain type is the field's: whoever adds up a journal relies on numbers being numbers.

    Raises:
        TypeError: it is not.
    """
    is_union = isinstance(field_.type, UnionType)
    wanted = set(get_args(field_.type)) if is_union else {field_.type}
    if wanted <= _PLAIN:
        whole_is_fine = type(value) is int and float in wanted
        if type(value) not in wanted and not whole_is_fine:
            raise TypeError(f"{field_.name} is {value!r:.40}")
    return value


def to_record(stamped: Stamped) -> dict[str, object]:
    """The event as the JSON object of events v1; `agent` is left out where there is none."""
    event = stamped.event
    record: dict[str, object] = {
        "v": SCHEMA_VERSION,
        "seq": stamped.seq,
        "ts": stamped.ts,
        "run": stamped.run,
        "t": round(stamped.t, 4),
        "type": event.type,
    }
    for f in fields(event):
        value = getattr(event, f.name)
        if value is None and f.name in {"agent", "repair", "revision", "vote"}:
            continue
        record[f.name] = _plain(value)
    return record


def from_record(record: Mapping[str, Any]) -> Stamped | None:
    """The inverse of `to_record`; None for a type of a newer version. Unknown fields are ignored.

    Raises:
        KeyError, TypeError: the record is not an event.
    """
    cls = EVENT_TYPES.get(record["type"])
    if cls is None:
        return None
    known: dict[str, Any] = {}
    for f in fields(cls):
        if f.name not in record:
            continue
        value = record[f.name]
        if f.name in _VALUES and isinstance(value, dict):
            value = _value_of(_VALUES[f.name], cast("dict[str, Any]", value))
        elif isinstance(value, list) and f.name in _TUPLES:
            value = tuple(cast("list[str]", value))
        known[f.name] = _fitting(f, cast("object", value))
    return Stamped(
        seq=int(record["seq"]),
        ts=str(record["ts"]),
        run=str(record["run"]),
        t=float(record.get("t", 0.0)),
        event=cls(**known),
    )
