import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracksets.errors import ExpressionError
from tracksets.spelling import respell


def tree(text):
    return ast.dump(ast.parse(text, mode="eval"))


@pytest.mark.parametrize(
    ("root", "python"),
    [
        ("a && b || c", "(a and b) or c"),
        ("a || b && c", "a or (b and c)"),
        ("!a && b", "(~a) and b"),
        ("!a == b", "(~a) == b"),
        ("!a > 1", "(~a) > 1"),
        ("!(a > 1)", "~(a > 1)"),
        ("!!a", "~(~a)"),
        ("!a.b", "~(a.b)"),
        ("!a[0]", "~(a[0])"),
        ("a != b", "a != b"),
        ("a!=!b", "a != (~b)"),
        ("a&&!b", "a and (~b)"),
        ("a ? b : c", "where(a, b, c)"),
        ("a > 1 && b ? c + 1 : d", "where(a > 1 and b, c + 1, d)"),
        ("a ? b : c ? d : e", "where(a, b, where(c, d, e))"),
        ("a ? b ? c : d : e", "where(a, where(b, c, d), e)"),
        ("(a ? b : c) + 1", "where(a, b, c) + 1"),
        ("f(a ? b : c, d)", "f(where(a, b, c), d)"),
        ("f(x, a ? b : c)", "f(x, where(a, b, c))"),
        ("x[0] > 1 ? y[1] : g(z)", "where(x[0] > 1, y[1], g(z))"),
        ("TMath::Abs(x) + std::sqrt(y)", "abs(x) + sqrt(y)"),
        ("TMath::ATan2(y, x)", "atan2(y, x)"),
        ("TMath::Power(x, 2)", "pow(x, 2)"),
        ("TMath::Pi() * TMath::Pi", "pi * pi"),
        ("TMath::E()", "2.718281828459045"),
        ("x * TMath::DegToRad()", "x * (pi / 180)"),
        ("x / TMath::RadToDeg()", "x / (180 / pi)"),
        ("TMath::Finite(x)", "isfinite(x)"),
        ("true || false", "True or False"),
        ("trueish", "trueish"),
        ("  x", "x"),
        ("1.5e-3*x2 + .5 + 1. + 0x1F", "1.5e-3 * x2 + .5 + 1. + 31"),
        ("not a and b if c else d", "(not a and b) if c else d"),
    ],
)
def test_means_the_same_in_python(root, python):
    assert tree(respell(root).text) == tree(python)


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("a ? b", 2, "'\\?' without ':'"),
        ("a ? b, c", 2, "'\\?' without ':'"),
        ("f(a ? b) : c", 4, "'\\?' without ':'"),
        ("a ? b : c : d", 10, "':' without its partner"),
        ("a ? b : c)", 9, "'\\)' without its partner"),
        ("f(a:b) ? c : d", 3, "':' without its partner"),
        ("(a ? b : c", 0, "'\\(' is not closed"),
        ("x + y[a ? b : c", 5, "'\\[' is not closed"),
        ("a + 'b'", 4, "is not allowed"),
        ('a + "b"', 4, "is not allowed"),
        ("a; b", 1, "is not allowed"),
        ("a\nb", 1, "is not allowed"),
        ("a # b", 2, "is not allowed"),
        ("{a}", 0, "is not allowed"),
        ("a \\d", 2, "is not allowed"),
        ("a @ b", 2, "is not allowed"),
        ("1and 2", 1, "a number runs into a name"),
        ("a && 0x1for b", 9, "a number runs into a name"),
        ("1.5f * a", 3, "a number runs into a name"),
        ("1_000", 1, "a number runs into a name"),
        ("x + 1j", 5, "a number runs into a name"),
    ],
)
def test_refused(text, at, message):
    with pytest.raises(ExpressionError, match=message) as caught:
        respell(text)
    assert str(caught.value).endswith(f"\n    {text}\n    {' ' * at}^")


@given(st.text("xyz.?:()[], !&|=<>\t+", max_size=30))
def test_every_character_has_a_place_in_the_original(text):
    try:
        spelled = respell(text)
    except ExpressionError:
        return
    assert len(spelled.positions) == len(spelled.text)
    for column, character in enumerate(spelled.text):
        if character in "xyz":  # letters of none of the words that respelling puts in
            assert text[spelled.original(column)] == character
    assert 0 <= spelled.original(len(spelled.text) + 5) <= len(text)


def test_positions_survive():
    text = "  x && y ? TMath::Pi() : z"
    spelled = respell(text)
    assert spelled.text == "where(  x  and  y , pi , z)"
    for name in "xyz":
        assert spelled.original(spelled.text.index(name)) == text.index(name)
    assert spelled.original(spelled.text.index("pi")) == text.index("TMath")
