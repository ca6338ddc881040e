"""The dialect of Jinja that templates speak: keys before attributes, no other templates, every step counted.

What a template writes stays outside text where it holds some, until it stands in the prompt: macros, blocks and
`{% set %}` cannot launder it.
"""

import contextlib
import functools
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, cast

import jinja2
from jinja2 import (
    Environment,
    StrictUndefined,
    Template,
    TemplateSyntaxError,
    meta,
    nodes,
)
from jinja2.runtime import BlockReference, LoopContext, Macro, TemplateReference
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from swarmcli.recipe.filters import CONCAT, LOOP, SLICE, defined, filters_of, join
from swarmcli.recipe.names import unknown
from swarmcli.recipe.outside import as_written, made_of, passage
from swarmcli.recipe.rendering import Budget, TemplateError

_STR_METHODS = frozenset(
    {"capitalize", "count", "endswith", "find", "lower", "lstrip", "removeprefix", "removesuffix", "rstrip", "split",
     "splitlines", "startswith", "strip", "title", "upper"}
)  # fmt: skip
_OPEN = (
    list,
    tuple,
    range,
    Mapping,
    BlockReference,
    LoopContext,
    Macro,
    Namespace,
    TemplateReference,
)
"""Beside texts, what has attributes and methods in templates. Numbers have none: `bytes` are made with theirs."""


def render(template: str, variables: Mapping[str, object]) -> str:
    """The template's text.

    Raises:
        TemplateError: a variable does not exist, the template is not valid, or its result is too large.
    """
    with Budget(), _errors(variables):
        pieces: list[str] = []
        result = Budget()
        for piece in _compiled(template).generate(variables):
            written = as_written(piece)
            result.spend(len(written))
            pieces.append(written)
        return "".join(pieces)


def evaluate(template: str, variables: Mapping[str, object]) -> object:
    """The native value of one expression.

    Raises:
        TemplateError: it is none, is not valid, or has no value.
    """
    with Budget() as budget, _errors(variables):
        environment = _environment()
        body = environment.parse(template).body
        outputs = body[0].nodes if len(body) == 1 and isinstance(body[0], nodes.Output) else []
        if len(outputs) != 1:
            raise TemplateError(f"{template} is not one expression")
        assign = nodes.Assign(nodes.Name("result", "store"), outputs[0], lineno=1)
        tree = nodes.Template([assign], lineno=1)
        tree.set_environment(environment)
        module = environment.from_string(tree).make_module(dict(variables))
        value = defined(cast("object", module.__dict__["result"]))
        return [*budget.loop(cast("Any", value))] if isinstance(value, Iterator) else value


def roots(template: str) -> frozenset[str]:
    """The variables that a template needs: `topic`; for an input both `inputs` and `inputs.scan`.

    Raises:
        TemplateError: the template is not valid.
    """
    with Budget(), _errors(()):
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
def _compiled(template: str) -> Template:
    return _environment().from_string(template)


@contextlib.contextmanager
def _errors(variables: Iterable[str]) -> Generator[None]:
    """Turns what Jinja raises, and what a template can provoke in Python, into `TemplateError`."""
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
            raise unknown(missing[1], variables) from None
        raise TemplateError(f"template: {error.message}") from None
    except (jinja2.TemplateError, ArithmeticError, AssertionError, AttributeError) as error:
        raise TemplateError(f"template: {error}") from None
    except (LookupError, TypeError, ValueError) as error:
        raise TemplateError(f"template: {error}") from None


class _Dialect(ImmutableSandboxedEnvironment):
    concat = staticmethod(passage)
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
        allowed = attr in _STR_METHODS if isinstance(obj, str) else isinstance(obj, _OPEN)
        return allowed and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: object) -> None:
        return None

    def call_binop(self, context: object, operator: str, left: object, right: object) -> object:
        Budget.current().check_operands(operator, left, right)
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            return join([left, right])
        return cast("object", self.binop_table[operator](left, right))

    def call(self, *args: object, **kwargs: object) -> object:
        _context, called, *given = args
        owner = cast("object", getattr(called, "__self__", None))
        text = owner if isinstance(owner, str) else None
        Budget.current().work(text)
        result = cast("object", super().call(*cast("Any", args), **kwargs))
        if text is None:
            return result  # what a macro writes is marked already, and a list's methods return its own parts
        Budget.current().work(result)
        return made_of(result, text, *given, *kwargs.values())


@functools.cache
def _environment() -> Environment:
    environment = _Dialect(
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        optimized=False,  # folding would run filters while compiling, where nothing is counted
        finalize=_finalized,
    )
    ours: Any = environment
    ours.globals = {"namespace": environment.globals["namespace"], "range": _range}
    ours.filters = filters_of(environment)
    return environment


def _finalized(value: object) -> str:
    """What Jinja writes: `str` keeps outside text what it is, and `passage` joins it."""
    return Budget.current().shown(defined(value))


def _range(*bounds: int) -> range:
    return Budget.current().range(*bounds)


def _rewrite(tree: nodes.Template) -> None:
    """Counts loops, slices and `~`, and refuses what would read other templates or break the tags of data blocks."""

    def filtered(name: str, value: nodes.Expr, *args: nodes.Expr | None) -> nodes.Filter:
        given = [arg or nodes.Const(None, lineno=value.lineno) for arg in args]
        return nodes.Filter(value, name, given, [], None, None, lineno=value.lineno)

    for other in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        raise TemplateSyntaxError("a recipe's templates cannot use other templates", other.lineno)
    for escapes in tree.find_all(nodes.ScopedEvalContextModifier):
        raise TemplateSyntaxError("prompts are no HTML: autoescape is not for them", escapes.lineno)
    for loop in tree.find_all(nodes.For):
        if loop.recursive:
            raise TemplateSyntaxError("loops cannot be recursive", loop.lineno)
        characters = sum(len(data.data) for data in loop.find_all(nodes.TemplateData))
        written = nodes.Const(characters, lineno=loop.lineno)
        loop.iter = filtered(LOOP, cast("nodes.Expr", loop.iter), written)

    class Counted(NodeTransformer):
        def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802  Jinja's name
            self.generic_visit(node)
            return filtered(CONCAT, nodes.List(node.nodes, lineno=node.lineno))

        def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:  # noqa: N802  Jinja's name
            self.generic_visit(node)
            if not isinstance(node.arg, nodes.Slice):
                return node
            return filtered(SLICE, node.node, node.arg.start, node.arg.stop, node.arg.step)

    Counted().visit(tree)
