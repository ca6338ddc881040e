"""Templates that a person wrote: `{{ topic }}`, `{{ inputs.scan }}`, and beyond names a bounded Jinja.

Names, keys and indexes are rendered here, without importing Jinja (0.1 s, in every `swarm check`). Anything else goes
to Jinja's sandbox, cut down to a dialect without I/O and randomness, in which no small template makes a large result
or a long loop.

Rule: a value is never read as a template. Text is put in as it is, text from outside in a data block, everything else
as JSON.
"""

import contextlib
import functools
import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from swarmcli.recipe.outside import OutsideText, made_of, outside_in
from swarmcli.recipe.rendering import Budget, TemplateError
from swarmcli.recipe.values import Json
from swarmcli.recipe.wording import did_you_mean, found

if TYPE_CHECKING:
    from jinja2 import Environment, Template, nodes

__all__ = ["TemplateError", "evaluate", "is_expression", "render", "roots"]

_NAME = re.compile(
    r"""(?<!\{)\{\{\s*
        ([A-Za-z_][A-Za-z0-9_]*)
        ((?:\.[A-Za-z_][A-Za-z0-9_]*|\[\s*(?:-?[0-9]{1,9}|'[^'\\{}]*'|"[^"\\{}]*")\s*\])*)
        \s*\}\}""",
    re.VERBOSE,
)
_STEP = re.compile(r"\.(\w+)|\[\s*(-?[0-9]+)\s*\]|\[\s*(['\"])(.*?)\3\s*\]")
_MARK = re.compile(r"\{[{%#]")
_WORDS = frozenset(
    {"true", "false", "none", "True", "False", "None", "not", "and", "or", "in", "is", "if", "else", "for", "self",
     "loop"}
)  # fmt: skip
"""What Jinja reads as something other than a variable."""


def render(template: str, variables: Mapping[str, object]) -> str:
    """The template's text with every variable filled in.

    Raises:
        TemplateError: a variable does not exist, the template is not valid, or its result is too large.
    """
    if not _MARK.search(template):
        return template
    if not _is_simple(template):
        return _render_with_jinja(template, variables)
    with Budget() as budget:
        return _NAME.sub(lambda name: budget.written(_look_up(name, variables)), template)


@functools.lru_cache(maxsize=1024)
def roots(template: str) -> frozenset[str]:
    """The variables that a template needs: `topic`; for an input both `inputs` and `inputs.scan`.

    Raises:
        TemplateError: the template is not valid.
    """
    if not _MARK.search(template):
        return frozenset()
    if not _is_simple(template):
        return _roots_with_jinja(template)
    names: set[str] = set()
    for name in _NAME.finditer(template):
        names.add(name[1])
        steps = _steps(name[2])
        if name[1] == "inputs" and steps:
            names.add(f"inputs.{steps[0]}")
    return frozenset(names)


def is_expression(template: str) -> bool:
    """Whether the template is one `{{ ... }}` and nothing else, as `for_each.items` must be."""
    text = template.strip()
    return text.startswith("{{") and text.endswith("}}") and len(_MARK.findall(text)) == 1


def evaluate(expression: str, variables: Mapping[str, object]) -> list[Json]:
    """The list that `{{ expression }}` stands for: native values, never rendered to text and back.

    Raises:
        TemplateError: not one expression, a variable that does not exist, or no list.
    """
    text = expression.strip()
    if not is_expression(text):
        message = f"one expression such as {{{{ files }}}} is needed, found {found(text)}"
        raise TemplateError(message)
    name = _NAME.fullmatch(text)
    if name is not None and _is_simple(text):
        value = _look_up(name, variables)
    else:
        value = _evaluate_with_jinja(text, variables)
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        what = found(cast("object", value))
        raise TemplateError(f"{text} is no list, found {what}")
    with Budget() as budget:
        return [budget.plain(item) for item in budget.loop(cast("Iterable[object]", value))]


# Names, keys and indexes


def _is_simple(template: str) -> bool:
    if any(name[1] in _WORDS for name in _NAME.finditer(template)):
        return False
    return not _MARK.search(_NAME.sub(" ", template))


def _steps(path: str) -> list[str | int]:
    return [int(step[2]) if step[2] else step[1] or step[4] for step in _STEP.finditer(path)]


def _look_up(name: re.Match[str], variables: Mapping[str, object]) -> object:
    root = name[1]
    if root not in variables:
        raise _unknown(root, variables)
    value, shown = variables[root], root
    for step in _steps(name[2]):
        try:
            value = _member(value, step)
        except (LookupError, TypeError):
            what = f"'{step}'" if isinstance(step, str) else f"item {step}"
            raise TemplateError(
                f"'{shown}' has no {what}", hint=did_you_mean(str(step), _keys(value))
            ) from None
        shown += f".{step}" if isinstance(step, str) else f"[{step}]"
    return value


def _member(value: object, step: str | int) -> object:
    """One step of a path. The engine's `inputs` is no Mapping: something that has `[name]` is enough.

    Raises:
        LookupError, TypeError: there is no such member.
    """
    if isinstance(value, str | bytes | Sequence) and not isinstance(step, int):
        raise TypeError(step)
    return cast("Any", value)[step]


def _keys(value: object) -> list[str]:
    return (
        [str(key) for key in cast("Mapping[object, object]", value)]
        if isinstance(value, Mapping)
        else []
    )


def _unknown(name: str, variables: Iterable[str]) -> TemplateError:
    return TemplateError(f"unknown variable '{name}'", hint=did_you_mean(name, sorted(variables)))


# Jinja, for everything beyond names


def _render_with_jinja(template: str, variables: Mapping[str, object]) -> str:
    with Budget(), _jinja_errors(variables):
        pieces: list[str] = []
        written = Budget()
        for piece in _compiled(template).generate(variables):
            written.spend(len(piece))
            pieces.append(piece)
        return "".join(pieces)


def _evaluate_with_jinja(template: str, variables: Mapping[str, object]) -> object:
    from jinja2 import Undefined, nodes

    with Budget() as budget, _jinja_errors(variables):
        environment = _environment()
        body = environment.parse(template).body
        outputs = body[0].nodes if len(body) == 1 and isinstance(body[0], nodes.Output) else []
        if len(outputs) != 1:
            raise TemplateError(f"{template} is not one expression")
        assign = nodes.Assign(nodes.Name("result", "store"), outputs[0], lineno=1)
        tree = nodes.Template([assign], lineno=1)
        tree.set_environment(environment)
        module = environment.from_string(tree).make_module(dict(variables))
        value = cast("object", module.__dict__["result"])
        if isinstance(value, Undefined):
            str(value)  # raises, and names what is undefined
        return [*budget.loop(cast("Any", value))] if isinstance(value, Iterator) else value


def _roots_with_jinja(template: str) -> frozenset[str]:
    from jinja2 import meta, nodes

    with Budget(), _jinja_errors(()):
        tree = _environment().parse(template)
        names = set(meta.find_undeclared_variables(tree))
        called = {id(call.node) for call in tree.find_all(nodes.Call)}
        for access in tree.find_all((nodes.Getattr, nodes.Getitem)):
            if not isinstance(access.node, nodes.Name) or access.node.name != "inputs":
                continue
            key = access.attr if isinstance(access, nodes.Getattr) else access.arg
            key = cast("object", key.value) if isinstance(key, nodes.Const) else key
            if isinstance(key, str) and id(access) not in called:
                names.add(f"inputs.{key}")
        return frozenset(names)


@functools.lru_cache(maxsize=256)
def _compiled(template: str) -> "Template":
    return _environment().from_string(template)


@contextlib.contextmanager
def _jinja_errors(variables: Iterable[str]) -> Generator[None]:
    """Turns what Jinja raises, and what a template can provoke in Python, into `TemplateError`."""
    import jinja2

    try:
        yield
    except TemplateError:
        raise
    except jinja2.TemplateSyntaxError as error:
        message = (error.message or "not valid").rstrip(".")
        raise TemplateError(f"template: {message}", line=error.lineno) from None
    except jinja2.UndefinedError as error:
        missing = re.fullmatch(r"'(\w+)' is undefined", error.message or "")
        if missing:
            raise _unknown(missing[1], variables) from None
        raise TemplateError(f"template: {error.message}") from None
    except (jinja2.TemplateError, ArithmeticError, AttributeError) as error:
        raise TemplateError(f"template: {error}") from None
    except (LookupError, TypeError, ValueError) as error:
        raise TemplateError(f"template: {error}") from None


_FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "groupby", "int", "items", "last",
    "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "round", "select", "selectattr",
    "sort", "sum", "title", "trim", "truncate", "unique", "upper", "wordcount",
)  # fmt: skip
_STR_METHODS = frozenset(
    {"capitalize", "count", "endswith", "find", "lower", "lstrip", "removeprefix", "removesuffix", "rstrip", "split",
     "splitlines", "startswith", "strip", "title", "upper"}
)  # fmt: skip
_LOOP, _CONCAT = "swarm loop", "swarm concat"
"""Filters that no template can name, because of the space; `_rewrite` puts them in."""


@functools.cache
def _environment() -> "Environment":
    """The dialect: keys before attributes, no other templates, every step and character counted."""
    from jinja2 import StrictUndefined, nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Dialect(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"+", "*", "**", "%"})

        def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
            tree = super()._parse(source, name, filename)
            _rewrite(tree)
            return tree

        def getattr(self, obj: object, attribute: str) -> object:
            if not isinstance(obj, str | list | tuple):
                with contextlib.suppress(LookupError, TypeError):
                    return cast("Any", obj)[attribute]
            return super().getattr(obj, attribute)

        def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:
            allowed = attr in _STR_METHODS if isinstance(obj, str) else True
            return allowed and super().is_safe_attribute(obj, attr, value)

        def wrap_str_format(self, value: object) -> None:
            return None

        def call_binop(self, context: object, operator: str, left: object, right: object) -> object:
            Budget.current().check_operands(operator, left, right)
            if operator == "+" and isinstance(left, str) and isinstance(right, str):
                return _join([left, right])
            return cast("object", self.binop_table[operator](left, right))

        def call(self, *args: object, **kwargs: object) -> object:
            Budget.current().step()
            _context, called, *given = args
            result = cast("object", super().call(*cast("Any", args), **kwargs))
            return _returned(result, called, *given, *kwargs.values())

    environment = Dialect(
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        optimized=False,  # folding would run filters while compiling, where nothing is counted
        finalize=_written,
    )
    ours: Any = environment
    ours.globals = {"namespace": environment.globals["namespace"], "range": _range}
    ours.filters = _filters(environment.filters)
    return environment


def _returned(result: object, called: object, *given: object) -> object:
    """What a call returns. What a macro writes is written already, and a list's methods return its own parts."""
    text = getattr(called, "__self__", None)
    return made_of(result, text, *given) if isinstance(text, str) else result


def _filters(builtin: Mapping[str, Callable[..., object]]) -> dict[str, Callable[..., object]]:
    made = {
        **{name: builtin[name] for name in _FILTERS},
        "string": _text,
        "replace": _replace,
        "indent": _indent,
        "tojson": _tojson,
    }
    carrying = {name: _carrying(function) for name, function in made.items()}
    return {**carrying, "join": _join, _LOOP: _loop, _CONCAT: _join}


def _carrying(function: Callable[..., object]) -> Callable[..., object]:
    """The filter, whose result is outside text where what it is given is."""

    @functools.wraps(function)  # keeps the marks by which Jinja knows what a filter wants
    def carrying(*args: object, **kwargs: object) -> object:
        return made_of(function(*args, **kwargs), *args, *kwargs.values())

    return carrying


def _rewrite(tree: "nodes.Template") -> None:
    """Counts loops and `~`, and refuses what would read other templates."""
    from jinja2 import TemplateSyntaxError, nodes
    from jinja2.visitor import NodeTransformer

    def filtered(name: str, value: nodes.Expr, *args: object) -> nodes.Filter:
        constants = [nodes.Const(arg, lineno=value.lineno) for arg in args]
        return nodes.Filter(value, name, constants, [], None, None, lineno=value.lineno)

    for other in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        raise TemplateSyntaxError("a recipe's templates cannot use other templates", other.lineno)
    for loop in tree.find_all(nodes.For):
        if loop.recursive:
            raise TemplateSyntaxError("loops cannot be recursive", loop.lineno)
        characters = sum(len(data.data) for data in loop.find_all(nodes.TemplateData))
        loop.iter = filtered(_LOOP, cast("nodes.Expr", loop.iter), characters)

    class Concats(NodeTransformer):
        def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802  Jinja's name
            self.generic_visit(node)
            return filtered(_CONCAT, nodes.List(node.nodes, lineno=node.lineno))

    Concats().visit(tree)


def _range(*bounds: int) -> range:
    return Budget.current().range(*bounds)


def _loop(items: Iterable[object], characters: int) -> Iterator[object]:
    return Budget.current().loop(items, characters)


def _join(value: Iterable[object], separator: str = "", attribute: str | None = None) -> str:
    """One text of many; outside texts of several origins keep their own blocks as long as it stays whole."""
    parts = [item if attribute is None else _member(item, attribute) for item in value]
    Budget.current().spend(len(separator) * len(parts))
    written = [_written(part) for part in parts]
    origin = outside_in([separator, *parts])
    if origin is None:
        return separator.join(written)
    content = str(separator).join(
        part if isinstance(part, str) else text for part, text in zip(parts, written, strict=True)
    )
    if all(isinstance(part, OutsideText) and part.wrap is origin.wrap for part in parts):
        return OutsideText(content, origin.wrap)
    return OutsideText(content, origin.wrap, _written(separator).join(written))


def _text(value: object) -> str:
    return Budget.current().text(_defined(value))


def _written(value: object) -> str:
    return Budget.current().written(_defined(value))


def _defined(value: object) -> object:
    from jinja2 import Undefined

    if isinstance(value, Undefined):
        str(value)  # raises, and names what is undefined
    return value


def _replace(value: str, old: str, new: str) -> str:
    Budget.current().spend(len(value) + value.count(old) * len(new))
    return value.replace(old, new)


def _indent(value: str, width: int = 4, first: bool = False) -> str:
    """Jinja's `indent`: every line but the first is moved to the right, and empty ones stay empty."""
    lines = value.split("\n")
    Budget.current().spend(len(value) + len(lines) * max(width, 0))
    moved = [" " * width + line if line else line for line in lines]
    return "\n".join(moved if first else [lines[0], *moved[1:]])


def _tojson(value: object, indent: int | None = None) -> str:
    if indent is not None and not 0 <= indent <= 8:
        raise TemplateError("tojson indents by 0 to 8")
    return json.dumps(Budget.current().plain(value), ensure_ascii=False, indent=indent)
