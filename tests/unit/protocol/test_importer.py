"""The importer reads an evaluator file without running it, and refuses all but plain text building."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judo_edge.errors import ConfigError, InputError
from judo_edge.protocol.importer import PUBLISHED_SHA256, profile_from_evaluator, text_from_evaluator
from judo_edge.protocol.profile import load_profile, save_profile, sha256_from_text

OFFICIAL_SHAPE = '''
import os
import not_installed_anywhere
from also import missing

os.makedirs("made_by_import")
open("SIDE_EFFECT", "w").write("the file was run")
LOG = os.system("touch SIDE_EFFECT")

def make_system_prompt(patch_rows: int, patch_cols: int) -> str:
    """Docstring with "quotes"."""
    return (
        "Made-up text.\\n"
        f"A grid of {patch_rows}\u00d7{patch_cols} cells. "
        "Top\u2011left is (1,1).\\n\\n"
        f"1) <seg> no fields </seg>\\n"
    )

class Engine:
    def __init__(self):
        os.system("touch SIDE_EFFECT")

raise SystemExit("the file was run")
'''

OFFICIAL_TEXT = "Made-up text.\nA grid of 16\u00d716 cells. Top\u2011left is (1,1).\n\n1) <seg> no fields </seg>\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "evaluator.py"
    path.write_text(text, encoding="utf-8")
    return path


def function(body: str, head: str = "def make_system_prompt(patch_rows, patch_cols):") -> str:
    return head + "\n" + "\n".join(f"    {line}" for line in body.splitlines()) + "\n"


@pytest.fixture(autouse=True)
def _stay_in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_file_is_read_but_never_run(tmp_path: Path) -> None:
    path = write(tmp_path, OFFICIAL_SHAPE)
    modules = set(sys.modules)
    assert text_from_evaluator(path, 16, 16) == OFFICIAL_TEXT
    assert sorted(item.name for item in tmp_path.iterdir()) == ["evaluator.py"]
    assert "not_installed_anywhere" not in set(sys.modules) - modules
    # The counter-proof: this file does leave a mark when it is run.
    with pytest.raises(ModuleNotFoundError):
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), {})
    runnable = path.read_text(encoding="utf-8").replace("import not_installed_anywhere\nfrom also import missing\n", "")
    with pytest.raises(SystemExit):
        exec(compile(runnable, str(path), "exec"), {})
    assert (tmp_path / "SIDE_EFFECT").exists()


def test_a_profile_of_the_published_text(tmp_path: Path) -> None:
    path = write(tmp_path, OFFICIAL_SHAPE)
    digest = sha256_from_text(OFFICIAL_TEXT)
    imported = profile_from_evaluator(path, 16, published=digest)
    assert imported.is_published
    assert imported.warning == ""
    profile = imported.profile
    assert profile.system == OFFICIAL_TEXT
    assert profile.system_sha256 == imported.sha256 == digest
    assert (profile.image_order, profile.resize, profile.image_size) == ("query-first", 512, 504)
    assert (profile.grid_rows, profile.grid_cols, profile.prefix) == (16, 16, "\n")
    assert profile.user_template == (
        "First image = QUERY; Second image = NORMAL template.\nQuestion: {question}\n{options}"
    )
    save_profile(profile, tmp_path / "profile.toml")
    assert load_profile(tmp_path / "profile.toml") == profile


def test_another_text_is_refused_with_both_hashes_unless_allowed(tmp_path: Path) -> None:
    path = write(tmp_path, OFFICIAL_SHAPE)
    digest = sha256_from_text(OFFICIAL_TEXT)
    with pytest.raises(InputError) as caught:
        profile_from_evaluator(path)
    assert digest in str(caught.value)
    assert PUBLISHED_SHA256 in str(caught.value)
    imported = profile_from_evaluator(path, allow_other=True, name="mine", prefix="n")
    assert not imported.is_published
    assert digest in imported.warning
    assert PUBLISHED_SHA256 in imported.warning
    assert (imported.profile.name, imported.profile.prefix) == ("mine", "n")


def test_other_grids_are_checked_by_the_16x16_text(tmp_path: Path) -> None:
    path = write(tmp_path, OFFICIAL_SHAPE)
    imported = profile_from_evaluator(path, (8, 12), published=sha256_from_text(OFFICIAL_TEXT))
    assert imported.is_published
    assert "grid of 8\u00d712 cells" in imported.profile.system
    assert (imported.profile.grid_rows, imported.profile.grid_cols) == (8, 12)
    assert imported.profile.system_sha256 == sha256_from_text(imported.profile.system) != imported.sha256
    for grid in (0, -1, 65, (16, 0)):
        with pytest.raises(InputError, match="grid"):
            profile_from_evaluator(path, grid, allow_other=True)


ALLOWED = {
    'return "a" "b" + "c"': "abc",
    "return f'{patch_rows}x{patch_cols:03d}|{patch_rows!s:>4}|{{}}'": "3x005|   3|{}",
    'n = patch_rows * patch_cols\nreturn f"{n - 1} {n // 4} {n % 4} {-n + 16} {2 * 3}"': "14 3 3 1 6",
    'text: str = "a"\ntext += "b" * 2\npass\nreturn text': "abb",
    'return "{0}-{b}-{0:>3}".format(patch_rows, b="x") + "{} {}".format(1, 2)': "3-x-  31 2",
    'return "{{{0}}}".format("y")': "{y}",
    'return "".join(["a", f"{patch_cols}"]) + ", ".join(("x", "y", "z"))': "a5x, y, z",
    'return textwrap.dedent("""\n    a\n      b\n    """).strip()': "a\n  b",
    'return dedent("  a").lstrip("a") + inspect.cleandoc("  z\\n   y") + "--".rstrip("-")': "z\ny",
    'return ("x"\n        # comment\n        f"{patch_rows}")\nimport os': "x3",
}


@pytest.mark.parametrize("body", list(ALLOWED))
def test_allowed_forms(tmp_path: Path, body: str) -> None:
    assert text_from_evaluator(write(tmp_path, function(body)), 3, 5) == ALLOWED[body]


@pytest.mark.parametrize("body", list(ALLOWED))
def test_allowed_forms_mean_what_python_means(tmp_path: Path, body: str) -> None:
    names: dict[str, object] = {}
    source = "import textwrap, inspect\nfrom textwrap import dedent\n" + function(body)
    exec(compile(source, "made-up", "exec"), names)
    make = names["make_system_prompt"]
    assert callable(make)
    assert text_from_evaluator(write(tmp_path, source), 7, 11) == make(7, 11)


REFUSED = [
    'return __import__("os").system("touch SIDE_EFFECT")',
    'import os\nreturn "x"',
    'os.system("touch SIDE_EFFECT")\nreturn "x"',
    "return f\"{open('SIDE_EFFECT', 'w')}\"",
    'return "x".__class__.__name__',
    'return "{0.__class__}".format(patch_rows)',
    'return "{0[0]}".format("abc")',
    'return "{0!r}".format("abc")',
    'return "{:{w}}".format(1, w=10)',
    'return "{} {}".format(1)',
    'return "{".format(1)',
    'return "{}{0}".format(1)',
    'return "{0}{}".format(1)',
    'return "x".format(**globals())',
    'return "x".format(*[1])',
    'return "x".encode()',
    'return "x".join(patch_rows)',
    'return "x".join([1])',
    'return "x".strip(1)',
    'return "a" if patch_rows else "b"',
    'if patch_rows:\n    return "a"\nreturn "b"',
    'for i in range(9):\n    pass\nreturn "b"',
    'while True:\n    pass\nreturn "b"',
    "return [x for x in 'ab'][0]",
    "return (lambda: 'x')()",
    "return SYSTEM",
    "return eval('1')",
    "return exec('1')",
    "return getattr('x', 'y')",
    "return b'x'",
    "return 1",
    "return patch_rows",
    "return 1.5",
    "return True",
    "return None",
    "return",
    "pass",
    "return 'a' + 1",
    "return 'a' - 'b'",
    "return '%s' % patch_rows",
    "return f'{patch_rows / 2}'",
    "return f'{patch_rows ** 999999}'",
    "return f'{1 // 0}{1 % 0}'",
    "return f'{1:999999999}'",
    "return f'{1:.5f}'",
    "return f'{\"a\":d}'",
    "return f'{1!r}'",
    "return 'a' * 999999999",
    "return 'a' * 99999 * 99999",
    "return f'{999999999 * 999999999}'",
    "return f'{9999999999}'",
    "return '' .join(['" + "a" * 60_000 + "', '" + "a" * 60_000 + "'])",
    "a = b = 'x'\nreturn a",
    "a, b = 'x', 'y'\nreturn a",
    "globals()['x'] = 'y'\nreturn 'x'",
    "os.name = 'y'\nreturn 'x'",
    "x += 'y'\nreturn x",
    "os.name += 'y'\nreturn 'x'",
    "x: str\nreturn 'x'",
    "yield 'x'",
    "return (x := 'y')",
    "return -'a'",
    "return not 'a'",
    "def make():\n    return 'x'\nreturn make()",
]


@pytest.mark.parametrize("body", REFUSED)
def test_everything_else_is_refused_with_its_line(tmp_path: Path, body: str) -> None:
    path = write(tmp_path, "\n\n" + function(body))
    with pytest.raises(InputError, match=rf"{path.name}:\d+: ") as caught:
        text_from_evaluator(path, 16, 16)
    line = int(str(caught.value).split(f"{path}:")[1].split(":")[0])
    assert 3 <= line <= 4 + body.count("\n")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not (tmp_path / "SIDE_EFFECT").exists()


@pytest.mark.parametrize(
    "head",
    [
        "def make_system_prompt(rows, cols):",
        "def make_system_prompt(patch_cols, patch_rows):",
        "def make_system_prompt(patch_rows, patch_cols, *more):",
        "def make_system_prompt(patch_rows, patch_cols, **more):",
        "def make_system_prompt(patch_rows, patch_cols, *, extra=1):",
        "def make_system_prompt(self, patch_rows, patch_cols):",
        "@open('SIDE_EFFECT', 'w')\ndef make_system_prompt(patch_rows, patch_cols):",
    ],
)
def test_another_signature_is_refused(tmp_path: Path, head: str) -> None:
    with pytest.raises(InputError, match="another signature or a decorator"):
        text_from_evaluator(write(tmp_path, function("return 'x'", head)), 16, 16)
    assert not (tmp_path / "SIDE_EFFECT").exists()


def test_defaults_and_annotations_are_not_evaluated(tmp_path: Path) -> None:
    head = "def make_system_prompt(patch_rows: open('SIDE_EFFECT', 'w') = os.system('x'), patch_cols=1) -> boom():"
    assert text_from_evaluator(write(tmp_path, function("return f'{patch_cols}'", head)), 16, 9) == "9"
    assert not (tmp_path / "SIDE_EFFECT").exists()


def test_a_nested_function_is_found_and_two_texts_are_ambiguous(tmp_path: Path) -> None:
    nested = "def main():\n" + "\n".join(f"    {line}" for line in function("return 'x'").splitlines()) + "\n"
    assert text_from_evaluator(write(tmp_path, nested), 16, 16) == "x"
    assert text_from_evaluator(write(tmp_path, nested + function("return 'x'")), 16, 16) == "x"
    with pytest.raises(InputError, match=r"different texts \(lines 2, 4\)"):
        text_from_evaluator(write(tmp_path, nested + function("return 'y'")), 16, 16)


def test_files_that_are_no_evaluator(tmp_path: Path) -> None:
    for text, message in [
        ("x = 1\n", "no function make_system_prompt"),
        ("def make_system_prompt(\n", "not Python"),
        ("async def make_system_prompt(patch_rows, patch_cols):\n    return 'x'\n", "no function"),
        ("x = '\x00'\n", "evaluator.py"),
        ("x = " + "(" * 5000 + ")" * 5000, "evaluator.py"),
        (function("return " + "-" * 20_000 + "1"), "evaluator.py"),
        (function("return " + " + ".join(["'a'"] * 50_000)), "evaluator.py"),
    ]:
        with pytest.raises(InputError, match=message):
            text_from_evaluator(write(tmp_path, text), 16, 16)
    binary = tmp_path / "model.bin"
    binary.write_bytes(bytes(range(256)))
    for path in (tmp_path / "absent.py", tmp_path, binary):
        with pytest.raises(InputError, match=path.name):
            text_from_evaluator(path, 16, 16)
    binary.write_bytes(b"#" * 4_000_001)
    with pytest.raises(InputError, match="over 4000000 bytes"):
        text_from_evaluator(binary, 16, 16)


def test_a_text_with_chat_tokens_makes_no_profile(tmp_path: Path) -> None:
    path = write(tmp_path, function("return 'x <|im_end|>'"))
    with pytest.raises(ConfigError, match="chat tokens"):
        profile_from_evaluator(path, allow_other=True)


@settings(max_examples=60, deadline=None)
@given(source=st.text(max_size=60) | st.text("'\"f{}()+*%-:=,.!x1\\ \n", max_size=40).map(lambda t: f"return {t}"))
def test_no_text_crashes_the_importer(source: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("import") / "e.py"
    path.write_bytes(function(source).encode("utf-8", "replace"))
    try:
        assert isinstance(text_from_evaluator(path, 16, 16), str)
    except InputError as error:
        assert "e.py" in str(error)
