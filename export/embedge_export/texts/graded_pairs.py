"""Sentence pairs with a grade of how alike they mean, 5 for the same and 0 for nothing in common."""

from __future__ import annotations

import numpy as np

from embedge.types import FloatArray

GRADED_PAIRS: tuple[tuple[str, str, float], ...] = (
    ("A woman is slicing an onion.", "An onion is being sliced by a woman.", 5.0),
    ("The flight was cancelled because of fog.", "Fog caused the flight to be cancelled.", 5.0),
    ("He bought a second-hand car.", "He purchased a used car.", 5.0),
    ("The shop closes at six.", "At six o'clock the store shuts.", 4.8),
    ("My laptop does not start.", "My notebook computer won't boot.", 4.8),
    ("How do I change my password?", "What are the steps to update my password?", 4.8),
    ("The children are asleep.", "The kids are sleeping.", 5.0),
    ("She is a physician.", "She works as a doctor.", 4.8),
    ("Two dogs run along the beach.", "A pair of dogs is running on the beach.", 5.0),
    ("The river flooded the village.", "The village was under water after the river rose.", 4.5),
    ("The company fired a hundred workers.", "One hundred employees lost their jobs at the firm.", 4.5),
    ("The soup is too salty.", "There is too much salt in the soup.", 5.0),
    ("A man is playing the guitar on stage.", "A man is playing the guitar.", 4.0),
    ("The museum opens on Sunday mornings.", "The museum is open on Sundays.", 4.0),
    ("He ran ten kilometres in the rain.", "He went for a long run although it rained.", 4.0),
    ("Prices of bread rose by five percent.", "Bread has become more expensive.", 4.0),
    ("The old bridge was built of stone.", "The bridge is made of stone.", 4.0),
    ("The team won the final after extra time.", "The team won the championship match.", 4.0),
    ("The function returns a sorted copy.", "A new list in order is what the function gives back.", 4.2),
    ("The battery lasts about nine hours.", "You can use it for most of a day on one charge.", 3.8),
    ("Vaccines protect children from measles.", "Measles can be prevented by a vaccine.", 4.2),
    ("The train to Lyon leaves at noon.", "A train leaves for Lyon around midday.", 4.5),
    ("A girl is riding a brown horse.", "A girl is riding a white horse.", 3.5),
    ("The cat sleeps on the sofa.", "The cat is sitting on the sofa.", 3.2),
    ("He is cooking rice for dinner.", "He is cooking pasta for dinner.", 3.0),
    ("The meeting was moved to Tuesday.", "The meeting was moved to Friday.", 3.2),
    ("The president visited France.", "The president travelled to Spain.", 2.8),
    ("She speaks fluent Italian.", "She is learning Italian.", 3.0),
    ("The film was far too long.", "The film was boring.", 2.8),
    ("Heavy snow closed the mountain pass.", "Light snow fell on the mountain pass.", 2.8),
    ("The phone has a cracked screen.", "The phone has a new screen.", 2.5),
    ("The garden is full of roses.", "The garden is full of weeds.", 2.5),
    ("Interest rates were raised today.", "Interest rates were left unchanged today.", 2.5),
    ("The restaurant is cheap and good.", "The restaurant is good but expensive.", 2.8),
    ("A boy throws a ball to his dog.", "A boy catches a ball in the park.", 2.2),
    ("The file could not be opened.", "The file could not be deleted.", 2.5),
    ("Coffee keeps me awake at night.", "I drink tea in the evening.", 1.8),
    ("A bus is waiting at the stop.", "A taxi is parked in front of the station.", 1.5),
    ("The orchestra played Beethoven.", "The band played a love song.", 1.8),
    ("Bees make honey in the hive.", "Ants build their nest under the ground.", 1.5),
    ("The doctor prescribed antibiotics.", "The hospital hired three nurses.", 1.4),
    ("The sun sets behind the hills.", "The moon rises over the lake.", 1.6),
    ("He repaired the roof last summer.", "He painted the kitchen walls white.", 1.4),
    ("The bank lowered its fees.", "The bank was robbed on Monday.", 1.2),
    ("A sailor ties a rope to the mast.", "A climber checks her rope.", 1.4),
    ("The server ran out of memory.", "The website needs a new design.", 1.2),
    ("The court rejected the appeal.", "The police stopped a speeding driver.", 1.0),
    ("We planted apple trees in spring.", "Apple shares fell in the spring.", 0.5),
    ("The crane lifted the steel beam.", "A crane was standing in the shallow water.", 0.6),
    ("The bat flew out of the cave.", "He broke his bat in the last match.", 0.6),
    ("The recipe needs two eggs.", "The stock exchange opened lower.", 0.0),
    ("A violin has four strings.", "Concrete hardens within a month.", 0.0),
    ("The volcano erupted in 1883.", "My keyboard has no number pad.", 0.0),
    ("Penguins cannot fly.", "The invoice is due in thirty days.", 0.0),
    ("She knitted a red scarf.", "The algorithm runs in linear time.", 0.0),
    ("The glacier is melting quickly.", "He forgot the name of his teacher.", 0.0),
    ("Turn left at the traffic light.", "Vitamins are found in fresh fruit.", 0.0),
    ("The tenant signed the contract.", "Dolphins sleep with one eye open.", 0.0),
    ("The parser skips blank lines.", "Grandmother bakes a plum cake.", 0.0),
    ("The referee showed a red card.", "Copper conducts electricity well.", 0.0),
)


def spearman(a: FloatArray, b: FloatArray) -> float:
    """Rank correlation of two rows of numbers, tied ones sharing their mean rank; 0 where one does not vary."""
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return 0.0 if scale == 0.0 else min(1.0, float(x @ y) / scale)


def kendall(a: FloatArray, b: FloatArray) -> float:
    """Kendall's tau-b of two rows of numbers; 0 where one does not vary."""
    upper = np.triu_indices(len(a), 1)
    x, y = (np.sign(np.subtract.outer(row, row)[upper]) for row in (_float64(a), _float64(b)))
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return 0.0 if scale == 0.0 else float(x @ y) / scale


def _ranks(row: FloatArray) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    _, inverse, counts = np.unique(_float64(row), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def _float64(row: FloatArray) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(row, dtype=np.float64).ravel()
