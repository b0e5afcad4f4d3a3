"""The little of cupyx.scipy that agnoreg uses."""
