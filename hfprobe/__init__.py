"""hfprobe: hear, and measure, what every layer of a speech recogniser still carries."""

__version__ = "0.1.0"
