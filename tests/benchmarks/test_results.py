"""Tables of benchmarks in RESULTS.md are replaced, and the rest of the text stays."""

from benchmarks.__main__ import TABLES, with_table


def test_a_table_is_added_at_the_end_and_then_replaced_in_place():
    before = "# Results\n\nText.\n"
    added = with_table(before, "latency", "| 1 |")
    assert added.startswith(before.rstrip())
    assert f"## {TABLES['latency']}\n" in added
    more = with_table(added, "memory", "| 2 |")
    replaced = with_table(more, "latency", r"| \1 |")
    assert replaced == more.replace("| 1 |", r"| \1 |")
