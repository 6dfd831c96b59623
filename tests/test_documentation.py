"""Every public name has a page of documentation that can be read on its own."""

import doctest
import inspect
import pydoc

import latprof


def members_of(value):
    """Yield the public methods and properties of a class, or nothing."""
    if inspect.isclass(value):
        for name, member in vars(value).items():
            if not name.startswith("_") and (
                inspect.isfunction(member) or isinstance(member, property)
            ):
                yield name, member


def test_every_public_name_has_documentation():
    for name in latprof.__all__:
        value = getattr(latprof, name)
        if name in ("__impl__", "__version__"):
            continue
        page = pydoc.plain(pydoc.render_doc(value, title="%s"))
        assert len(page.splitlines()) > 3, name
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        text = inspect.getdoc(value)
        assert text, f"latprof.{name} has no docstring"
        first = text.splitlines()[0]
        assert first.endswith("."), f"latprof.{name}: {first!r} is not a sentence"
        for member, function in members_of(value):
            assert inspect.getdoc(function), f"latprof.{name}.{member} has no docstring"


def test_docstrings_name_all_parameters_and_errors():
    for name in latprof.__all__:
        value = getattr(latprof, name)
        if not inspect.isfunction(value):
            continue
        text = inspect.getdoc(value)
        for parameter in inspect.signature(value).parameters:
            assert parameter in text, f"latprof.{name} does not document {parameter}"


def test_examples_can_be_copied():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(verbose=False)
    for name in latprof.__all__:
        value = getattr(latprof, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            for example in finder.find(value, f"latprof.{name}", globs={}):
                assert runner.run(example).failed == 0, example.name


def test_no_public_function_refers_to_another_for_its_parameters():
    for name in latprof.__all__:
        value = getattr(latprof, name)
        if inspect.isfunction(value) and value.__module__.startswith("latprof.queueing"):
            text = inspect.getdoc(value)
            assert "See `" not in text, name
            for title in ("Parameters", "Returns", "Raises"):
                assert f"{title}\n---" in text, (name, title)
