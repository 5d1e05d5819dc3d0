"""The file of prices: what it means, and what is said of every wrong key."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest

from bench import errors
from bench.errors import UsageError
from bench.prices import file as price_file
from bench.prices.file import Machine, Prices
from tests.checkout import ROOT

TERMS = "lifetime_years = 4\nutilisation = 0.5\npue = 1.4\npower_price_vnd_per_kwh = 2500\n"  # four lines
WHOLE = f'[defaults]\n{TERMS}[[machine]]\nmatch = "a"\nprice_vnd = 800_000_000\n'  # the machine is line 6


def loaded(tmp_path: Path, text: str) -> Prices:
    path = tmp_path / "prices.toml"
    path.write_text(text, encoding="utf-8")
    return price_file.load(path)


def test_a_machine_has_its_own_terms_and_else_the_defaults(tmp_path: Path) -> None:
    found = loaded(tmp_path, WHOLE + "pue = 1.2\n")
    assert found.currency == "VND"
    assert found.machines == (Machine(("a",), 800e6, 4.0, 0.5, 2500.0, 1.2),)
    assert found.vary == dict.fromkeys(("price", "lifetime", "utilisation", "power_price", "pue"), (0.5, 2.0))


def test_what_devices_share_is_divided_among_them(tmp_path: Path) -> None:
    more = "devices = 8\nyearly_cost_vnd = 80\nhost_power_w = 2400\npower_w = 650\n"
    (machine,) = loaded(tmp_path, WHOLE + more).machines
    assert (machine.price, machine.yearly_cost, machine.host_power_w, machine.power_w) == (100e6, 10.0, 300.0, 650)


def test_both_currencies_become_the_one_that_is_shown(tmp_path: Path) -> None:
    rate = "vnd_per_usd = 25_000\nvnd_per_usd_date = 2026-11-20\n"
    mixed = WHOLE.replace("price_vnd = 800_000_000", "price_usd = 32_000")
    in_vnd = loaded(tmp_path, f'currency = "VND"\n{rate}{mixed}')
    in_usd = loaded(tmp_path, f'currency = "USD"\n{rate}{mixed}')
    assert (in_vnd.machines[0].price, in_vnd.machines[0].power_price_per_kwh) == (800e6, 2500)
    assert (in_usd.machines[0].price, in_usd.machines[0].power_price_per_kwh) == (32_000, 0.1)
    assert (in_usd.vnd_per_usd, in_usd.vnd_per_usd_date) == (25_000, dt.date(2026, 11, 20))


def test_one_currency_needs_neither_a_rate_nor_a_name(tmp_path: Path) -> None:
    assert loaded(tmp_path, WHOLE.replace("_vnd", "_usd")).currency == "USD"


def test_a_machines_own_amount_counts_before_a_default_in_the_other_currency(tmp_path: Path) -> None:
    rate = 'currency = "VND"\nvnd_per_usd = 25_000\nvnd_per_usd_date = 2026-11-20\n'
    found = loaded(tmp_path, rate + WHOLE + "power_price_usd_per_kwh = 0.2\n")
    assert found.machines[0].power_price_per_kwh == 5000


def machine_of(tmp_path: Path, matches: str, side: str, nodes: list[str], devices: list[str]) -> str | None:
    lines = "".join(f"[[machine]]\nprice_vnd = 1\n{match}\n" for match in matches.split(";"))
    found = loaded(tmp_path, f"[defaults]\n{TERMS}{lines}").machine("cuda", side, nodes, devices)
    return None if found is None else found.match[0]


@pytest.mark.parametrize(
    ("matches", "expected"),
    [
        ('match = "side"', "side"),
        ('match = "node1";match = "side"', "side"),  # a side's own name counts first
        ('match = "*H100*";match = "node?"', "node?"),  # then its nodes'
        ('match = ["x", "*H100*"]', "x"),  # then its devices'
        ('match = "node1"', None),  # and node2?
        ('match = "node1";match = "node2"', None),  # two prices
        ('match = "*H100*";match = "other"', "*H100*"),  # a device without a price may be the CPU
        ('match = "*H100*"\nkind = "cpu"', None),
        ('match = "*H100*"\nkind = "cuda"', "*H100*"),
        ('match = "Side"', None),
    ],
)
def test_a_machine_is_found_by_side_then_nodes_then_devices(tmp_path: Path, matches: str, expected: str | None) -> None:
    assert machine_of(tmp_path, matches, "side", ["node1", "node2"], ["NVIDIA H100", "some CPU"]) == expected


def test_a_name_with_brackets_is_matched_as_it_is_written(tmp_path: Path) -> None:
    assert machine_of(tmp_path, 'match = "run [1]"', "run [1]", [], []) == "run [1]"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        # keys
        (WHOLE.replace("price_vnd =", "cost ="), 8, "'cost' is not a key here; there are: match, kind, price_vnd"),
        ("lifetime_years = 4\n" + WHOLE, 1, "'lifetime_years' is not a key here; there are: currency"),
        (WHOLE.replace("[defaults]", "[default]"), 1, "'default' is not a key here"),
        (WHOLE + "[vary]\nprices = [1, 2]\n", 10, "'prices' is not a key here; there are: price, lifetime"),
        ("[defaults]\n" + TERMS, 1, "'machine' is missing"),
        ("machine = [3]", 1, "'machine' is a list of tables: write [[machine]]"),
        (WHOLE + '[[machine]]\nmatch = "b"\n', 9, "'price_vnd or price_usd' is missing; give it here or under"),
        (WHOLE.replace("pue = 1.4\n", ""), 5, "'pue' is missing; give it here or under [defaults]"),
        (WHOLE.replace("lifetime_years = 4\n", ""), 5, "'lifetime_years' is missing"),
        (WHOLE.replace("power_price_vnd_per_kwh = 2500\n", ""), 5, "'power_price_vnd_per_kwh or power_price_usd_per"),
        (WHOLE.replace('match = "a"\n', ""), 6, "'match' names no side, node or device"),
        (WHOLE.replace('"a"', "[]"), 7, "'match' names no side, node or device"),
        (WHOLE.replace('"a"', '["a", 3]'), 7, "'match' names no side, node or device"),
        (WHOLE + "price_usd = 3\n", 9, "'price_usd' and 'price_vnd' say the same thing twice"),
        # types
        (WHOLE.replace("800_000_000", '"dear"'), 8, "'price_vnd' has a value of the wrong kind: 'dear'"),
        (WHOLE + "pue = true\n", 9, "'pue' has a value of the wrong kind: True"),
        (WHOLE + "devices = 8.0\n", 9, "'devices' has a value of the wrong kind: 8.0"),
        ('vnd_per_usd_date = "today"\n' + WHOLE, 1, "'vnd_per_usd_date' has a value of the wrong kind: 'today'"),
        ("vnd_per_usd_date = 2026-11-20T08:00:00\n" + WHOLE, 1, "'vnd_per_usd_date' has a value of the wrong kind"),
        # values
        (WHOLE.replace("800_000_000", "-1"), 8, "'price_vnd' is -1; it must be at least 0 and finite"),
        (WHOLE.replace("800_000_000", "nan"), 8, "'price_vnd' is nan"),
        (WHOLE.replace("800_000_000", "1" + "0" * 400), 8, "'price_vnd' is 10000000000000000000…"),
        (WHOLE.replace("pue = 1.4", "pue = 0.9"), 4, "'pue' is 0.9; it must be at least 1 and at most 10"),
        (WHOLE + "pue = inf\n", 9, "'pue' is inf; it must be at least 1 and at most 10"),
        (WHOLE.replace("0.5", "0"), 3, "'utilisation' is 0; it must be above 0 and at most 1"),
        (WHOLE.replace("0.5", "60"), 3, "'utilisation' is 60; it must be above 0 and at most 1"),
        (WHOLE + "devices = 0\n", 9, "'devices' is 0; it must be at least 1"),
        (WHOLE + 'kind = "gpu"\n', 9, "'kind' is 'gpu'; there are: cuda, cpu, fake"),
        ('currency = "EUR"\n' + WHOLE, 1, "'currency' is 'EUR'; there are: VND, USD"),
        (WHOLE + "[vary]\npue = [0.5, 0.9]\n", 10, "'pue' must be two factors around 1, such as [0.5, 2]"),
        (WHOLE + "[vary]\npue = [0.5, 2, 3]\n", 10, "'pue' must be two factors around 1"),
        (WHOLE + "[vary]\npue = [0, 2]\n", 10, "'pue' must be two factors around 1"),
        # currencies
        (WHOLE + "yearly_cost_usd = 3\n", 1, "'currency' is missing, and the file names both VND and USD"),
        ('currency = "USD"\n' + WHOLE, 1, "'vnd_per_usd' is missing, and both VND and USD are in use"),
        ('currency = "USD"\nvnd_per_usd = 26_000\n' + WHOLE, 2, "'vnd_per_usd_date' is missing"),
        ("vnd_per_usd = 0\n" + WHOLE, 1, "'vnd_per_usd' is 0; it must be above 0 and finite"),
        # TOML itself
        ("[defaults\npue = 1", 1, "Expected ']'"),
    ],
)
def test_what_is_wrong_is_said_with_file_line_and_key(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        loaded(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "prices.toml"))
    assert re.findall(r"line (\d+)", message)[0] == str(line), message
    assert words in message
    assert "\n" not in message
    assert caught.value.exit_code == errors.USAGE


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'currency = "\xe9"')
    for name, words in [("none.toml", "No such file"), ("latin.toml", "utf-8"), (".", "directory")]:
        with pytest.raises(UsageError, match=words) as caught:
            price_file.load(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert loaded(tmp_path, "\ufeff" + WHOLE).currency == "VND"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 5000, "nested too deep"),
        ("a = " + "9" * 5000, "4300 digits"),
        (WHOLE.replace("800_000_000", "0x" + "f" * 5000), "4300 digits"),
        (WHOLE + "[vary]\npue = [0.5, " + "9" * 400 + "]", "too large"),
    ],
    ids=["nested", "integer", "hexadecimal integer", "factor"],
)
def test_what_is_beyond_all_measure_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        loaded(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'prices.toml'}: ")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_the_example_of_the_documentation_is_one(tmp_path: Path) -> None:
    document = (ROOT / "docs" / "prices.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", document, flags=re.DOTALL)
    found = loaded(tmp_path, example)
    assert [machine.match for machine in found.machines] == [("vendor-a",), ("vendor-b",)]
    assert found.vary["power_price"] == (0.5, 3.0)


def test_the_documentation_has_every_key() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "prices.md").read_text(), flags=re.MULTILINE)
    documented = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    amounts = {amount.format(one) for amount in price_file._AMOUNTS for one in ("vnd", "usd")}
    expected = {"currency", "vnd_per_usd", "vnd_per_usd_date", "match", "kind", *amounts, *price_file._RANGES}
    assert documented == expected | set(price_file.ASSUMPTIONS)
