"""Changes the functions of a module's syntax tree in one place at a time."""

import ast
from collections.abc import Iterator
from typing import Any

_OTHER: dict[type[ast.AST], type[Any]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.MatMult: ast.Mult,
}
_LEFT_ALONE = {"annotation", "returns", "decorator_list", "args"}
"""Fields of functions and of annotated assignments that say types, or are computed as the module is imported."""

_CONVERSIONS = {"item", "numpy", "tolist"}
"""Calls that are not left out: nearly all that takes their result takes a tensor, too."""

_GUARDS = {"strict"}
"""Arguments that are not left out: they only notice other faults."""

Found = tuple[str, tuple[str, int], range, str]


def mutations_of(tree: ast.Module) -> Iterator[Found]:
    """Change ``tree`` in one place, and back before the next: name, place of the function, its lines, what changed.

    The lines are those of the statement that holds the change, without the statements within that.
    """
    modules = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    for name, function in _functions(tree, ""):
        first = min([function.lineno, *(each.lineno for each in function.decorator_list)])
        for owner, field, place, statement in _places(function, function):
            node = getattr(owner, field) if place is None else getattr(owner, field)[place]
            for other in _variants(node, modules):
                ast.copy_location(other, node)
                _put(owner, field, place, ast.fix_missing_locations(other))
                text = f"{_line(node)} → {_line(other)}" + ("" if node is statement else f" in {_line(statement)}")
                yield name, (function.name, first), _header(statement), text
                _put(owner, field, place, node)


def _functions(tree: ast.AST, around: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield around + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{around}{node.name}.")


def _places(node: ast.AST, statement: ast.stmt) -> Iterator[tuple[ast.AST, str, int | None, ast.stmt]]:
    """Every node below this one that may change: its parent, field, place in a list, and its statement."""
    for field, value in ast.iter_fields(node):
        if field in _LEFT_ALONE and isinstance(node, ast.FunctionDef | ast.AnnAssign):
            continue
        for place, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.expr | ast.stmt | ast.comprehension) or isinstance(child, ast.JoinedStr):
                continue
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue  # a docstring
            within = child if isinstance(child, ast.stmt) else statement
            yield node, field, place, within
            if not isinstance(child, ast.Raise):
                yield from _places(child, within)


def _header(statement: ast.stmt) -> range:
    body = getattr(statement, "body", None)
    end = body[0].lineno - 1 if body else statement.end_lineno
    return range(statement.lineno, max(end or 0, statement.lineno) + 1)


def _put(owner: ast.AST, field: str, place: int | None, node: ast.AST) -> None:
    if place is None:
        setattr(owner, field, node)
    else:
        getattr(owner, field)[place] = node


def _line(node: ast.AST) -> str:
    """A node as code, of a statement that holds others its first line."""
    return ast.unparse(node).strip().splitlines()[0]


def _variants(node: ast.AST, modules: set[str]) -> Iterator[Any]:
    """Wrong forms of a node."""
    yield from _other_operators(node)
    yield from _other_values(node, modules)
    yield from _other_statements(node)


def _other_operators(node: ast.AST) -> Iterator[Any]:
    match node:
        case ast.Compare(left, ops, comparators):
            for place, op in enumerate(ops):
                yield ast.Compare(left, [*ops[:place], _OTHER[type(op)](), *ops[place + 1 :]], comparators)
        case ast.BinOp(left, op, right) if type(op) in _OTHER:
            yield ast.BinOp(left, _OTHER[type(op)](), right)
        case ast.BoolOp(op, values):
            yield ast.BoolOp(_OTHER[type(op)](), values)
        case ast.UnaryOp(_, operand):
            yield operand


def _other_values(node: ast.AST, modules: set[str]) -> Iterator[Any]:
    match node:
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(str(value)):
            yield ast.Constant(f"{value}?")
        case ast.IfExp(_, body, orelse):
            yield body
            yield orelse
        case ast.Call(function, arguments, keywords):
            if isinstance(function, ast.Attribute) and not _is_kept(function, modules):
                yield function.value
            for place, keyword in enumerate(keywords):
                if keyword.arg and keyword.arg not in _GUARDS:
                    yield ast.Call(function, arguments, keywords[:place] + keywords[place + 1 :])


def _other_statements(node: ast.AST) -> Iterator[Any]:
    match node:
        case ast.Return(ast.expr()):
            yield ast.Return()
        case ast.AugAssign(target, op, value):
            yield ast.AugAssign(target, _OTHER[type(op)](), value)
            yield ast.Pass()
        case ast.Expr(ast.Call()) | ast.Raise():
            yield ast.Pass()
        case ast.If(test, body, orelse) if not isinstance(test, ast.UnaryOp):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.comprehension(target, iterated, ifs) if ifs:
            yield ast.comprehension(target, iterated, [], 0)


def _is_kept(function: ast.Attribute, modules: set[str]) -> bool:
    """Whether its call is not left out: a conversion, or one on an imported name or ``super()``."""
    if function.attr in _CONVERSIONS:
        return True
    node: ast.expr = function
    while isinstance(node, ast.Attribute):
        node = node.value
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in modules
