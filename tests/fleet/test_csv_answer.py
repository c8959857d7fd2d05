"""Tables as CSV files."""

from fleet.web.csv_answer import csv_answer


def test_neither_a_cell_nor_a_column_is_a_formula_to_a_spreadsheet():
    answer = csv_answer("power", ["time", "=1+1_watts"], [["@cmd", -2.5]])

    assert answer.content.decode().splitlines() == ["time,'=1+1_watts", "'@cmd,-2.5"]
