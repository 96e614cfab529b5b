"""Model cards: what a bank of probes or an encoder is, what it hears, and what one may do with it.

`facts` says what a card is made of, `measured` turns results into its tables, `metadata` into the block that the Hub
reads, `render` writes the text, `validate` says what the Hub would refuse. Cards are made of facts and result objects,
never of a model.
"""

from hfprobe.reports.cards.validate import validate_card

__all__ = ["validate_card"]
