"""What PyTorch reaches on this machine's GPU, as anchors for the WebGPU suite: one JSON object on stdout.

Rates are operations (bytes for `copy`) a second of the fastest of several CUDA-timed series, after the card has worked
for half a second. usage: python3 torch-anchors.py [n ...]      (default 4096 8192)
"""
import json
import sys
import time

import torch
import torch.nn.functional as F


def best_seconds(work, series=10, length=10):
    start = time.time()
    while time.time() - start < 0.5:
        work()
        torch.cuda.synchronize()
    best = float("inf")
    for _ in range(series):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(length):
            work()
        end.record()
        torch.cuda.synchronize()
        best = min(best, begin.elapsed_time(end) / 1000 / length)
    return best


def attempt(found, name, amount, work):
    try:
        found[name] = amount / best_seconds(work)
    except Exception as error:  # an operation that this card or build does not have
        print(f"{name}: {str(error).splitlines()[0]}", file=sys.stderr)


def main():
    sizes = [int(text) for text in sys.argv[1:]] or [4096, 8192]
    found = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    torch.backends.cuda.matmul.allow_tf32 = False
    source = torch.empty(2**28, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    attempt(found, "copy", 2 * 2**30, lambda: target.copy_(source))
    del source, target
    for n in sizes:
        flops = 2 * n**3
        for name, dtype in (("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)):
            a, b = (torch.randn(n, n, device="cuda").to(dtype) for _ in range(2))
            attempt(found, f"{name}-{n}", flops, lambda: a @ b.T)
        a8, b8 = (torch.randint(-127, 127, (n, n), dtype=torch.int8, device="cuda") for _ in range(2))
        attempt(found, f"int8-{n}", flops, lambda: torch._int_mm(a8, b8.T))
        tokens, heads, dimension = n // 2, 16, 64
        q, k, v = (
            torch.randn(1, heads, tokens, dimension, device="cuda", dtype=torch.float16, requires_grad=True)
            for _ in range(3)
        )
        # causal: half of two products of T x T x D a head forward, of seven forward and backward
        unit = tokens * tokens * dimension * heads
        attempt(found, f"attention-{tokens}", 2 * unit, lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
        dy = torch.randn_like(q)

        def both():
            torch.autograd.grad(F.scaled_dot_product_attention(q, k, v, is_causal=True), (q, k, v), dy)

        attempt(found, f"attention-backward-{tokens}", 7 * unit, both)
    print(json.dumps(found))


main()
