"""Random draws addressed by what they are for, not by when they are made.

Every draw comes from a counter-based generator (Philox; Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3") keyed by the run's one seed and a purpose, with an address such as the
epoch in its counter. So nothing depends on how many workers, devices or restarts there were.
"""

import hashlib

import numpy as np


def generator(seed: int, purpose: str, *address: int) -> np.random.Generator:
    """A generator whose stream is a function of its arguments alone.

    Args:
        seed: the run's seed, 0 or more.
        purpose: what the draws are for, such as "split" or "augment"; separates the streams.
        address: up to two whole numbers >= 0, such as the epoch.

    >>> int(generator(7, "order", 1).integers(1000)) == int(generator(7, "order", 1).integers(1000))
    True
    """
    if len(address) > 2:
        raise ValueError("an address has at most two numbers")
    key = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:16]
    # The two low words count the draws themselves: streams of different addresses cannot meet.
    counter = [0, 0, *address, *([0] * (2 - len(address)))]
    return np.random.Generator(np.random.Philox(key=np.frombuffer(key, dtype=np.uint64), counter=counter))


def derived_seed(seed: int, purpose: str, *address: int) -> int:
    """A seed for a library's own generator (torch's, say), 0 <= value < 2**63."""
    return int(generator(seed, purpose, *address).integers(2**63))
