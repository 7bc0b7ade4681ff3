"""Numbers as people read them."""


def small_share(value: float) -> str:
    """A probability or threshold with three decimals, and one of less than 0.001 with its first digits.

    A network trained on few images of a rare finding gives it probabilities near 1e-6; as 0.000 neither the threshold
    nor what reaches it could be told.

    >>> small_share(0.2149), small_share(0.000012), small_share(0.0)
    ('0.215', '1.2e-05', '0.000')
    """
    return f"{value:.1e}" if 0 < value < 0.001 else f"{value:.3f}"
