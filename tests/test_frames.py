import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from traces import NAMES, contents, mic, plain, rich

from latprof.frames import CAME_TWICE, FINISHED, MISSING, Columns, Labels


@given(st.lists(NAMES))
def test_labels_give_the_names_back(names):
    labels = Labels.encode(names)
    assert labels.to_numpy().tolist() == names
    assert len(labels) == len(names)
    assert len(set(labels.names)) == len(labels.names)


@given(st.lists(NAMES))
def test_labels_count_and_compare_like_a_list(names):
    labels = Labels.encode(names)
    assert labels.counts() == {name: names.count(name) for name in names}
    for name in [*names, None, "not there"]:
        assert labels.equals(name).tolist() == [other == name for other in names]


@given(st.lists(st.lists(NAMES), max_size=4))
def test_labels_concat_like_lists(parts):
    whole = Labels.concat([Labels.encode(part) for part in parts])
    assert whole.to_numpy().tolist() == [name for part in parts for name in part]
    assert len(set(whole.names)) == len(whole.names)


def test_labels_of_one_name():
    assert Labels.constant("a", 2).to_numpy().tolist() == ["a", "a"]
    assert Labels.constant(None, 2).to_numpy().tolist() == [None, None]
    assert Labels.constant("a", 0).counts() == {}


def test_take_takes_from_every_column():
    whole = rich(6).columns
    every_other = contents(whole.take(slice(None, None, 2)))
    assert every_other == {name: column[::2] for name, column in contents(whole).items()}
    mask = np.array([False, True, False, False, True, True])
    assert whole.take(mask).frame_id.tolist() == whole.frame_id[[1, 4, 5]].tolist()
    assert len(whole.take(slice(0, 0))) == 0


def test_take_keeps_what_is_complete():
    assert mic(3).columns.take(slice(1, 2)).complete == {"start", "decode", "play", "end"}
    # 7 rows from row 1 on: decode is missing in row 7 alone, end in none
    assert rich(8).columns.complete == {"start", "play"}


def test_finished():
    # every name but "finished" is a drop; a missing outcome is none
    columns = mic(4, outcome=["late", FINISHED, None, CAME_TWICE]).columns
    assert columns.finished().tolist() == [False, True, True, False]
    assert mic(4, outcome=FINISHED).columns.finished() is None
    assert mic(4).columns.finished() is None


def test_concat_gives_the_rows_of_all_parts():
    whole = rich(10).columns
    parts = [whole.take(slice(0, 4)), whole.take(slice(4, 4)), whole.take(slice(4, 10))]
    assert contents(Columns.concat(parts)) == contents(whole)


def test_concat_fills_columns_that_a_part_lacks():
    both = Columns.concat([mic(1).columns, rich(2).columns])
    found = contents(both)
    assert found["size"] == [2**32 - 1, 2**32 - 1, 1]
    assert found["source"] == [None, "a", "b"]
    assert found["cpu"] == [None, None, 1.5]
    assert found["rss"] == [0, 0, 4096]
    assert found["weight"] == [1, 1, 2]
    assert found["room"] == [None, "x", "y"]
    assert found["level"] == [None, 0, 0.125]
    assert found["heard"][0] == MISSING
    assert found["quiet"] == [None, "true", "false"]
    assert found["number"] == [None, -3, -2]


def test_concat_is_complete_where_all_parts_are():
    assert Columns.concat([mic(1).columns, rich(2).columns]).complete == {"start", "play"}


def test_concat_turns_a_tag_into_text_where_a_part_has_text():
    numbers = mic(2, tags={"room": [1, 2]}).columns
    names = mic(2, tags={"room": ["x", None]}).columns
    assert plain(Columns.concat([numbers, names]).tags["room"]) == ["1", "2", "x", None]
