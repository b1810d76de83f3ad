"""The mutants of bench/mutants.py: one small change each of a module's syntax tree.

What is changed: comparisons, arithmetic, `and` and `or`, `not`, signs, numbers, True and False, conditions, calls (left
out, of another of a pair as min and max, an argument that is 0 or absent), statements and what is returned. Texts,
annotations, decorators, imports and `assert` are left alone.
"""

import ast
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

COMPARED: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
COMPUTED: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
PAIRS = {"min": "max", "any": "all", "minimum": "maximum", "argmin": "argmax", "floor": "ceil", "sin": "cos"}
PAIRS |= {value: key for key, value in PAIRS.items()}
TYPED = {"cast", "asarray", "Path", "TypeVar"}  # called for the type checker, mostly
CONTEXT = 30  # letters of the code that describes a mutant, at least


@dataclass(frozen=True)
class Mutant:
    """One change of one module; `number` counts those of the module."""

    module: str
    number: int
    where: str
    lines: range
    """Where a test passes that may notice; none for what runs as the module is imported."""
    before: str
    after: str
    function: str | None
    """The function in whose body it is, the outermost; none for what runs as the module is imported."""

    @property
    def key(self) -> str:
        """Names it also when lines above it have moved."""
        return f"{self.module}: {self.where}: {self.before} -> {self.after}"


@dataclass(frozen=True)
class Place:
    """A node, how it hangs in the tree, and the nodes above it, the nearest last."""

    node: ast.AST
    field: str
    index: int | None
    above: tuple[ast.AST, ...]

    def put(self, node: ast.AST) -> None:
        """Hang another node here."""
        if self.index is None:
            setattr(self.above[-1], self.field, node)
        else:
            getattr(self.above[-1], self.field)[self.index] = node

    @property
    def function(self) -> str | None:
        """The outermost function in whose body this is, as Python calls it."""
        chain, names = [*self.above, self.node], list[str]()
        for one, below in pairwise(chain):
            if isinstance(one, ast.ClassDef | ast.FunctionDef):
                names.append(one.name)
            if isinstance(one, ast.FunctionDef):
                return ".".join(names) if any(below is each for each in one.body) else None
        return None


def mutants(module: str, source: str) -> list[Mutant]:
    """All mutants of a module, always in the same order."""
    made = []
    for number, (place, replacement) in enumerate(_changes(ast.parse(source))):
        before, after = _described(place, replacement)
        where = ".".join(one.name for one in place.above if isinstance(one, ast.FunctionDef | ast.ClassDef))
        made.append(Mutant(module, number, where or "module", _lines(place), before, after, place.function))
    return made


def mutated(source: str, number: int) -> ast.Module:
    """The module's tree with this one change."""
    tree = ast.parse(source)
    place, replacement = next(each for at, each in enumerate(_changes(tree)) if at == number)
    place.put(replacement)
    return ast.fix_missing_locations(tree)


def _changes(tree: ast.Module) -> Iterator[tuple[Place, ast.AST]]:
    for place in _places(tree, ()):
        for replacement in _replacements(place):
            yield place, ast.copy_location(replacement, place.node)


def _places(node: ast.AST, above: tuple[ast.AST, ...]) -> Iterator[Place]:
    """The nodes below this one that are code that computes."""
    for field, value in ast.iter_fields(node):
        if field in {"annotation", "returns", "decorator_list", "format_spec", "bases", "type_params"}:
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.Import | ast.ImportFrom | ast.Assert):
                continue
            place = Place(child, field, index, (*above, node))
            yield place
            yield from _places(child, place.above)


def _replacements(place: Place) -> Iterator[ast.AST]:
    node = place.node
    if isinstance(node, ast.stmt):
        yield from _statements(node)
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    else:
        yield from _expressions(node)


def _statements(node: ast.stmt) -> Iterator[ast.AST]:
    match node:
        case ast.If() | ast.While():
            yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.AugAssign():
            yield ast.Pass()
        case ast.Break() | ast.Continue():
            yield ast.Continue() if isinstance(node, ast.Break) else ast.Break()
    if isinstance(node, ast.AugAssign) and type(node.op) in COMPUTED and not _text(node.value):
        yield _with(node, op=COMPUTED[type(node.op)]())


def _expressions(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=[operator, *rest]):
            yield _with(node, ops=[COMPARED[type(operator)](), *rest])
        case ast.BoolOp():
            yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield node.operand
        case ast.BinOp(op=ast.Pow()):
            yield node.left
        case ast.BinOp(op=operator) if type(operator) in COMPUTED and not (_text(node.left) or _text(node.right)):
            yield _with(node, op=COMPUTED[type(operator)]())
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.IfExp():
            yield _with(node, body=node.orelse, orelse=node.body)
        case ast.comprehension(ifs=[_, *rest]):
            yield _with(node, ifs=rest)


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    """Another of a pair, the first argument alone, and arguments that are 0 or absent."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in PAIRS:
        yield _with(
            node, func=_with(node.func, **{"attr" if isinstance(node.func, ast.Attribute) else "id": PAIRS[name]})
        )
    if name in TYPED:
        return
    if node.args and not isinstance(node.args[0], ast.Starred | ast.GeneratorExp):
        yield node.args[0]
    for at, each in enumerate(node.args):
        if isinstance(each, ast.Name | ast.Attribute):
            yield _with(node, args=[*node.args[:at], ast.Constant(0), *node.args[at + 1 :]])
    for at, keyword in enumerate(node.keywords):
        if keyword.arg:
            yield _with(node, keywords=[*node.keywords[:at], *node.keywords[at + 1 :]])


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _described(place: Place, replacement: ast.AST) -> tuple[str, str]:
    """The code around the change, before and after it."""
    around = place.node
    for one in reversed(place.above):
        if len(_head(around)) >= CONTEXT or not isinstance(
            one, ast.expr | ast.Assign | ast.AugAssign | ast.Return | ast.keyword
        ):
            break
        around = one
    before = _head(around)
    place.put(replacement)
    after = _head(replacement if around is place.node else around)
    place.put(place.node)
    return before, after


def _head(node: ast.AST) -> str:
    """The code of a node, of a statement with others in it the first line."""
    if isinstance(node, ast.comprehension | ast.keyword | ast.arguments):
        return ast.unparse(node).strip()
    text = ast.unparse(node)
    return text.splitlines()[0] if isinstance(node, ast.stmt) and hasattr(node, "body") else text


def _lines(place: Place) -> range:
    """The lines of the change, or of the smallest node around it that has lines."""
    if place.function is None:
        return range(0)
    around = next(one for one in (place.node, *reversed(place.above)) if hasattr(one, "lineno"))
    if isinstance(around, ast.If | ast.While):
        around = around.test
    return range(around.lineno, (around.end_lineno or around.lineno) + 1)
