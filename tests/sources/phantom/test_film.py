"""The film: dense is white, few photons are grainy, scatter costs contrast."""

import numpy as np

from hilum.randomness import generator
from hilum.sources.phantom.canvas import Canvas
from hilum.sources.phantom.film import Exposure, draw_exposure, expose

PLAIN = Exposure(photons=1e6, scatter=0.0, gamma=1.0, black=0.2, white=99.0, focus=0.0)


def film(**changed) -> np.ndarray:
    canvas = Canvas(96)
    steps = np.repeat(np.linspace(0.5, 3, 8, dtype=np.float32), 12)
    return expose(canvas, np.tile(steps, (96, 1)), PLAIN._replace(**changed), generator(0, "film"))


def test_denser_is_whiter():
    columns = film().mean(axis=0)
    assert (np.diff(columns[6::12]) > 0).all()
    assert columns[-1] > 240


def test_fewer_photons_make_more_grain():
    assert film(photons=3000)[:, 50].std() > 3 * film(photons=1e6)[:, 50].std()


def test_portable_films_have_more_scatter_and_fewer_photons():
    draws = {
        kind: [draw_exposure(generator(0, "x", n), portable=kind) for n in range(50)]
        for kind in (True, False)
    }
    scatter = {kind: np.mean([one.scatter for one in exposures]) for kind, exposures in draws.items()}
    photons = {kind: np.mean([one.photons for one in exposures]) for kind, exposures in draws.items()}
    assert scatter[True] > 2 * scatter[False]
    assert photons[True] < photons[False] / 2


def test_scatter_hides_what_lies_in_dense_tissue():
    stripes = np.tile(np.repeat(np.array([0.5, 2.5], np.float32), 24), (96, 2))
    stripes[46:50] += 0.3

    def dense_over_thin(scatter: float) -> float:
        shown = expose(Canvas(96), stripes, PLAIN._replace(scatter=scatter), generator(0, "film"))
        detail = shown[47:49].mean(axis=0) - shown[30:40].mean(axis=0)
        return detail[30:42].mean() / detail[54:66].mean()

    assert dense_over_thin(1.0) < 0.7 * dense_over_thin(0.0)
