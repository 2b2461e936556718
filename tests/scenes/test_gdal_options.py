"""GDAL's vector options: held as long as anyone wants them, and put back after the last."""

from __future__ import annotations

import threading

import pyogrio
from aftermap.scenes.gdal_options import vector_options

NAME = "OGR_CURRENT_DATE"


def test_an_option_holds_for_the_block_and_is_put_back() -> None:
    pyogrio.set_gdal_config_options({NAME: "1999"})
    try:
        with vector_options({NAME: "2000"}):
            assert pyogrio.get_gdal_config_option(NAME) == 2000
        assert pyogrio.get_gdal_config_option(NAME) == 1999
    finally:
        pyogrio.set_gdal_config_options({NAME: None})


def test_the_last_of_several_threads_puts_it_back() -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with vector_options({NAME: "2000"}):
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=hold)
    with vector_options({NAME: "2000"}):
        other.start()
        assert entered.wait(10)
    # Whoever came first has left; the other still writes.
    assert pyogrio.get_gdal_config_option(NAME) == 2000
    leave.set()
    other.join()
    assert pyogrio.get_gdal_config_option(NAME) is None


def test_an_error_puts_it_back_too() -> None:
    try:
        with vector_options({NAME: "2000"}):
            raise RuntimeError
    except RuntimeError:
        pass
    assert pyogrio.get_gdal_config_option(NAME) is None
