"""Separated text: every line is a row or is named, whatever quotes, encodings and separators there are."""

import time

import pytest

from hf_ser.data.separated import read_separated


@pytest.fixture
def read(tmp_path):
    def write_and_read(content: str | bytes, encoding: str = "utf-8"):
        file = tmp_path / "t.csv"
        file.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return read_separated(file)

    return write_and_read


def cells(table) -> list[list[str]]:
    return [row.cells for row in table.rows]


@pytest.mark.parametrize("separator", [",", "\t", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lone_quotes_swallow_no_rows(read, separator, end):
    lines = [
        "path|label|said",
        'a|sad|"Hello',
        "b|happy|x",
        'c|sad|"Bye" she said',
        'd|sad|5" screen',
        'e|sad|"Oh',
        "f|x|y",
    ]
    table = read(end.join(lines).replace("|", separator))
    assert cells(table) == [line.split("|") for line in lines[1:]]
    assert [row.line for row in table.rows] == [2, 3, 4, 5, 6, 7]
    assert [(found.kind, found.item) for found in table.findings] == [("lone_quote", "t.csv, line 2")]


def test_an_even_number_of_lone_quotes_in_a_tsv(read):
    table = read('path\tsaid\tlabel\na\t"Hello\tsad\nb\tx\thappy\nc\tBye"\tsad\n')
    assert cells(table) == [["a", '"Hello', "sad"], ["b", "x", "happy"], ["c", 'Bye"', "sad"]]


def test_what_could_be_one_row_or_several_is_refused_by_its_line(read):
    with pytest.raises(ValueError, match=r"^line 2: a cell begins with a quote, which line 4 closes.*a complete row"):
        read('path,label,said\na,sad,"Hello\nb,happy,x\nc,sad,Bye"\nd,sad,z\n')
    with pytest.raises(ValueError, match=r"^line 3: a cell begins with a quote, and the line has 4 cells where"):
        read('path,label,said\na,sad,x\nb,sad,"Hello, you" she said\n')


def test_quotes_as_the_rule_has_them(read):
    table = read(
        'path,label,said\na,sad,"He said ""no"", twice"\n"b" , "sad",""\nc,sad,"two\nlines, ""here"""\nd,sad,\n\n'
    )
    said = [['He said "no", twice'], [""], ['two\nlines, "here"'], [""]]
    assert [row.cells[2:] for row in table.rows] == said
    assert [row.line for row in table.rows] == [2, 3, 4, 6]
    assert [(found.kind, found.item) for found in table.findings] == [("row_of_several_lines", "t.csv, line 4")]


def test_other_line_separators_of_unicode_end_no_row(read):
    assert cells(read("path,said\na,x\u2028y\x0bz\nb,w\x85v\n")) == [["a", "x\u2028y\x0bz"], ["b", "w\x85v"]]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-8"])
def test_encodings_with_a_mark_and_the_first_line_of_excel(read, encoding):
    table = read("sep=;\r\npath;label\r\na;fröhlich, sehr\r\n", encoding)
    assert (table.header, cells(table), table.separator) == (["path", "label"], [["a", "fröhlich, sehr"]], ";")


def test_other_encodings_are_refused_with_the_line_and_the_remedy(read):
    with pytest.raises(
        ValueError, match=r"can't decode byte 0xf6.*in line 3, expected UTF-8.*'CSV UTF-8'.*iconv -f cp1252"
    ):
        read("path,label\na,sad\nb,fröhlich\n", "cp1252")
    with pytest.raises(ValueError, match=r"a zero byte in line 1, as in UTF-16 without a mark.*iconv -f utf-16le"):
        read("path,label\na,sad\n", "utf-16-le")
    with pytest.raises(ValueError, match="the file is empty"):
        read("\n \n")


def test_many_lone_quotes_take_no_longer_than_other_lines(read):
    started = time.process_time()
    table = read("path\tlabel\tsaid\n" + "".join(f'{n}\tsad\t"Well, {n}\n' for n in range(20_000)))
    assert len(table.rows) == 20_000
    assert time.process_time() - started < 10
