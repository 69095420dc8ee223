"""Recorded launches: a device that repeats many small steps without Python in between."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


class CudaRecorder:
    """Records launches as CUDA graphs.

    All that belongs to the steps runs on one stream other than the default one, as capture asks for: what runs on two
    would have to wait for itself, and libraries hold memory for each.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._stream = torch.cuda.Stream(device)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """What was launched before comes first, and what is launched after comes later."""
        usual = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            yield
        usual.wait_stream(self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """As a graph with memory of its own. The generator that dropout draws from is the graph's too: each replay
        draws from its seed and from where it is, and moves it on, as the kernels themselves would have.

        Raises:
            RuntimeError: something waits for the device, copies from the host's memory, or finds no room.
        """
        graph = torch.cuda.CUDAGraph()
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        seed, offset = generator.initial_seed(), generator.get_offset()
        try:
            # of this thread alone: others may go on to copy images to the device
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                work()
        except BaseException:
            graph.reset()
            fresh = torch.Generator(self.device)  # the old one's state may still count as being captured
            fresh.manual_seed(seed)
            fresh.set_offset(offset)
            generator.graphsafe_set_state(fresh)
            raise
        return graph.replay
