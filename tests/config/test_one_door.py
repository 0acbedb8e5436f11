"""Only `ict_jax.config` reads values of a config."""

import ast

import pytest

from tests.helpers import ROOT

PACKAGE = ROOT / "ict_jax"
WHOLE = ("to_dict", "copy_and_resolve_references")
"""Methods that treat a config as a whole."""

PLAIN_JSON = ("run/report/page.py", "run/report/read_run.py")
"""Readers of config.json as a dict, which anybody may have edited; no run is built from it."""

READERS = ("dict", "getattr", "iter", "len", "list", "set", "sorted", "tuple", "vars")
OTHERS = ("fsspec", "jax")
"""Modules with a config of their own."""


def is_config(node, names):
    """Whether an expression is a config, by its name."""
    if isinstance(node, ast.Attribute):
        return node.attr == "config" and getattr(node.value, "id", None) not in OTHERS
    return isinstance(node, ast.Name) and node.id in names


def config_names(tree):
    """Names of configs: the usual one, and those that are annotated or assigned as such."""
    nodes = list(ast.walk(tree))
    arguments = [node for node in nodes if isinstance(node, ast.arg) and node.annotation]
    names = {a.arg for a in arguments if "id='Config" in ast.dump(a.annotation)} | {"config"}
    for node in nodes:
        if isinstance(node, ast.Assign) and is_config(node.value, names):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def passes_on(node, child):
    """Whether a node of the syntax tree hands a config on as a whole."""
    if isinstance(node, ast.Call):
        return child is node.func or getattr(node.func, "id", None) not in READERS
    if isinstance(node, ast.Compare):
        return isinstance(node.ops[0], ast.Is | ast.IsNot)
    if isinstance(node, ast.Attribute):
        return node.attr in WHOLE
    if isinstance(node, ast.keyword):
        return node.arg is not None  # not **config
    if isinstance(node, ast.Dict):
        return child in node.values and node.keys[node.values.index(child)] is not None
    return isinstance(node, ast.Assign | ast.AnnAssign | ast.Tuple | ast.Return | ast.Lambda)


def reads(code):
    """Lines on which a value of a config is read or set."""
    tree = ast.parse(code)
    names = config_names(tree)
    return sorted(
        child.lineno
        for node in ast.walk(tree)
        for child in ast.iter_child_nodes(node)
        if is_config(child, names) and not passes_on(node, child)
    )


FILES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.relative_to(PACKAGE).parts[0] != "config"
    and str(path.relative_to(PACKAGE)) not in PLAIN_JSON
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_values_are_read_in_the_config_package_only(path):
    assert reads(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "config.seed",
        "config['seed']",
        "config.get('seed')",
        "config.init_from = path",
        "run.config.seed",
        "loaded.config.model.name",
        "f(**config)",
        "{**config, 'a': 1}",
        "[key for key in config]",
        "print(*config)",
        "'seed' in config",
        "dict(config)",
        "mine = run.config; mine.seed",
        "def f(given: Config): return given.seed",
        "def f(given: ConfigDict | None): return given['seed']",
    ],
)
def test_reads_are_found(line):
    assert reads(line) == [1]


@pytest.mark.parametrize(
    "line",
    [
        "config.to_dict()",
        "run.config.copy_and_resolve_references()",
        "jax.config.update('jax_enable_x64', False)",
        "from ict_jax.config.network import build_model",
        "build_model(run.config)",
        "config is None",
        "path / 'config.json'",
    ],
)
def test_configs_may_be_passed_on(line):
    assert reads(line) == []
