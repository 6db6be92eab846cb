from services.encoder.parking import ParkedHeaders


def parked(*headers: tuple[str, float, str], limits: tuple[int, int] = (100, 100)) -> ParkedHeaders[str]:
    line: ParkedHeaders[str] = ParkedHeaders(*limits)
    for header in headers:
        line.add(*header)
    return line


def drained(line: ParkedHeaders[str]) -> str:
    return "".join(line.pop() for _ in range(len(line)))


def test_an_ingress_with_one_header_waits_for_one_of_each_other():
    assert drained(parked(*[("a", 0, "a")] * 9, ("b", 0, "b"), *[("c", 0, "c")] * 2)) == "abcacaaaaaaa"


def test_an_ingress_that_comes_back_at_once_gets_its_turn_again():
    line = parked(*[("a", 0, "a")] * 9, ("b", 0, "b"))
    served = ""
    for _ in range(8):
        served += (header := line.pop())
        line.add(header, 0, header)
    assert served == "abababab"


def test_an_ingress_that_parks_again_after_a_turn_of_another_is_next():
    line = parked(*[("a", 0, "a")] * 9, ("b", 0, "b"))
    served = ""
    for _ in range(4):
        # The first is computed while the second is admitted, and only then its ingress parks the next.
        first = line.pop()
        second = line.pop()
        served += first + second
        line.add("b", 0, "b")
    assert served == "abababab"


def test_within_an_ingress_the_oldest_is_first_and_of_equals_the_first_that_came():
    assert drained(parked(("a", 3, "x"), ("a", 1, "y"), ("a", 1, "z"), ("a", 2, "w"))) == "yzwx"


def test_what_left_is_served_no_more():
    line = parked(("a", 0, "x"), ("a", 0, "y"), ("b", 0, "z"))
    line.discard("a", "x")
    line.discard("a", "x")
    line.discard("c", "x")
    assert len(line) == 2
    assert drained(line) == "yz"


def test_all_headers_of_an_ingress_can_be_taken_out():
    line = parked(("a", 2, "x"), ("b", 0, "y"), ("a", 1, "z"))
    assert line.pop_all("a") == [(1, "z"), (2, "x")]
    assert line.pop_all("c") == []
    assert drained(line) == "y"


def test_over_the_limit_of_an_ingress_its_newest_leaves():
    line = parked(("a", 1, "x"), ("a", 2, "y"), limits=(9, 2))
    assert line.pop_excess("a") is None
    line.add("a", 0, "z")
    assert line.pop_excess("a") == "y"
    assert drained(line) == "zx"


def test_over_the_limit_of_all_the_newest_of_the_ingress_with_most_leaves():
    line = parked(("a", 1, "x"), ("a", 2, "y"), ("b", 0, "z"), limits=(3, 9))
    line.add("c", 5, "w")
    assert line.pop_excess("c") == "y"
    line.add("a", 5, "v")
    assert line.pop_excess("a") == "v"
