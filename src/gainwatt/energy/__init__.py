"""Energy that can be defended: one meter for every stage.

    from gainwatt.energy import EnergyMeter

    meter = EnergyMeter(sample_hz=10.0, idle_s=3.0, rapl=True)
    meter.start()
    with meter.phase("load"):
        ...
    with meter.phase("generate", short_ok=False):
        ...
    meter.stop()
    block, phases = meter.summary(), meter.phases()
    meter.write_trace("trace.parquet")

`integrate` holds the arithmetic, `window` the rule that picks counter or integral, `protocol` the repetition of
short work until its number can be published. Importing this package imports the standard library only.
"""

from gainwatt.energy.meter import EnergyMeter
from gainwatt.energy.sync import cuda_synchronize

__all__ = ["EnergyMeter", "cuda_synchronize"]
