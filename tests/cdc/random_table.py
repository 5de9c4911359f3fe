"""Random tables and rows of every type that PostgreSQL has, from a seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import TypeAlias

Make: TypeAlias = "Callable[[Random], str]"

SETUP = (
    "create type mood as enum ('ok', 'it''s', 'a \"b\", {c}')",
    "create type pair as (a int, b text)",
    "create domain price as numeric",
    "create domain prices as price[]",
)


def text(random: Random) -> str:
    alphabet = "abcXYZ 0{}\",\\;:'NUL\n\t/\x7f\u2028é√🐘%$"
    return "".join(random.choices(alphabet, k=random.randrange(12)))


def one_of(*values: str) -> Make:
    return lambda random: random.choice(values)


def integer(bits: int) -> Make:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return lambda random: str(random.choice((low, high, 0, random.randint(low, high))))


def number(random: Random) -> str:
    digits = str(random.getrandbits(random.choice((8, 64, 300))))
    return random.choice(
        (f"-{digits}.{digits[:9]}", digits, "NaN", "Infinity", "-Infinity", "0.000", "1e300")
    )


def floating(random: Random) -> str:
    return random.choice((repr(random.gauss(0, 1e6)), "NaN", "-Infinity", "-0", "1e-30", "1e22"))


def moment(random: Random) -> str:
    usual = f"{random.randint(1, 9999):04}-0{random.randint(1, 9)}-1{random.randint(0, 9)}"
    clock = f"{random.randint(10, 23)}:{random.randint(10, 59)}:0{random.randint(0, 9)}"
    exact = f"{usual} {clock}.{random.randint(0, 999_999):06}"
    return random.choice(
        (exact, "infinity", "-infinity", "0044-03-15 12:00:00 BC", "294276-12-31 23:59:59.999999")
    )


def day(random: Random) -> str:
    return random.choice((moment(random).split(" ")[0], "0044-03-15 BC", "5874897-12-31"))


def document(random: Random, depth: int = 3) -> object:
    if depth == 0 or random.random() < 0.3:
        return random.choice((None, True, random.randint(-(10**20), 10**20), 1.5, text(random)))
    if random.random() < 0.5:
        return [document(random, depth - 1) for _ in range(random.randrange(4))]
    return {text(random): document(random, depth - 1) for _ in range(random.randrange(4))}


def raw_bytes(random: Random) -> str:
    return "\\x" + random.randbytes(random.randrange(20)).hex()


def bits(random: Random) -> str:
    return "".join(random.choices("01", k=random.randint(1, 70)))


def between(make: Make) -> Make:
    """A range of a type whose order is that of sorting by PostgreSQL; ends may be open."""

    def make_range(random: Random) -> str:
        value = make(random)
        return random.choice(("empty", f"[{value},{value}]", f"[{value},)", f"(,{value}]", "(,)"))

    return make_range


def quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def array_of(make: Make, delimiter: str = ",") -> Make:
    def make_array(random: Random) -> str:
        def item() -> str:
            return "NULL" if random.random() < 0.2 else quoted(make(random))

        count = random.randint(1, 4)
        flat = "{" + delimiter.join(item() for _ in range(count)) + "}"
        square = (
            "{" + delimiter.join(f"{{{item()}{delimiter}{item()}}}" for _ in range(count)) + "}"
        )
        return random.choice(("{}", flat, square, f"[-1:{count - 2}]={flat}"))

    return make_array


INTEGER_RANGE = between(integer(31))
SCALARS: dict[str, Make] = {
    "smallint": integer(16),
    "integer": integer(32),
    "bigint": integer(64),
    "numeric": number,
    "numeric(12,3)": one_of("12.300", "-999999999.999", "0"),
    "real": one_of("1.5", "NaN", "-0", "3.4028235e38", "1e-45"),
    "double precision": floating,
    "money": one_of("-1234.50", "0", "92233720368547758.07"),
    "boolean": one_of("true", "false"),
    "text": text,
    "varchar(40)": text,
    "char(9)": one_of("ab", "  x", "é"),
    "name": one_of("a b", "é"),
    '"char"': one_of("x", "\\"),
    "bytea": raw_bytes,
    "bit(3)": one_of("101", "000"),
    "varbit": bits,
    "date": day,
    "time": one_of("24:00:00", "01:02:03.5", "00:00:00.000001"),
    "timetz": one_of("01:02:03+05:30", "23:59:59.999999-15:59"),
    "timestamp": moment,
    "timestamptz": moment,
    "interval": one_of("-1 mons +2 days -03:04:05.000006", "178000000 years", "00:00:00"),
    "uuid": one_of("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    "json": lambda random: json.dumps([document(random)]),
    "jsonb": lambda random: json.dumps({"a": document(random)}),
    "xml": one_of("<a b='c'>&amp;\u00e9</a>", "<x/>"),
    "inet": one_of("10.0.0.1/8", "::1", "255.255.255.255"),
    "cidr": one_of("10.0.0.0/8", "2001:db8::/32"),
    "macaddr": one_of("08:00:2b:01:02:03"),
    "macaddr8": one_of("08:00:2b:01:02:03:04:05"),
    "point": one_of("(1,2.5)", "(-0,1e300)", "(NaN,Infinity)"),
    "line": one_of("{1,-1,0}"),
    "lseg": one_of("[(0,0),(1,2)]"),
    "box": one_of("(1,1),(0,0)"),
    "path": one_of("[(0,0),(1,2)]", "((0,0),(1,2))"),
    "polygon": one_of("((0,0),(1,2),(2,0))"),
    "circle": one_of("<(1,2),3>"),
    "tsvector": one_of("'a':1 'b\\\\c':2", "''''", ""),
    "tsquery": one_of("'a' & !'b c'", "'x':*"),
    "int4range": INTEGER_RANGE,
    "int8range": INTEGER_RANGE,
    "numrange": between(one_of("1.50", "Infinity", "-7")),
    "tsrange": between(one_of('"2026-11-24 10:00:00"', "infinity")),
    "tstzrange": between(one_of('"2026-11-24 10:00:00+01"')),
    "daterange": between(one_of("2026-11-24")),
    "int4multirange": one_of("{[1,2),[5,7)}", "{}"),
    "tstzmultirange": one_of('{["2026-11-24 10:00:00+00",)}'),
    "pg_lsn": one_of("16/B374D848"),
    "oid": one_of("4294967295"),
    "xid8": one_of("18446744073709551615"),
    "pg_snapshot": one_of("10:20:10,14"),
    "jsonpath": one_of('$."a b"[*]'),
    "int2vector": one_of("1 2 3"),
    "mood": one_of("ok", "it's", 'a "b", {c}'),
    "pair": one_of("(1,x)", '(,"a ""b"", c")'),
    "price": number,
}
TYPES: dict[str, Make] = {
    **SCALARS,
    **{
        f"{name}[]": array_of(make, ";" if name == "box" else ",")
        for name, make in SCALARS.items()
        if name != "int2vector"
    },
    "prices": array_of(number),
}


def random_columns(random: Random, types: list[str], count: int) -> dict[str, str]:
    """Names with all that is awkward in them, and their types."""
    names = ["plain", 'a"b', "per%cent", "{brace}", "Ä ö", "a.b", "select", "x'y", "back\\slash"]
    return {f"{random.choice(names)}{number}": random.choice(types) for number in range(count)}


def random_value(random: Random, type_name: str) -> str | None:
    return None if random.random() < 0.15 else TYPES[type_name](random)
