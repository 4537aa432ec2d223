"""What waiting OpenMP threads do to training when other processes are busy: the same steps with the default, where a
waiting thread spins, and with OMP_WAIT_POLICY=PASSIVE, which the command sets, in alternation.

    python benchmarks/bench_threads.py [--busy 3] [--steps 20] [--output data/results/threads.json]

--busy starts so many processes that do nothing but compute, and ends them; 0 measures a machine left alone. What else
runs is in the load average."""
import argparse
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

from ragcun.core import write_json

STEPS = """
import json, sys, time
import torch
torch.set_num_threads(2)
torch.manual_seed(0)
head = torch.nn.Sequential(torch.nn.Linear(384, 384), torch.nn.Tanh(), torch.nn.Linear(384, 384))
x, optimizer = torch.randn(256, 384), torch.optim.AdamW(head.parameters())
def step():
    z = head(x)
    loss = (z @ z.T).logsumexp(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
for _ in range(3): step()
wall, cpu = time.perf_counter(), time.process_time()
for _ in range(int(sys.argv[1])): step()
print(json.dumps([round(time.perf_counter() - wall, 2), round(time.process_time() - cpu, 2)]))
"""


def spin():
    while True: pass


def measure(steps, policy):
    "Seconds on the wall and of the processor."
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")}
    env |= {"OMP_WAIT_POLICY": policy} if policy else {}
    command = [sys.executable, "-c", STEPS, str(steps)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--output", type=Path, default="data/results/threads.json")
    args = parser.parse_args()
    others = [multiprocessing.Process(target=spin, daemon=True) for _ in range(args.busy)]
    for p in others: p.start()
    try:
        rows = [{"policy": policy or "default", "wall": wall, "cpu": cpu}
                for _ in range(2) for policy in ("", "PASSIVE") for wall, cpu in [measure(args.steps, policy)]]
    finally:
        for p in others: p.terminate()
    for row in rows: print(row)
    write_json(args.output, {"command": "python benchmarks/bench_threads.py", "steps": args.steps, "busy": args.busy,
                             "threads": 2, "cores": os.cpu_count(), "load": [round(v, 1) for v in os.getloadavg()],
                             "rows": rows})


if __name__ == "__main__":
    main()
