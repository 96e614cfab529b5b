"""What hfprobe costs, measured side by side with how it would be done otherwise: ``hfprobe bench``.

Every figure is a median over rounds in which all contenders take their turn, so that a machine that gets busier slows
all of them. Beside each stands its floor: the arithmetic that cannot be left out at the machine's own matrix-product
peak, and the bytes that must move at its own memory bandwidth.

Contents:

- :mod:`hfprobe.bench.measure`: turns, clocks, medians and ratios.
- :mod:`hfprobe.bench.machine`: what the machine is, its peak and its bandwidth.
- :mod:`hfprobe.bench.floors`: arithmetic and bytes of what is measured.
- :mod:`hfprobe.bench.speech`: speech of given lengths, without any corpus.
- :mod:`hfprobe.bench.train`, ``encoders``, ``vocoder``, ``evaluate``, ``start``: the benchmarks.
- :mod:`hfprobe.bench.report`: Markdown and JSON.
"""
