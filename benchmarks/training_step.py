"""Times one training step of the bundled architecture with and without `keep_freed_memory`.

Each variant runs three times, in turn, in a separate process. Prints the medians and their ratio.

    python benchmarks/training_step.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys

MODEL = "supervised-resnet18w48-synthetic.fpn-synthetic"


def measure(keep: bool) -> float:
    """Median seconds of steps 2 to 6 (8 samples of 240 x 320; forward, backward, AdamW)."""
    import time

    import torch
    from torch.nn import functional as F

    import zoo
    from zoo.training.loop import keep_freed_memory

    if keep:
        keep_freed_memory()
    torch.manual_seed(0)
    model = zoo.create(MODEL).train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters())
    image = torch.randn(8, 3, 240, 320).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 19, (8, 240, 320))
    times = []
    for _ in range(6):
        start = time.perf_counter()
        logits = F.interpolate(model(image), size=(240, 320), mode="bilinear")
        F.cross_entropy(logits, labels).backward()
        optimiser.step()
        optimiser.zero_grad()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    if len(sys.argv) > 1:
        print(measure(sys.argv[1] == "keep"))
        return
    results: dict[str, list[float]] = {"keep": [], "default": []}
    for _ in range(3):
        for variant, values in results.items():
            output = subprocess.run([sys.executable, __file__, variant], capture_output=True, text=True, check=True)
            values.append(float(output.stdout.split()[-1]))
    medians = {variant: statistics.median(values) for variant, values in results.items()}
    for variant, seconds in medians.items():
        print(f"{variant:8} {seconds:.3f} s")
    print(f"default / keep: {medians['default'] / medians['keep']:.2f}")


if __name__ == "__main__":
    main()
