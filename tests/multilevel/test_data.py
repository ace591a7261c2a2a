"""Tables that people bring: what is read, and what is said of those that cannot be."""

import pytest
import torch

from poisonlab.multilevel import data
from poisonlab.multilevel.data import TableError, diabetes, read_table, split


def test_separators_names_and_target() -> None:
    raw = b'\xef\xbb\xbf"first one"; second ;third\r\n1;2.5;-3e1\r\n\r\n4;5;6\r\n'

    table = read_table(raw, "../../etc/passwd\x00", target="second")

    assert table.features == ("first one", "third") and table.target == "second"
    assert table.x.tolist() == [[1.0, -30.0], [4.0, 6.0]] and table.y.tolist() == [2.5, 5.0]
    assert table.name == "../../etc/passwd"  # words for people, never a path


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "the file is empty"),
        (b"a,b\n", "no row below"),
        (b"1,2\n3,4\n", "first line holds numbers"),
        (b"a,b\n1,\n", "line 2, column 'b' has no value: fill it in"),
        (b"a,b\n1,2\n3,NaN\n", "line 3, column 'b' has no value"),
        (b"a,b\n1,2\n3,red\n", "line 3, column 'b' holds 'red', not a number"),
        (b"a,b\n1,inf\n", "line 2, column 'b' holds inf, allowed is"),
        (b"a,b\n1,1_0\n", "not a number"),
        (b"a,b\n1,2,3\n", "line 2 has 3 values, the header names 2"),
        (b"a,a\n1,2\n", "names are unique"),
        (b"a,\n1,2\n", "names are unique, 1 to 60"),
        (b"a,b\n1,2\n1,3\n", "column 'a' has the same value in every row"),
        (b"a\n1\n", "1 columns, allowed are 2 to 31"),
        (",".join(f"c{i}" for i in range(40)).encode() + b"\n", "40 columns"),
        (b"\xff\xfe\x00a", "not text in UTF-8"),
        (b'a,b\n"1,2\n', "is not CSV"),
    ],
)
def test_a_table_that_cannot_be_used_is_explained(raw: bytes, expected: str) -> None:
    with pytest.raises(TableError, match=expected):
        read_table(raw, "mine.csv")


def test_sizes_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TableError, match="at most 2,097,152 are read"):
        read_table(b"a" * (data.MAX_BYTES + 1), "mine.csv")
    monkeypatch.setattr(data, "MAX_ROWS", 2)
    with pytest.raises(TableError, match="3 rows, at most 2"):
        read_table(b"a,b\n1,2\n3,4\n5,6\n", "mine.csv")


def test_unknown_target_and_too_few_rows_name_what_there_is() -> None:
    with pytest.raises(TableError, match="there is: a, b"):
        read_table(b"a,b\n1,2\n3,4\n", "mine.csv", target="c")
    with pytest.raises(TableError, match="has 2 rows; 40 to train on and 100 to validate on"):
        split(read_table(b"a,b\n1,2\n3,4\n", "mine.csv"), 40, 100, 2)


def test_splits_share_no_row_and_are_standardised_without_the_test_rows() -> None:
    table = diabetes()

    parts = split(table, 40, 100, 3)
    again = split(table, 40, 100, 2)

    seen = torch.cat([parts.x, parts.x_validation], 1)
    torch.testing.assert_close(seen.mean(1), torch.zeros(3, 10, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(seen.std(1, correction=0), torch.ones(3, 10, dtype=torch.float64))
    assert parts.x_test.shape == (3, 302, 10) and parts.x_test.mean().abs() > 1e-4
    everything = torch.cat([seen, parts.x_test], 1)[0]
    assert len(everything.unique(dim=0)) == 442
    assert torch.equal(parts.x[:2], again.x)  # a seed's split does not depend on how many there are
