"""The words of the structural review corpus: two lexicons, `tiny` to validate code and `default` to study.

A template names its slots in capitals; everything else in it is a fixed word. `the A is I O .` becomes
"the plot is rather dull." All lists of a lexicon are disjoint from each other and from its fixed words, so
a text can be read back in one way only. Opinion words and topic nouns of `default` begin with a consonant
sound, because the article before them is always "a".

Axes: Z topics, A aspects, X ambiguous words.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WordLists = tuple[tuple[str, ...], ...]

TOPICS = ("drama", "comedy", "thriller", "horror", "romance", "documentary")
NUM_ASPECTS = 8
VERDICT = "overall , the A is I W ."


@dataclass(frozen=True, slots=True, eq=False)
class Lexicon:
    """Word lists, templates and the laws that depend on them.

    Every list is in order of falling frequency. The lists of a slot:

    ====  ========================  ======================================================
    slot  holds                     lists
    ====  ========================  ======================================================
    A     noun of an aspect         one an aspect
    Z     noun of the topic         one a topic; then a common one, if the lexicon has it
    I     intensifier               one
    V     verb                      negative, positive
    C     connective                one, in the order of the terse style
    F     filler                    one
    O     opinion word              negative, positive, neutral, ambiguous
    W     opinion of the verdict    negative, positive
    ====  ========================  ======================================================
    """

    templates: Mapping[str, tuple[float, float]]  # text: probability in terse, in chatty style
    lists: Mapping[str, WordLists]  # slot: its lists
    common_share: float  # probability that a topic noun comes from the common list
    aspect_ZA: NDArray[np.float64]  # law of a sentence's aspect
    ambiguous_ZX: NDArray[np.float64]  # law of the ambiguous words in praise


def _lists(block: str) -> WordLists:
    return tuple(tuple(line.split()) for line in block.strip().splitlines())


_VERDICT_WORDS = _lists("""
    disappointing forgettable mediocre underwhelming unconvincing frustrating exhausting regrettable
    satisfying memorable impressive enjoyable rewarding convincing touching admirable
""")


def tiny_lexicon() -> Lexicon:
    """The smallest lexicon with every kind of structure: 94 words without the verdict's."""
    aspect_ZA = np.random.default_rng(7).dirichlet(np.full(NUM_ASPECTS, 1.2), size=len(TOPICS))
    return Lexicon(
        templates={
            "the A is O .": (0.35, 0.10),
            "the A is I O .": (0.10, 0.25),
            "this A V .": (0.35, 0.10),
            "i found the A O .": (0.10, 0.20),
            "the A with the Z feels O .": (0.05, 0.20),
            "a O Z scene .": (0.05, 0.15),
        },
        lists={
            "A": _lists("""
                acting cast performance
                dialogue banter narration
                story plot script
                music score soundtrack
                pacing editing rhythm
                camera photography lighting
                ending finale twist
                direction staging design
            """),
            "Z": _lists("""
                funeral divorce courtroom hospital
                wedding prank roommate vacation
                chase heist bomb spy
                ghost basement monster mask
                kiss letter beach dance
                glacier factory whale reporter
            """),
            "I": _lists("very quite really rather"),
            "V": _lists("""
                drags fails stumbles disappoints
                works shines soars delights
            """),
            "O": _lists("""
                dull boring weak flat clumsy stale tired messy
                great brilliant warm fresh clever lovely moving sharp
                familiar modern serious casual
                unpredictable slow loud long
            """),
            "W": _VERDICT_WORDS,
        },
        common_share=0.0,
        aspect_ZA=0.8 * aspect_ZA + 0.2 / NUM_ASPECTS,
        ambiguous_ZX=np.array(
            [
                [0.10, 0.50, 0.10, 0.30],
                [0.40, 0.05, 0.50, 0.05],
                [0.60, 0.05, 0.20, 0.15],
                [0.40, 0.20, 0.30, 0.10],
                [0.10, 0.50, 0.10, 0.30],
                [0.10, 0.40, 0.10, 0.40],
            ]
        ),
    )


def default_lexicon() -> Lexicon:
    """The lexicon of the studies: 290 words with the verdict's."""
    topic_Z1 = np.arange(len(TOPICS))[:, None]
    preferred_ZA = (np.arange(NUM_ASPECTS) - topic_Z1) % NUM_ASPECTS
    praised_ZX = (np.arange(8) - topic_Z1) % 8
    return Lexicon(
        templates={
            "the A is O .": (0.25, 0.08),
            "the A is I O .": (0.10, 0.20),
            "this A V .": (0.30, 0.07),
            "i found the A I O .": (0.08, 0.20),
            "the A with the Z feels O .": (0.05, 0.15),
            "a O Z scene .": (0.12, 0.10),
            "C , the A V and the Z is O .": (0.02, 0.12),
            "there is a Z in it F .": (0.08, 0.08),
        },
        lists={
            "A": _lists("""
                acting cast performance ensemble lead delivery
                dialogue banter narration wordplay humor phrasing
                story plot script premise storyline writing
                music score soundtrack sound melody theme
                pacing editing rhythm tempo buildup momentum
                camera photography lighting cinematography framing color
                ending finale climax twist resolution conclusion
                direction staging setting design tone atmosphere
            """),
            "Z": _lists("""
                funeral divorce courtroom hospital trial farmhouse confession widow lawsuit reunion
                wedding prank roommate vacation neighbor barbecue costume sidekick disguise parade
                chase heist bomb spy hostage detective getaway conspiracy sniper briefcase
                ghost basement monster mask curse cabin graveyard vampire ritual doll
                kiss letter beach dance proposal bouquet sunset serenade picnic locket
                glacier factory whale reporter museum laboratory volcano satellite harvest harbor
                train kitchen phone car party garden dog storm bridge mirror restaurant secret
            """),
            "I": _lists("""
                very quite really rather truly fairly somewhat remarkably surprisingly genuinely
            """),
            "V": _lists("""
                drags fails stumbles disappoints bores sags \
                falters collapses fizzles grates flounders irritates
                works shines soars delights impresses sparkles \
                captivates lingers excels succeeds glows dazzles
            """),
            "C": _lists("""
                still then also besides instead meanwhile \
                moreover elsewhere honestly admittedly incidentally interestingly
            """),
            "F": _lists("""
                somewhere too anyway again early late midway halfway twice eventually briefly suddenly \
                afterwards apparently obviously somehow regardless unexpectedly inevitably occasionally \
                throughout naturally nearby finally
            """),
            "O": _lists("""
                dull boring weak flat clumsy stale tired messy bland hollow lazy shallow \
                tedious wooden forced pointless cheap careless lifeless muddled dreary feeble sloppy painful
                great brilliant warm fresh clever lovely moving sharp wonderful superb charming gripping \
                witty tender graceful vivid rich bold delightful gorgeous magical polished thoughtful radiant
                familiar modern serious casual traditional conventional formal typical \
                theatrical stylized muted straightforward
                slow talky loud bleak strange complicated raw sentimental
            """),
            "W": _VERDICT_WORDS,
        },
        common_share=0.2,
        aspect_ZA=np.where(np.isin(preferred_ZA, (0, 2)), 4.0, 1.0) / 14.0,
        ambiguous_ZX=np.where(np.isin(praised_ZX, (0, 1, 3)), 0.25, 0.05),
    )
