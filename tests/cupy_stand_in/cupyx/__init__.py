"""The little of cupyx that agnoreg uses, for the stand-in."""
