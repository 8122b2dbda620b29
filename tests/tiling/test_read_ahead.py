import threading

import pytest

from tiling.read_ahead import ReadAhead


class Shelf:
    """Count what is read and not yet taken."""

    def __init__(self):
        self.read_keys, self.waiting, self.most = [], 0, 0
        self._lock = threading.Lock()

    def read(self, key):
        with self._lock:
            self.read_keys.append(key)
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        return key * 10

    def take(self):
        with self._lock:
            self.waiting -= 1


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("n_ahead", [0, 1, 3])
def test_values_come_in_order_and_no_more_than_allowed_wait(n_ahead, n_threads):
    shelf = Shelf()
    ahead = ReadAhead(shelf.read, n_ahead, n_threads)
    keys = list(range(40))
    for position, key in enumerate(keys):
        assert ahead.take(keys[position:]) == key * 10
        shelf.take()
    ahead.close()
    assert sorted(shelf.read_keys) == keys
    assert shelf.most <= n_ahead + 1


def test_an_error_is_raised_where_its_value_is_taken():
    def read(key):
        if key == 2:
            raise OSError("gone")
        return key

    ahead = ReadAhead(read, 2)
    assert ahead.take([1, 2, 3]) == 1
    with pytest.raises(OSError, match="gone"):
        ahead.take([2, 3])
    assert ahead.take([3]) == 3
    ahead.close()


def test_what_is_not_wanted_any_more_is_given_up():
    shelf = Shelf()
    ahead = ReadAhead(shelf.read, 2)
    ahead.take([1, 2, 3])
    assert ahead.take([7, 8]) == 70
    assert ahead.take([2]) == 20  # read again, or still there
    ahead.close()


def test_nothing_ahead_is_no_thread():
    before = threading.active_count()
    ahead: ReadAhead[int, threading.Thread] = ReadAhead(lambda _: threading.current_thread(), 0)
    assert ahead.take([1]) is threading.current_thread()
    assert threading.active_count() == before
    ahead.close()
