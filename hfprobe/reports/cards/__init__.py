"""Model cards: what a bank of probes or an encoder is, what it hears, and what one may do with it.

`facts` says what a card is made of, `measured` sorts the rows of result files, `number_tables` makes tables of them,
`metadata` the block that the Hub reads, `render` the text, and `validate` says what the Hub would refuse. Cards are
made of facts and result objects, never of a model.
"""

from hfprobe.reports.cards.facts import About, CardFacts, LayerFacts
from hfprobe.reports.cards.files import card_picture, check_encoder, load_results
from hfprobe.reports.cards.render import Sample, render_card, template_text
from hfprobe.reports.cards.validate import validate_card

__all__ = [
    "About",
    "CardFacts",
    "LayerFacts",
    "Sample",
    "card_picture",
    "check_encoder",
    "load_results",
    "render_card",
    "template_text",
    "validate_card",
]
