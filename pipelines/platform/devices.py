"""Which device a stage computes on: see `inpformer.devices`."""

from inpformer.devices import best_device as best_device
from inpformer.devices import device_name as device_name
