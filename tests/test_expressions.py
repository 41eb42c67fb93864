import math
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracksets.errors import DataError, ExpressionError, TracksetsError
from tracksets.expressions import Expression, parse
from tracksets.functions import FUNCTIONS, REDUCTIONS
from tracksets.jagged import Axis, Column

COUNTS = [2, 0, 3, 1]
AXIS = Axis(np.array(COUNTS))
TRACKS = {
    "pt": [1.5, 0.5, 8.0, 2.0, 0.25, 4.0],
    "eta": [-2.5, 0.5, 1.0, -0.25, 3.0, 0.0],
    "charge": [1, -1, 0, 1, -1, 2],
    "good": [True, False, True, True, False, True],
}
EVENTS = {"z": [0.5, -1.0, 2.0, 0.0], "n": [7, 8, 9, 10]}
COLUMNS = {
    **{name: Column(np.array(values), AXIS) for name, values in TRACKS.items()},
    **{name: Column(np.array(values)) for name, values in EVENTS.items()},
    "pair": Column(np.arange(12.0).reshape(6, 2), AXIS),
    "Track.d0": Column(np.arange(6.0), AXIS),
}

# Evaluated one track at a time by Python itself: (expression, the same in plain Python)
ONE_NUMBER_PER_TRACK = [
    ("log(pt) + eta**2", "math.log(pt) + eta**2"),
    ("-pt * (eta - z) / 2 // 0.5 % 3", "-pt * (eta - z) / 2 // 0.5 % 3"),
    ("2**-charge", "2**-charge"),
    ("charge**2 - -charge", "charge**2 - -charge"),
    ("n - 10", "n - 10 + 0*pt"),
    ("n & 3 | 4", "(n & 3 | 4) + 0*charge"),
    ("charge + 2 << 1", "(charge + 2) << 1"),
    ("n >> 1", "(n >> 1) + 0*charge"),
    ("0.2 < abs(eta) <= 2.5", "0.2 < abs(eta) <= 2.5"),
    ("pt > 1 and charge == 1 or not good", "pt > 1 and charge == 1 or not good"),
    ("pt > 1 && charge == 1 || !good", "pt > 1 and charge == 1 or not good"),
    ("(pt > 1) & (eta < 1) | ~good", "pt > 1 and eta < 1 or not good"),
    ("!charge == 1", "(not charge) == 1"),
    ("!(charge == 1)", "not charge == 1"),
    ("pt if good else eta", "pt if good else eta"),
    ("good ? pt : eta > 0 ? eta : z", "pt if good else eta if eta > 0 else z"),
    ("(pt > 1 ? 1 : 0) + (eta > 0 ? 10 : 20)", "(pt > 1) + (10 if eta > 0 else 20)"),
    ("where(pt > 1, pt, -1)", "pt if pt > 1 else -1"),
    ("good + good", "good + good"),
    ("(pt > 1) - (eta > 0)", "(pt > 1) - (eta > 0)"),
    ("-good", "-good"),
    ("exp(good)", "math.exp(good)"),
    ("TMath::Max(pt, TMath::Abs(eta)) * TMath::Pi()", "max(pt, abs(eta)) * math.pi"),
    ("std::pow(pt, 2) > 1e0 && true", "pt**2 > 1"),
    ("min(pt, eta, 1) + pi", "min(pt, eta, 1) + math.pi"),
    ("clip(eta, -1, 1)", "min(max(eta, -1), 1)"),
    ("pair[0] + pair[-1] * 10", "pair[0] + pair[1] * 10"),
    ("sum(pt) / pt", "sum(e.pt) / pt"),
    ("pt - mean(pt)", "pt - sum(e.pt) / len(e.pt)"),
    ("count(pt) + max(pt) - min(pt)", "len(e.pt) + max(e.pt) - min(e.pt) + 0*pt"),
    ("sum(pt > 1) + any(good) + all(good)", "sum(x>1 for x in e.pt)+any(e.good)+all(e.good)+0*pt"),
    ("sum(pt * z)", "sum(x * z for x in e.pt) + 0*pt"),
    ("pt / pt[0]", "pt / e.pt[0]"),
    ("pt / at(pt, -1, 1)", "pt / e.pt[-1]"),
    ("at(pt, 1, -7)", "(e.pt[1] if len(e.pt) > 1 else -7) + 0*pt"),
    ("(pt > 1)[0] == good[0]", "(e.pt[0] > 1) == e.good[0] or pt < 0"),
    ("isnan(pt[1]) || pt[2] > 0", "len(e.pt) != 2 or pt < 0"),
]  # fmt: skip


def names_of(event, track):
    first, last = AXIS.offsets[event : event + 2]
    return {
        **{name: values[event] for name, values in EVENTS.items()},
        **{name: values[track] for name, values in TRACKS.items()},
        "pair": COLUMNS["pair"].values[track],
        "e": SimpleNamespace(**{name: x[first:last] for name, x in TRACKS.items()}),
        "math": math,
    }


def evaluate(text):
    return parse(text)(COLUMNS.__getitem__)


@pytest.mark.parametrize(("text", "python"), ONE_NUMBER_PER_TRACK)
def test_is_like_a_loop_over_tracks(text, python):
    result = evaluate(f"({text}) + 0*pt" if "pt" not in text else text)
    if result.axis is None:  # a reduction: repeat it
        result = Column(np.repeat(result.values, COUNTS), AXIS)
    code = compile(python, "oracle", "eval")
    expected = [
        eval(code, names_of(event, track))  # noqa: S307
        for track, event in enumerate(AXIS.event)
    ]
    np.testing.assert_allclose(result.values.astype(float), np.array(expected, float), rtol=1e-15)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pt[0]", [1.5, math.nan, 8, 4]),
        ("pt[-1]", [0.5, math.nan, 0.25, 4]),
        ("at(charge, 1, -9)", [-1, -9, 1, -9]),
        ("at(pt, 2, inf)", [math.inf, math.inf, 0.25, math.inf]),
        ("sum(pt)", [2, 0, 10.25, 4]),
        ("count(pt)", COUNTS),
        ("mean(pt)", [1, math.nan, 10.25 / 3, 4]),
        ("max(pt)", [1.5, math.nan, 8, 4]),
        ("max(pt) > z && count(pt) > 1", [1, 0, 1, 0]),
        ("sum(Track.d0)", [1, 0, 9, 5]),
        ("max(z, 0)", [0.5, 0, 2, 0]),
        ("n % 4", [3, 0, 1, 2]),
    ],
)
def test_one_number_per_event(text, expected):
    result = evaluate(text)
    assert result.axis is None
    np.testing.assert_allclose(result.values, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1 + 2 * 3", 7), ("-true", -1), ("1 / 0", math.inf), ("1 < 2 ? 3 : 4", 3), ("!0", True)],
)
def test_constants(text, expected):
    assert evaluate(text) == expected


def test_onehot():
    expression = parse("onehot(charge, -1, 1)")
    assert (expression.width, expression.names) == (2, ("charge",))
    expected = [[x == -1, x == 1] for x in TRACKS["charge"]]
    assert evaluate("onehot(charge, -1, 1)").values.tolist() == expected


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("log(pt) + (abs(eta) < 2.5 && charge > 0 ? 1 : 0)", ("pt", "eta", "charge")),
        ("pt * pt + pi + inf", ("pt",)),
        ("V0s.fInvMass[0] - x.y.z", ("V0s.fInvMass", "x.y.z")),
        ("at(a, 0, -1)", ("a",)),
        ("1 + 2", ()),
    ],
)
def test_names_are_known_before_evaluation(text, names):
    assert parse(text).names == names


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("pt > 1", True), ("pt > 1 && eta < 1", True), ("!pt", True), ("not pt", True),
        ("(pt > 1) & (eta < 1)", True), ("n & 4", False), ("(n & 4) | (pt > 1)", False), ("(pt > 1) & n", False),
        ("onehot(charge, 1)", True), ("any(pt > 1)", True), ("isnan(pt)", True),
        ("pt", False), ("sum(pt > 1)", False), ("pt > 1 ? 5 : 6", False), ("-(pt > 1)", False),
    ],
)  # fmt: skip
def test_flags(text, flag):
    assert parse(text).is_flag == flag


REFUSED = [
    # (expression, where the error points, message)
    ("pt +", 4, "invalid syntax"),
    ("a && b +* c", 8, "invalid syntax"),
    ("TMath::Abs(x) || y z w", 19, "invalid syntax"),
    ("(a > 1 ? b : c) + d e", 20, "invalid syntax"),
    ("pt = 1", 3, "invalid syntax"),
    ("(pt", 0, "'\\(' was never closed"),
    ("logg + logg(pt)", 7, "unknown function 'logg': did you mean 'log'"),
    ("a && TMath::Sqr(pt)", 5, "unknown function 'sqr': did you mean 'sqrt'"),
    ("µ + sqr(pt)", 4, "unknown function 'sqr'"),
    ("deltar(1, 2, 3, 4)", 0, "did you mean 'deltaR'"),
    ("frobnicate(pt)", 0, "unknown function 'frobnicate': there are"),
    ("1 + log()", 4, "log takes 1 argument\\(s\\), not 0"),
    ("log(pt, 2)", 0, "log takes 1 argument\\(s\\), not 2"),
    ("at(pt, 0)", 0, "at takes 3"),
    ("sum(a, b)", 0, "sum takes 1"),
    ("max()", 0, "max takes 1 or more"),
    ("pt.sum()", 0, "only functions of the list"),
    ("pt[0](1)", 0, "only functions of the list"),
    ("1()", 0, "only functions of the list"),
    ("log(x=pt)", 0, "plain arguments"),
    ("log(*pt)", 0, "plain arguments"),
    ("lambda: 1", 0, "Lambda is not allowed"),
    ("1 + (lambda x: x)", 5, "Lambda is not allowed"),
    ("sum(x for x in pt)", 3, "GeneratorExp is not allowed"),
    ("[x for x in pt]", 0, "ListComp is not allowed"),
    ("[1, 2]", 0, "List is not allowed"),
    ("1, 2", 0, "Tuple is not allowed"),
    ("(pt := 1)", 1, "NamedExpr is not allowed"),
    ("'pt'", 0, "not allowed"),
    ("f'{pt}'", 1, "not allowed"),
    ("None", 0, "NoneType constants are not allowed"),
    ("1 + ...", 4, "ellipsis constants are not allowed"),
    ("__import__('os')", 11, "not allowed"),
    ("__import__(os)", 0, "unknown function '__import__'"),
    ("eval(pt)", 0, "unknown function 'eval'"),
    ("await pt", 0, "Await is not allowed"),
    ("pt[0:1]", 3, "expected a plain number"),
    ("pt[eta]", 3, "expected a plain number"),
    ("pt[0.5]", 3, "expected a whole number"),
    ("pt[1e3]", 3, "expected a whole number"),
    ("pt[0, 1]", 3, "expected a plain number"),
    ("at(pt, eta, 0)", 7, "expected a plain number"),
    ("at(pt, 0, eta)", 10, "expected a plain number"),
    ("onehot(pt, eta)", 11, "expected a plain number"),
    ("onehot(pt)", 0, "at least one code"),
    ("1 + onehot(pt, 1)", 4, "onehot gives several features"),
    ("9223372036854775808", 0, "integer is too large"),
    ("pt[9223372036854775808]", 3, "expected a plain number"),
    ("pt ^ 2", 0, "'\\^' is ambiguous"),
    ("pt in eta", 0, "'in' and 'is'"),
    ("pt is eta", 0, "'in' and 'is'"),
    ("pt @ eta", 3, "not allowed"),
    ("pt > 1 & eta < 2", 5, "'&' and '\\|' bind tighter"),
    ("pt > 1 & good", 5, "'&' and '\\|' bind tighter"),
    ("good && n & 4 == 4", 8, "'&' and '\\|' bind tighter"),
    ("(n) | (4) == 4", 0, "'&' and '\\|' bind tighter"),
    ("1and 2", 1, "a number runs into a name"),
    ("log(pt).x", 0, "only names can have a dot"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "at", "message"), REFUSED)
def test_refused_and_pointed_at(text, at, message):
    with pytest.raises(ExpressionError, match=message) as caught:
        Expression(text)
    lines = str(caught.value).splitlines()
    assert lines[-2:] == [f"    {text}", "    " + " " * at + "^"]


def test_bits_in_parentheses_are_fine():
    assert parse("((n) & (4)) == 4 && ( n | 1 ) > 1").names == ("n",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("x" * 4001, "longer than 4000"),
        ("9" * 3999, "too large"),
        ("-" * 3000 + "x", "deep|parentheses"),
        ("(" * 250 + "x" + ")" * 250, "nested"),
        ("log(" * 70 + "x" + ")" * 70, "nested too deep"),
        ("x" + "+x" * 1500, "deep"),
        ("(" * 1999 + "?" + ")" * 1999, "deep"),
        ("x" + "[0]" * 1300, "deep"),
        ("\ud800", "characters that no name has"),
        ("x\0", "not allowed"),
    ],
)
def test_absurd_texts(text, message):
    with pytest.raises(ExpressionError, match=message) as caught:
        Expression(text)
    assert len(str(caught.value)) < 2 * len(text) + 200


def test_long_names_are_no_recursion():
    assert parse("x" + ".x" * 1900).names == ("x" + ".x" * 1900,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("z[0]", r"in 'z\[0\]': element \[0\] of a branch with one number per event"),
        ("sum(z)", r"in 'sum\(z\)': sum\(x\) of one value"),
        ("pt + other", "unequal counts"),
        ("onehot(1, 1)", "not a constant"),
        ("pt & 1", "cannot be evaluated"),
        ("pt << 1", "cannot be evaluated"),
    ],
)
def test_what_cannot_be_evaluated_names_the_expression(text, message):
    other = {"other": Column(np.zeros(6), Axis(np.array([3, 0, 2, 1])))}
    with pytest.raises(DataError, match=message) as caught:
        parse(text)((COLUMNS | other).__getitem__)
    assert text in str(caught.value)


def test_texts_are_parsed_once():
    assert parse("pt + 17") is parse("pt + 17")
    assert repr(parse("pt + 17")) == "Expression('pt + 17')"


def results_or_our_error(text):
    try:
        value = parse(text)(lambda name: COLUMNS.get(name, COLUMNS["pt"]))
    except TracksetsError:
        return
    assert isinstance(value, (Column, bool, int, float))
    if isinstance(value, Column):
        assert len(value.values) == (4 if value.axis is None else 6)


LEAVES = [
    "pt",
    "z",
    "good",
    "charge",
    "n",
    "pair",
    "x.y",
    "1",
    "-2",
    ".5",
    "1e40",
    "0x1f",
    "pi",
    "inf",
]
BINARY = [
    "+",
    "-",
    "*",
    "**",
    "/",
    "//",
    "%",
    "<",
    ">=",
    "==",
    "!=",
    "&&",
    "||",
    "&",
    "|",
    "<<",
    ">>",
]
UNARY = ["-", "!", "~", "+", "not "]
CALLS = [*FUNCTIONS, *REDUCTIONS]
TOKENS = [
    *[*LEAVES, *BINARY, *UNARY, "(", ")", "[", "]", "[0]", ",", " ", "?", ":", ":=", "=", ".", "@"],
    *["and", "or", "if", "else", "in", "is", "lambda", "for", "await", "True", "None", "TMath::"],
    *[f"{name}(" for name in (*CALLS, "onehot", "at", "std::abs")],
]  # fmt: skip


def made(seed):
    """Make a text of tokens or, more often, one that the grammar allows; Hypothesis is slow at it."""
    random = Random(seed)

    def expression(deep):
        def inner():
            return expression(deep - 1)

        match random.randrange(9) if deep else 0:
            case 0:
                return random.choice([*LEAVES, str(random.randrange(-(2**65), 2**65))])
            case 1:
                return f"{random.choice(UNARY)}{inner()}"
            case 2:
                return f"({inner()} ? {inner()} : {inner()})"
            case 3:
                return f"{inner()}[{random.randrange(-3, 4)}]"
            case 4:
                return f"at({inner()}, {random.randrange(-(2**64), 2**64)}, {random.gauss()})"
            case 5:
                return f"{random.choice(CALLS)}({', '.join(inner() for _ in range(random.randrange(1, 5)))})"
            case 6:
                name = random.choice(CALLS)
                n = FUNCTIONS[name][1] if name in FUNCTIONS else 1
                return f"{name}({', '.join(inner() for _ in range(n))})"
            case _:
                return f"({inner()} {random.choice(BINARY)} {inner()})"

    if random.random() < 0.3:
        return "".join(random.choices(TOKENS, k=random.randrange(1, 15)))
    return expression(random.randrange(5))


ANYTHING = st.text(st.characters(), max_size=12) | st.integers(0, 2**32).map(made)


@settings(max_examples=5000)
@given(ANYTHING)
def test_any_text_gives_a_result_or_our_error(text):
    results_or_our_error(text)


@pytest.mark.slow
@settings(max_examples=100_000, deadline=1000)
@given(ANYTHING)
def test_very_many_texts_give_a_result_or_our_error_in_time(text):
    results_or_our_error(text)
