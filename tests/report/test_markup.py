import pytest

from videoanalysis.report.markup import Markup, element, joined


def test_text_is_escaped_wherever_it_stands():
    hostile = "<script>\"'&"
    assert element("p", hostile, title=hostile) == (
        '<p title="&lt;script&gt;&#34;&#39;&amp;">&lt;script&gt;&#34;&#39;&amp;</p>'
    )


def test_markup_is_not_escaped_twice():
    assert element("p", element("b", "&"), "&") == "<p><b>&amp;</b>&amp;</p>"
    assert joined([Markup("<i></i>"), "<"]) == "<i></i>&lt;"


@pytest.mark.parametrize(
    ("attributes", "written"),
    [
        ({"class_": "a"}, ' class="a"'),
        ({"aria_hidden": "true"}, ' aria-hidden="true"'),
        ({"viewBox": "0 0 1 1"}, ' viewBox="0 0 1 1"'),
        ({"name": "n"}, ' name="n"'),
        ({"open": True}, " open"),
        ({"open": False, "title": None}, ""),
        ({"x": 0}, ' x="0"'),
        ({"x": ""}, ' x=""'),
    ],
)
def test_attributes(attributes, written):
    assert element("i", **attributes) == f"<i{written}></i>"


def test_what_holds_nothing_is_not_closed():
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_what_is_made_is_markup():
    assert isinstance(element("p"), Markup)
    assert isinstance(joined(["a"]), Markup)
