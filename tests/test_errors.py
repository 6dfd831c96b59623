import inspect
import re

import pytest

from latprof import errors

TREE = {
    "PipelineError": ValueError,
    "TraceError": ValueError,
    "ProfileError": ValueError,
    "ProfilerError": ValueError,
    "DemoError": RuntimeError,
}


def test_docstring_draws_the_tree_of_the_classes():
    drawn = re.findall(r"^  x (\w+) \(also an? (\w+)\)", errors.__doc__, re.M)
    classes = [
        (name, cls.__bases__[1].__name__)
        for name, cls in vars(errors).items()
        if inspect.isclass(cls) and cls is not errors.LatprofError
    ]
    assert drawn == classes
    assert "* LatprofError\n" in errors.__doc__


@pytest.mark.parametrize("name", TREE)
def test_each_is_a_latprof_error_and_a_builtin(name):
    cls = getattr(errors, name)
    assert cls.__mro__[1:3] == (errors.LatprofError, TREE[name])
    with pytest.raises(TREE[name], match=r"^why$"):
        raise cls("why")


def test_base_is_no_builtin_error():
    assert errors.LatprofError.__bases__ == (Exception,)
    assert sorted(errors.__all__) == sorted([*TREE, "LatprofError"])
