"""Tests of hilum.errors."""

from hilum.errors import HilumError, ImageError, nearest, without_worker_traceback


def test_an_image_error_has_a_code_and_a_remedy():
    error = ImageError("missing", "a.png is missing.", "Check root.")
    assert (error.code, str(error)) == ("missing", "a.png is missing. Check root.")
    assert str(ImageError("missing", "a.png is missing.")) == "a.png is missing."


def test_a_misspelt_name_gets_a_suggestion():
    assert nearest("Edem", ["Edema", "Mass"]) == " Did you mean 'Edema'?"
    assert nearest("Xyz", ["Edema", "Mass"]) == ""


def test_the_traceback_of_a_worker_is_removed():
    text = "Caught HilumError in DataLoader worker process 0.\nTraceback …\nhilum.errors.HilumError: a.png: damaged.\n"
    assert str(without_worker_traceback(HilumError(text))) == "a.png: damaged."
    assert str(without_worker_traceback(HilumError("a.png: damaged."))) == "a.png: damaged."
