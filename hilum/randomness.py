"""Random numbers that depend on their purpose, not on when they are drawn.

Every draw comes from a counter-based generator (Philox; Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3"). Its key is the run's seed and a purpose, its counter an address such as
the epoch. So the numbers do not depend on the number of workers, devices or restarts.
"""

import hashlib

import numpy as np


def generator(seed: int, purpose: str, *address: int) -> np.random.Generator:
    """A generator whose stream depends only on its arguments.

    Args:
        seed: the run's seed, 0 or more.
        purpose: the use of the numbers, such as "split" or "augment"; each purpose has its own stream.
        address: up to two whole numbers >= 0, such as the epoch.

    >>> int(generator(7, "order", 1).integers(1000)) == int(generator(7, "order", 1).integers(1000))
    True
    """
    if len(address) > 2:
        raise ValueError("an address has at most two numbers")
    key = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:16]
    # The two low words count the draws, so streams of different addresses do not overlap.
    counter = [0, 0, *address, *([0] * (2 - len(address)))]
    return np.random.Generator(np.random.Philox(key=np.frombuffer(key, dtype=np.uint64), counter=counter))


def derived_seed(seed: int, purpose: str, *address: int) -> int:
    """A seed for the generator of a library such as torch, 0 <= value < 2**63."""
    return int(generator(seed, purpose, *address).integers(2**63))
