"""What only an NVIDIA card does; `al/runtime.py` decides when, and nothing else here knows of devices."""
